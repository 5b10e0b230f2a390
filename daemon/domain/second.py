"""Second reads: what another bundle says of a study that has its answer; to compare, and nothing of it is sent."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from daemon.domain.feedback import Outline
from daemon.domain.finding import Findings
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef, InstalledBundle, Manifest

# Who asks for the reads that the settings order.
SHADOW = "shadow"


class SecondState(StrEnum):
    """Where a second read stands."""

    SCHEDULED = "SCHEDULED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


@dataclass(frozen=True, kw_only=True)
class SecondTask:
    """A second read in a worker's hands, for the `attempts`th time; `outline` is the answer's own SEG, if any."""

    id: int
    job_id: int
    input: JobInput
    bundle: BundleRef
    attempts: int
    outline: Outline | None


@dataclass(frozen=True, kw_only=True)
class SecondOutcome:
    """What a second read gave: findings, or why there are none in `detail`.

    `dice` is between the outlines of the answer and of this read; None where neither has one, or where the answer's is
    gone, which `detail` says.
    """

    findings: Findings | None = None
    dice: float | None = None
    detail: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def state(self) -> SecondState:
        """Return how it stands now."""
        return SecondState.FAILED if self.findings is None else SecondState.COMPLETED


def takes(manifest: Manifest, roles: Iterable[str]) -> bool:
    """Return whether a bundle reads just what another read, by channel roles: MR, or PET and CT."""
    return {channel.role for channel in manifest.recipe.channels} == set(roles)


def beside(shadows: Sequence[InstalledBundle], roles: Iterable[str], first: BundleRef) -> tuple[BundleRef, ...]:
    """Return which of the bundles in shadow read a study after `first` has answered it."""
    wanted = set(roles)
    return tuple(one.ref for one in shadows if takes(one.manifest, wanted) and one.ref.digest != first.digest)
