"""Corrected outlines that come back from the PACS become training samples.

A SEG of another manufacturer than ours is a correction; the newest of a series counts. What cannot be used is refused
by its UID alone: neither file names nor messages hold patient data.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
from highdicom.seg import Segmentation
from numpy.typing import NDArray

from daemon.domain.model_bundle import Manifest, Recipe, Target
from daemon.domain.selection import choose
from daemon.errors import RefusedError, UnprocessableError
from daemon.imaging.read import read_series
from daemon.imaging.steps import prepare, to_grid
from daemon.imaging.suv import in_units
from daemon.imaging.volume import Grid, Vector, Volume
from training.data.readers.dicom import facts
from training.data.readers.study import demand_depth, placed
from training.data.sample import Sample
from training.field.inbox import Inbox, Outline, Series, look

MODALITIES = {"MR": "MR", "PET": "PT", "CT": "CT"}
# From here on a correction changed nothing that matters.
CONFIRMED = 0.99
SHORTEST_SALT = 16


class RefusedOutline(ValueError):  # noqa: N818  # a refusal is an outcome that the harvest reports, not a failure
    """An outline that is no sample; the message says why, by UIDs."""


@dataclass(frozen=True, kw_only=True)
class Harvested:
    """A sample by name; `dice` between our outline and the correction where ours came along; `ml` of tumour."""

    name: str
    dice: float | None
    ml: float


@dataclass(frozen=True, kw_only=True)
class Harvest:
    """What came of a folder: samples, refused SEGs by UID with the reason, and how many were replaced by newer ones."""

    samples: tuple[Harvested, ...]
    refused: Mapping[str, str]
    superseded: int


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The model that the samples are for, and the secret that hides patients."""

    manifest: Manifest
    salt: bytes


def harvest(folder: Path, wanted: Wanted, out: Path) -> Harvest:
    """Write a sample for every corrected series below `folder` to `out`.

    Raises:
        FileNotFoundError: there is no DICOM file.
        ValueError: the salt is too short to hide anything.
    """
    if len(wanted.salt) < SHORTEST_SALT:
        raise ValueError(f"the salt has {len(wanted.salt)} bytes; use at least {SHORTEST_SALT}, and keep them secret")
    inbox = look(folder)
    recipe = wanted.manifest.recipe
    ours = {_reference(o, inbox, recipe, {}): o for o in inbox.outlines if o.ours}
    refused: dict[str, str] = {}
    newest: dict[str, Outline] = {}
    corrections = [o for o in inbox.outlines if not o.ours]
    for outline in corrections:
        uid = _reference(outline, inbox, recipe, refused)
        if uid:
            newest[uid] = outline
    samples = []
    for uid, outline in newest.items():
        try:
            sample, dice = _sample(inbox, outline, ours.get(uid), wanted)
        except (RefusedOutline, RefusedError, UnprocessableError) as error:
            refused[outline.uid] = str(error)
            continue
        sample.save(out)
        voxel_ml = float(np.prod(sample.spacing)) / 1000
        ml = 0.0 if sample.mask is None else float(sample.mask.sum()) * voxel_ml
        samples.append(Harvested(name=sample.name, dice=dice, ml=ml))
    superseded = len(corrections) - len(refused) - len(samples)
    return Harvest(samples=tuple(samples), refused=refused, superseded=superseded)


def _reference(outline: Outline, inbox: Inbox, recipe: Recipe, refused: dict[str, str]) -> str:
    """Return the UID of the outlined series, or nothing and why in `refused`."""
    wanted = MODALITIES[recipe.channels[0].role]
    for uid, instances in outline.sources.items():
        found = inbox.series.get(uid)
        if found is None or found.modality != wanted:
            continue
        if instances <= set(found.files):
            return uid
        lacking = len(instances - set(found.files))
        refused[outline.uid] = f"{lacking} instances of its source series {uid} are not here; export the whole series"
        return ""
    named = ", ".join(outline.sources) or "none named"
    refused[outline.uid] = f"its source series ({named}) is not here as {wanted}; export it beside the SEG"
    return ""


