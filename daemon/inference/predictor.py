"""Reads images that people bring, outside of any study in the ledger; nothing of them is kept.

docs/predict.md has an example.
"""

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from daemon import __version__
from daemon.clock import SystemClock
from daemon.domain.assembly import Chosen
from daemon.domain.finding import Findings
from daemon.domain.model_bundle import InstalledBundle
from daemon.domain.selection import choose
from daemon.errors import OverreadError, RefusedError, UnprocessableError
from daemon.imaging.brought import Kind, kind_of, laid_back, read_nifti, read_picture
from daemon.imaging.read import SourceSeries, read_series
from daemon.imaging.reading import Reading
from daemon.imaging.studies import StudyFiles, grouped
from daemon.imaging.suv import in_units
from daemon.imaging.volume import Volume
from daemon.imaging.zipped import Bounds, unpack
from daemon.inference.reader import BundleReader
from daemon.results.context import ResultContext
from daemon.results.picture import key_slices
from daemon.results.sentence import conclusion
from daemon.results.snapshots import Sight, Snapshot, snapshots


class Mode(StrEnum):
    """How much is worked out: one pass without dropout, or the bundle's passes for uncertainty and activation."""

    SINGLE = "single"
    FULL = "full"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of an image.

    `model` is a bundle's name; empty, the image decides. `pixel_spacing_mm` is the distance of neighbouring pixels of a
    PNG or JPEG, the same both ways; None where nobody knows it. Other files say it themselves.
    """

    model: str = ""
    pixel_spacing_mm: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a bundle says of an image; everything on the grid of `context.source`.

    Below the bundle's threshold nothing is outlined: `reading` then has neither lesions nor labels, and `withheld` says
    why. `mask` (slices, rows, columns), or (rows, columns) of a picture, lies as the file's voxels do. `scaled` tells
    whether mm mean anything. `study` is the Study Instance UID of DICOM, empty for all else.
    """

    kind: Kind
    digest: str
    mode: Mode
    context: ResultContext
    reading: Reading
    assumptions: tuple[str, ...]
    scaled: bool
    orientation: str = ""
    study: str = ""

    @property
    def findings(self) -> Findings:
        """Return the numbers."""
        return self.reading.findings

    @property
    def sentence(self) -> str:
        """Return the answer in words; one pass says nothing of how sure the model is."""
        return conclusion(self.findings, sure=self.mode is Mode.FULL, measured=not self.kind.flat)

    @property
    def mask(self) -> NDArray[np.uint8] | None:
        """Return the outline, 1 inside; None where there is none."""
        if not self.findings.lesions:
            return None
        mask = (self.reading.labels > 0).astype(np.uint8)
        if self.kind.flat:
            return np.asarray(mask[self.key_slice])
        return laid_back(mask, self.context.source.volume.grid, self.orientation) if self.orientation else mask

    @property
    def withheld(self) -> str:
        """Return why there is no outline, empty where there is one."""
        threshold = self.context.bundle.manifest.calibration.threshold
        if self.findings.lesions:
            return ""
        if self.findings.tumour_probability.mean < threshold:
            return f"The tumour probability is below the model's threshold, {threshold:.3f}."
        return "No region is distinct and large enough to be outlined."

    @property
    def key_slice(self) -> int:
        """Return the slice to look at, counted from 0."""
        return len(self.reading.labels) // 2 if self.kind.flat else key_slices(self.reading, 1)[0].index

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Return pictures of the key slice."""
        sight = Sight(index=self.key_slice, placed=not self.kind.flat, whole=self.mode is Mode.FULL)
        return snapshots(self.context, self.reading, sight)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Input:
    """An image as a bundle takes it: `sources` by role, and the `key` that masks are drawn from.

    That is the study's UID, as in the daemon, or else the voxels' digest, whatever file they came in.
    """

    bundle: InstalledBundle
    sources: dict[str, SourceSeries]
    key: str
    assumptions: tuple[str, ...]
    unread: tuple[str, ...] = ()
    orientation: str = ""
    study: str = ""


class Predictor:
    """Reads one image, or many; the same image, model and mode give the same answer to the bit."""

    def __init__(self, reader: BundleReader, scratch: Path | None = None, *, research_use: bool = True) -> None:
        """Hold the models; temporary files go into the folder `scratch`, or where the system has them."""
        self._reader = reader
        self._scratch = scratch
        self._research_use = research_use

    def single(self, image: Path, asked: Asked | None = None) -> Prediction:
        """Read an image by one pass without dropout: fastest, and without any word of how sure the model is.

        Raises:
            RefusedError: the file cannot be read, or is not what was asked for.
            UnprocessableError: no model reads such images, or one cannot work with this.
        """
        return self._predict(image, asked or Asked(), Mode.SINGLE)

    def full(self, image: Path, asked: Asked | None = None) -> Prediction:
        """Read an image by the bundle's MC-dropout passes, as the daemon does; raises what `single` does."""
        return self._predict(image, asked or Asked(), Mode.FULL)

    def batch(self, images: Iterable[Path], asked: Asked | None = None) -> list[Prediction | OverreadError]:
        """Read each image by one pass; one that cannot be read has its error in its place."""
        return [self._or_error(image, asked) for image in images]

    def _or_error(self, image: Path, asked: Asked | None) -> Prediction | OverreadError:
        try:
            return self.single(image, asked)
        except (RefusedError, UnprocessableError) as error:
            return error

    def _predict(self, image: Path, asked: Asked, mode: Mode) -> Prediction:
        kind = kind_of(image)
        with image.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if asked.pixel_spacing_mm is not None and not kind.flat:
            raise RefusedError("a pixel spacing is for PNG and JPEG; this file has its own")
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            given = self._given(kind, image, asked, Path(folder))
            reading = self._read(given, mode)
        roles = [channel.role for channel in given.bundle.manifest.recipe.channels]
        context = ResultContext(
            job_key=digest,
            created_at=SystemClock().now(),
            source=given.sources[roles[0]],
            others=tuple(given.sources[role] for role in roles[1:]),
            bundle=given.bundle,
            findings=reading.findings,
            unread=given.unread,
            research_use=self._research_use,
            software_version=__version__,
        )
        return Prediction(
            kind=kind, digest=digest, mode=mode, context=context, reading=reading, assumptions=given.assumptions,
            scaled=not kind.flat or asked.pixel_spacing_mm is not None, orientation=given.orientation,
            study=given.study,
        )  # fmt: skip

    def _read(self, given: _Input, mode: Mode) -> Reading:
        volumes: dict[str, Volume] = {role: in_units(role, source) for role, source in given.sources.items()}
        passes = 0 if mode is Mode.SINGLE else None
        reading = self._reader.read(given.bundle.ref, volumes, given.key, passes)
        if reading.findings.tumour_probability.mean >= given.bundle.manifest.calibration.threshold:
            return reading
        bare = replace(reading.findings, lesions=(), volume_ml=None)
        return replace(reading, findings=bare, labels=np.zeros_like(reading.labels))

    def _given(self, kind: Kind, image: Path, asked: Asked, folder: Path) -> _Input:
        bundles = self._bundles(asked.model)
        if kind is Kind.ZIP:
            return _of_zip(image, bundles, folder)
        alone = [b for b in bundles if [c.role for c in b.manifest.recipe.channels] == ["MR"]]
        if not alone:
            raise RefusedError("PET/CT takes two images: upload a zip with the DICOM files of the PET and of its CT")
        bundle = alone[0]
        recipe = bundle.manifest.recipe
        if kind.flat:
            found = read_picture(image, recipe.neighbours, recipe.spacing[0], asked.pixel_spacing_mm)
        else:
            found = read_nifti(image, kind, folder)
        orientation = "" if kind.flat else found.orientation
        return _Input(
            bundle=bundle,
            sources={"MR": found.source},
            key=hashlib.sha256(found.source.volume.voxels.data).hexdigest(),
            assumptions=found.assumptions,
            orientation=orientation,
        )

    def _bundles(self, model: str) -> list[InstalledBundle]:
        installed = self._reader.bundles()
        found = [bundle for bundle in installed if model in ("", bundle.ref.name)]
        if not found:
            raise RefusedError(f"there is no such model; there are {', '.join(b.ref.name for b in installed)}")
        return found


def _of_zip(image: Path, bundles: list[InstalledBundle], folder: Path) -> _Input:
    studies, unreadable = grouped(unpack(image, folder, Bounds()))
    if len(studies) != 1:
        what = f"DICOM files of {len(studies)} studies; zip those of one" if studies else "no DICOM file"
        raise RefusedError(f"the zip holds {what}")
    study = studies[0]
    chosen = _chosen(study, bundles)
    bundle = next(b for b in bundles if b.manifest.name == chosen.bundle)
    others = (f"Left out of the zip, being no DICOM instance: {unreadable}.",) if unreadable else ()
    return _Input(
        bundle=bundle,
        sources={role: read_series(study.paths(series)) for role, series in chosen.series.items()},
        key=study.uid,
        assumptions=others,
        unread=chosen.unread,
        study=study.uid,
    )


def _chosen(study: StudyFiles, bundles: list[InstalledBundle]) -> Chosen:
    choice = choose(study.instances, [bundle.manifest for bundle in bundles])
    if choice.refusal:
        raise UnprocessableError(choice.refusal.reason.value, choice.refusal.detail)
    return choice.chosen[0]
