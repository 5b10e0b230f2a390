"""Where a bundle's data come from: per origin its licence, DOI, patients and a digest of what was used."""

import hashlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from training.data.sample import Sample
from training.settings import Origin

SHIPPED = Path(__file__).parent / "configs" / "sources.toml"


@dataclass(frozen=True, kw_only=True)
class Used:
    """What a bundle used of an origin, and for what; `digest` is the SHA-256 over its samples in order of name."""

    use: str
    origin: Origin
    patients: int
    samples: int
    digest: str


def origins(extra: Sequence[Origin] = ()) -> tuple[Origin, ...]:
    """Return the origins on record, the run's own first."""
    document = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    return (*extra, *TypeAdapter(tuple[Origin, ...]).validate_python(document["sources"]))


def provenance(samples: Mapping[str, Iterable[Sample]], known: Sequence[Origin]) -> tuple[Used, ...]:
    """Return what was used, by use (train, tune, ...) and origin.

    Raises:
        ValueError: a sample's source is not on record; a bundle of unknown licence cannot be sealed.
    """
    found: dict[tuple[str, Origin], list[tuple[str, str, str]]] = {}
    for use, members in samples.items():
        for sample in members:
            facts = (sample.name, sample.patient or sample.name, sample.digest())
            found.setdefault((use, _origin(sample.source, known)), []).append(facts)
    return tuple(
        Used(
            use=use,
            origin=origin,
            patients=len({patient for _, patient, _ in facts}),
            samples=len(facts),
            digest=hashlib.sha256("\n".join(f"{d}  {n}" for n, _, d in sorted(facts)).encode()).hexdigest(),
        )
        for (use, origin), facts in found.items()
    )


def _origin(source: str, known: Sequence[Origin]) -> Origin:
    for origin in known:
        if source.casefold().startswith(origin.prefix.casefold()):
            return origin
    raise ValueError(
        f'the source "{source}" has no licence on record; add [[sources]] with prefix, name, licence and doi to the '
        "settings"
    )
