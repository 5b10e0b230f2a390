"""Where a bundle's data come from: per origin its licence, DOI, patients and a digest of what was used."""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from training.data.sample import Sample
from training.settings import Origin

SHIPPED = Path(__file__).parent / "configs" / "sources.toml"


@dataclass(frozen=True, kw_only=True, order=True)
class Seen:
    """A sample that something learnt from: SHA-256 of its arrays (`digest`) and of what is told of it (`told`)."""

    patient: str
    name: str
    source: str
    digest: str
    told: str

    @classmethod
    def of(cls, sample: Sample) -> "Seen":
        """Return what is to be known of a sample without its arrays."""
        return cls(
            patient=sample.patient or sample.name,
            name=sample.name,
            source=sample.source,
            digest=sample.digest(),
            told=hashlib.sha256(json.dumps(sample.facts(), sort_keys=True).encode()).hexdigest(),
        )


@dataclass(frozen=True, kw_only=True)
class Used:
    """What a bundle used of an origin, and for what; `digest` is the SHA-256 over its samples in order of name."""

    use: str
    origin: Origin
    patients: int
    samples: int
    digest: str


def digest_of(samples: Iterable[Sample]) -> str:
    """Return the SHA-256 over samples and what is told of them, in whatever order they come."""
    seen = sorted(Seen.of(sample) for sample in samples)
    return hashlib.sha256(json.dumps([asdict(one) for one in seen]).encode()).hexdigest()


def origins(extra: Sequence[Origin] = ()) -> tuple[Origin, ...]:
    """Return the origins on record, the run's own first."""
    document = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    return (*extra, *TypeAdapter(tuple[Origin, ...]).validate_python(document["sources"]))


def provenance(samples: Mapping[str, Iterable[Sample | Seen]], known: Sequence[Origin]) -> tuple[Used, ...]:
    """Return what was used, by use (train, tune, ...) and origin.

    Raises:
        ValueError: a sample's source is not on record; a bundle of unknown licence cannot be sealed.
    """
    found: dict[tuple[str, Origin], list[Seen]] = {}
    for use, members in samples.items():
        for member in members:
            seen = member if isinstance(member, Seen) else Seen.of(member)
            found.setdefault((use, _origin(seen.source, known)), []).append(seen)
    return tuple(
        Used(
            use=use,
            origin=origin,
            patients=len({one.patient for one in seen}),
            samples=len(seen),
            digest=_digest(seen),
        )
        for (use, origin), seen in found.items()
    )


def _digest(seen: Iterable[Seen]) -> str:
    ordered = sorted((one.name, one.patient, one.digest) for one in seen)
    return hashlib.sha256("\n".join(f"{digest}  {name}" for name, _, digest in ordered).encode()).hexdigest()


def _origin(source: str, known: Sequence[Origin]) -> Origin:
    for origin in known:
        if source.casefold().startswith(origin.prefix.casefold()):
            return origin
    raise ValueError(
        f'the source "{source}" has no licence on record; add [[sources]] with prefix, name, licence and doi to the '
        "settings"
    )
