"""The whole of reading: source series to findings, outline and uncertainty maps on the source grid."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from daemon.domain.decision import RawNumbers, decide
from daemon.domain.model_bundle import BundleRef, InstalledBundle
from daemon.domain.provider import Provider
from daemon.domain.reasons import Reason
from daemon.errors import FatalError, UnprocessableError
from daemon.imaging.lesions import Maps, measure
from daemon.imaging.reading import Reading
from daemon.imaging.steps import prepare, to_grid
from daemon.imaging.volume import Grid, Volume
from daemon.inference.agreement import check
from daemon.inference.bundle import Bundle, load_bundle
from daemon.inference.mc_dropout import CELL, Inference, binary_entropy, infer, volume_entropy
from daemon.inference.provider import ProviderError, need
from daemon.inference.session import Model

LOGGER = logging.getLogger(__name__)


def read_study(volumes: Mapping[str, Volume], model: Model, key: str, passes: int | None = None) -> Reading:
    """Read `volumes` (by channel role, in the recipe's units) with `model`.

    Args:
        volumes: MR, or PET in SUVbw g/ml and CT in HU.
        model: the loaded bundle.
        key: study UID and bundle digest; the same key gives the same answer.
        passes: number of MC passes; the bundle's own where None, 0 for one pass without dropout.

    Raises:
        UnprocessableError: a voxel is infinite or undefined, or `infer` cannot work with the study.
    """
    _check_finite(volumes)
    calibration = model.manifest.calibration
    reference = volumes[model.manifest.recipe.channels[0].role]
    started = time.perf_counter()
    prepared = prepare(volumes, model.manifest.recipe)
    ready = time.perf_counter()
    raw = infer(model, prepared, key, passes)
    inferred = time.perf_counter()
    probability, sd = (to_grid(m, prepared.grid, reference.grid) for m in (raw.probability, raw.sd))
    suv = reference.voxels if "PET" in volumes else None
    maps = Maps(probability=probability, sd=sd, suv=suv)
    lesions, labels = measure(maps, reference.grid, calibration.mask_threshold, calibration.min_lesion_ml)
    measures = replace(numbers(raw, calibration.mask_threshold), novelty=model.novelty(raw.embedding))
    findings = replace(decide(measures, lesions, calibration), provider=model.engine.provider)
    if not findings.lesions:
        labels = np.zeros_like(labels)
    measured = time.perf_counter()
    return Reading(
        findings=findings,
        labels=labels,
        probability=probability,
        sd=sd,
        activation=_coarse(raw.cam, prepared.grid),
        find_entropy=partial(_seen_entropy, raw.probability, prepared.grid, reference.grid),
        seconds={"prepare": ready - started, "infer": inferred - ready, "measure": measured - inferred},
    )


def _seen_entropy(probability: NDArray[np.float32], model: Grid, target: Grid) -> NDArray[np.float32]:
    return to_grid(volume_entropy(probability), model, target)


def _check_finite(volumes: Mapping[str, Volume]) -> None:
    """Refuse what is no number: INT8 graphs make an ordinary number of it, and of that an answer."""
    for role, volume in volumes.items():
        if not all(np.isfinite(plane).all() for plane in volume.voxels):
            raise UnprocessableError(
                Reason.MODEL,
                f"voxels of the {role} are infinite or undefined; check the values, rescale slope and intercept",
            )


def _coarse(cam: NDArray[np.float32], grid: Grid) -> Volume:
    """Return the activation map in its place: its voxels are squares of `CELL` x `CELL` of the model's."""
    x, y, z = grid.points(np.array([[0, (CELL - 1) / 2, (CELL - 1) / 2]]))[0]
    spacing = (grid.spacing[0], grid.spacing[1] * CELL, grid.spacing[2] * CELL)
    size = (cam.shape[0], cam.shape[1], cam.shape[2])
    return Volume(voxels=cam, grid=replace(grid, size=size, spacing=spacing, origin=(float(x), float(y), float(z))))


def numbers(raw: Inference, mask_threshold: float) -> RawNumbers:
    """Return what decisions need of an inference.

    The entropy score is the mean predictive entropy of the outlined voxels in units of ln 2, 0 with nothing outlined.
    """
    outlined = raw.probability >= mask_threshold
    score = float(binary_entropy(raw.probability[outlined]).mean() / np.log(2)) if outlined.any() else 0.0
    return RawNumbers(tumour_logits=raw.tumour_logits, risks=raw.risks, entropy_score=min(score, 1.0), seed=raw.seed)


class BundleReader:
    """Reads with installed bundles on one provider; a bundle's graphs are loaded when first needed and stay.

    `pace` is called again and again during a read, and may raise to break it off.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle],
        *,
        threads: int,
        passes: int | None = None,
        provider: Provider = Provider.CPU,
        pace: Callable[[], None] = lambda: None,
    ) -> None:
        """Hold what to read with.

        Raises:
            ProviderError: `provider` is not installed.
        """
        need(provider)
        self._provider = provider
        self._bundles = {bundle.ref: bundle for bundle in bundles}
        self._models: dict[BundleRef, Model] = {}
        self._threads = threads
        self._passes = passes
        self._pace = pace

    def bundles(self) -> tuple[InstalledBundle, ...]:
        """Return what can be read with."""
        return tuple(InstalledBundle(ref=ref, manifest=b.manifest) for ref, b in self._bundles.items())

    def warm(self) -> None:
        """Load every bundle, so that the first study waits for none; what cannot be loaded is told at its job.

        Raises:
            ProviderError: one cannot be run on the provider, or gives other answers there.
        """
        for ref, bundle in self._bundles.items():
            with suppress(UnprocessableError):
                self._models.setdefault(ref, self._load(bundle))
        LOGGER.info("%d of %d models loaded on %s", len(self._models), len(self._bundles), self._provider)

    def read(self, ref: BundleRef, volumes: Mapping[str, Volume], study_uid: str, passes: int | None = None) -> Reading:
        """Read `volumes` with the bundle `ref`; the same study, bundle and `passes` give the same answer.

        Raises:
            UnprocessableError: that bundle is not installed (any more), was damaged since the start, or is refused on
                the provider.
        """
        if ref not in self._bundles:
            raise UnprocessableError(
                Reason.MODEL, f"bundle {ref.name} {ref.version} is not installed; install it and retry the job"
            )
        try:
            model = self._models.get(ref) or self._models.setdefault(ref, self._load(self._bundles[ref]))
        except ProviderError as error:
            raise UnprocessableError(Reason.MODEL, f"{error}; restart, retry the job") from error
        return read_study(volumes, model, f"{study_uid} {ref.digest}", self._passes if passes is None else passes)

    def _load(self, bundle: Bundle) -> Model:
        """Load a bundle that must still be the one that was there at the start, which may be weeks ago."""
        try:
            again = load_bundle(bundle.path)
            model = Model(again, threads=self._threads, provider=self._provider, pace=self._pace)
            check(model)
        except ProviderError:
            raise
        except (FatalError, OSError) as error:
            raise UnprocessableError(
                Reason.MODEL, f"bundle {bundle.ref.name} cannot be loaded ({error}); mend it, restart, retry the job"
            ) from error
        if again.ref != bundle.ref:
            raise UnprocessableError(
                Reason.MODEL, f"bundle {bundle.ref.name} is another than at the start; restart, then retry the job"
            )
        return model
