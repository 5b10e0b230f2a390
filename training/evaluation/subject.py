"""What is evaluated: a sealed bundle, its bundle.toml, or a bare calibration."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from daemon.domain.model_bundle import Calibration, Manifest
from daemon.errors import FatalError
from daemon.inference.bundle import load_bundle
from training.evaluation.values import Subject


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A model's calibration and what is known of the model."""

    calibration: Calibration
    subject: Subject


def load_subject(path: Path) -> Calibrated:
    """Return what is at `path`: a bundle's folder (digests checked), a bundle.toml, or a TOML of a calibration alone.

    Raises:
        ValueError: nothing of the kind is there, or it is damaged.
    """
    if path.is_dir():
        try:
            bundle = load_bundle(path)
        except FatalError as error:
            raise ValueError(str(error)) from error
        return _of_manifest(bundle.manifest, bundle.ref.digest)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; name a bundle's folder, a bundle.toml or a calibration's TOML")
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        if "recipe" in document:
            return _of_manifest(Manifest.parse(document), "")
        calibration = TypeAdapter(Calibration).validate_python(document.get("calibration", document))
    except (ValidationError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} is neither a bundle.toml nor a calibration: {error}") from error
    return Calibrated(calibration=calibration, subject=_subject(calibration, path.stem))


def _of_manifest(manifest: Manifest, digest: str) -> Calibrated:
    eligibility = manifest.eligibility
    reads = "/".join(eligibility.modalities)
    if eligibility.sequences:
        reads += f" ({', '.join(eligibility.sequences)})"
    subject = _subject(manifest.calibration, manifest.name).model_copy(
        update={
            "version": manifest.version,
            "title": manifest.title,
            "digest": digest,
            "reads": reads,
            "passes": manifest.dropout.passes,
            "members": len(manifest.members),
            "quantisation": manifest.quantisation,
        }
    )
    return Calibrated(calibration=manifest.calibration, subject=subject)


def _subject(calibration: Calibration, name: str) -> Subject:
    return Subject(
        name=name,
        version="",
        title=name,
        digest="",
        reads="",
        passes=None,
        quantisation="",
        threshold=calibration.threshold,
        mask_threshold=calibration.mask_threshold,
        min_lesion_ml=calibration.min_lesion_ml,
    )
