"""What other bundles said of a study's answers, for its page."""

from collections.abc import Sequence
from dataclasses import dataclass

from daemon.domain.finding import Findings
from daemon.domain.second import SecondState, takes
from daemon.errors import OverreadError
from daemon.inference.bundle import Bundle
from daemon.ledger.queries import JobView
from daemon.ledger.rows import findings_of
from daemon.ledger.seconds import Seconds, SecondView
from daemon.web.console import Console


@dataclass(frozen=True, kw_only=True)
class SecondRead:
    """A second read and what it found, None where there is nothing."""

    view: SecondView
    findings: Findings | None

    @property
    def volume_ml(self) -> float:
        """Return the volume of all its lesions."""
        return sum(lesion.volume_ml for lesion in self.findings.lesions) if self.findings else 0.0


@dataclass(frozen=True, kw_only=True)
class Beside:
    """The second reads of a job, and the bundles that it can still be read with."""

    reads: tuple[SecondRead, ...]
    choices: tuple[Bundle, ...]


def beside(console: Console, jobs: Sequence[JobView]) -> dict[int, Beside]:
    """Return what there is beside each job."""
    views = Seconds(console.house.engine).of_jobs([job.id for job in jobs])
    bundles = others(console)
    found = {}
    for job in jobs:
        mine = [view for view in views if view.job_id == job.id]
        spent = {job.bundle_digest, *(view.bundle_digest for view in mine if view.state != SecondState.FAILED)}
        found[job.id] = Beside(
            reads=tuple(SecondRead(view=view, findings=findings_of(view.findings)) for view in mine),
            choices=tuple(b for b in bundles if takes(b.manifest, job.series) and b.ref.digest not in spent),
        )
    return found


def others(console: Console) -> Sequence[Bundle]:
    """Return the bundles that can read beside; none where one is damaged, which the models' page tells."""
    try:
        return console.others.bundles()
    except OverreadError:
        return ()