def _sample(inbox: Inbox, outline: Outline, ours: Outline | None, wanted: Wanted) -> tuple[Sample, float | None]:
    recipe, target = wanted.manifest.recipe, wanted.manifest.target
    reference = inbox.series[_reference(outline, inbox, recipe, {})]
    sources = {role: read_series(paths) for role, paths in _chosen(reference, inbox, wanted.manifest).items()}
    main = sources[recipe.channels[0].role]
    ready = prepare({role: in_units(role, source) for role, source in sources.items()}, recipe)
    drawn = outlined(outline, target)
    try:
        demand_depth(ready, recipe)
        mask = placed(drawn, ready.grid)
    except ValueError as error:
        raise RefusedOutline(f"series {reference.uid}: {error}") from error
    dice = None if ours is None else _agreement(outlined(ours, target), drawn, main.volume.grid)
    patient = _hidden(wanted.salt, str(main.header.get("PatientID", "")), str(main.header.get("IssuerOfPatientID", "")))
    sample = Sample(
        name=f"harvest-{patient}-{_hidden(wanted.salt, reference.uid)[:8]}",
        source=f"harvest {reference.modality}",
        image=ready.array.astype(np.float16),
        mask=mask,
        tumour=int(drawn.voxels.any()),
        spacing=recipe.spacing,
        patient=patient,
        strata=() if dice is None else ("confirmed" if dice >= CONFIRMED else "corrected",),
    )
    return sample, dice


def _chosen(reference: Series, inbox: Inbox, manifest: Manifest) -> dict[str, list[Path]]:
    """Return by role the files of the outlined series and of those that the daemon would read beside it.

    Raises:
        RefusedOutline: the daemon would not read it.
        RefusedError: a file's header cannot be read.
    """
    others = {MODALITIES[c.role] for c in manifest.recipe.channels} - {reference.modality}
    near = [s for s in inbox.series.values() if s.study == reference.study and s.modality in others]
    paths = {uid: path for series in (reference, *near) for uid, path in series.files.items()}
    choice = choose([facts(path) for path in paths.values()], [manifest])
    if choice.refusal is not None:
        raise RefusedOutline(f"the daemon would not read its source series {reference.uid}: {choice.refusal.detail}")
    (chosen,) = choice.chosen
    return {role: [paths[i.sop_instance_uid] for i in found.instances] for role, found in chosen.series.items()}


def outlined(outline: Outline, target: Target) -> Volume:
    """Return a segmentation's tumour (0 or 1) on its own grid.

    A single segment is taken as it is; of several, those of the target's type or category.

    Raises:
        RefusedOutline: none of several segments is a tumour, or the frames cannot be placed in the patient.
    """
    try:
        seg = hd.seg.segread(outline.path)
        volume = seg.get_volume(segment_numbers=_tumours(seg, target), combine_segments=False)
    except RefusedOutline:
        raise
    except Exception as error:
        # highdicom raises what its many checks raise; all of it means that the frames are no volume.
        raise RefusedOutline("its frames cannot be placed in the patient; export it again") from error
    voxels = np.asarray(volume.array, dtype=np.float32).max(axis=-1)
    first, second, third = (_vector(v) for v in volume.unit_vectors())
    grid = Grid(
        size=(voxels.shape[0], voxels.shape[1], voxels.shape[2]),
        spacing=_vector(volume.spacing),
        origin=_vector(volume.position),
        axes=(first, second, third),
    )
    return Volume(voxels=(voxels >= 0.5).astype(np.float32), grid=grid)


def _tumours(seg: Segmentation, target: Target) -> list[int]:
    if len(seg.SegmentSequence) == 1:
        return [int(seg.SegmentSequence[0].SegmentNumber)]
    codes = {target.type[:2], target.category[:2]}
    found = [
        int(item.SegmentNumber)
        for item in seg.SegmentSequence
        for code in (
            item.SegmentedPropertyTypeCodeSequence[0],
            item.SegmentedPropertyCategoryCodeSequence[0],
        )
        if (str(code.CodeValue), str(code.CodingSchemeDesignator)) in codes
    ]
    if not found:
        raise RefusedOutline("none of its segments is coded as the tumour that the bundle outlines")
    return sorted(set(found))


def _agreement(ours: Volume, drawn: Volume, grid: Grid) -> float:
    """Return Dice on the source grid; 1 where both are empty."""
    a, b = (to_grid(v.voxels, v.grid, grid) > 0.5 for v in (ours, drawn))
    both = float(a.sum() + b.sum())
    return 2 * float((a & b).sum()) / both if both else 1.0


def _hidden(salt: bytes, *parts: str) -> str:
    """Return 12 hex digits that tell patients apart and cannot be turned back without the salt."""
    return hmac.new(salt, "\0".join(parts).encode(), hashlib.sha256).hexdigest()[:12]


def _vector(values: NDArray[np.float64] | tuple[float, ...]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])
