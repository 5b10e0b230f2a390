"""Assemble: from received instances to jobs, or to the reason why there is none."""

import logging
from collections.abc import Callable
from datetime import datetime

from daemon.clock import Clock
from daemon.domain.assembly import Choice, Chosen, Patience, Refusal, StudyFacts, judge, next_look
from daemon.domain.handling import NO_RULES, HandlingRules, handling
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import InstalledBundle
from daemon.domain.reasons import Reason
from daemon.domain.selection import choose
from daemon.errors import OverreadError
from daemon.services.faults import Point, reach
from daemon.services.ports import Jobs

LOGGER = logging.getLogger(__name__)
# A part of a study, cut off where the limit was, is nothing to read.
_OVERSIZE = Choice(
    chosen=(),
    refusal=Refusal(
        reason=Reason.STUDY_TOO_LARGE,
        detail="more than listener.max_study_instances or max_study_mb; raise that, then have the study sent again",
    ),
)


class Assemble:
    """Looks at every study with news."""

    def __init__(
        self,
        jobs: Jobs,
        bundles: Callable[[], tuple[InstalledBundle, ...]],
        clock: Clock,
        patience: Patience,
        rules: HandlingRules = NO_RULES,
    ) -> None:
        self._jobs = jobs
        self._bundles = bundles
        self._clock = clock
        self._patience = patience
        self._rules = rules
        self._next: datetime | None = None

    def step(self) -> int:
        """Settle every study that is ready; return how many. One that cannot be judged holds no other."""
        studies, now = self._jobs.waiting_studies(), self._clock.now()
        left = [study for study in studies if not self._attempt(study)]
        looks = (next_look(study, now, self._patience) for study in left)
        self._next = min((look for look in looks if look), default=None)
        return len(studies) - len(left)

    def within(self, seconds: float) -> float:
        """Return in how many seconds a study of the last step may be ready by time alone, `seconds` at most."""
        if self._next is None:
            return seconds
        return min(seconds, (self._next - self._clock.now()).total_seconds())

    def _attempt(self, study: StudyFacts) -> bool:
        try:
            return self._consider(study)
        except OverreadError as error:
            # The study stays marked as having news and is looked at again.
            LOGGER.warning("study %s cannot be judged now: %s", study.study_instance_uid, error)
            return False
        except Exception as error:
            # The edge of the loop: it would meet the same error for ever. What comes of the study later is judged anew.
            LOGGER.exception("study %s could not be judged", study.study_instance_uid)
            odd = Refusal(reason=Reason.UNKNOWN, detail=f"{type(error).__name__}; see the worker's log")
            return self._jobs.settle(study, [], odd, self._clock.now())

    def _consider(self, study: StudyFacts) -> bool:
        now = self._clock.now()
        completeness = judge(study, now, self._patience)
        self._jobs.note_verdict(study, completeness)
        if not completeness.ready:
            return False
        installed = self._bundles()
        choice = _OVERSIZE if study.oversize else choose(study.instances, [b.manifest for b in installed])
        refs = {b.manifest.name: b.ref for b in installed}
        planned = [(self._job_input(study, chosen), refs[chosen.bundle]) for chosen in choice.chosen]
        settled = self._jobs.settle(study, planned, choice.refusal, now)
        reach(Point.STUDY_SETTLED)
        if settled:
            reason = choice.refusal.reason.value if choice.refusal else f"{len(planned)} jobs"
            LOGGER.info("study %s settled: %s, %s", study.study_instance_uid, completeness.verdict.value, reason)
        return settled

    def _job_input(self, study: StudyFacts, chosen: Chosen) -> JobInput:
        return JobInput(
            study_instance_uid=study.study_instance_uid,
            series={role: series.series_instance_uid for role, series in chosen.series.items()},
            instance_digests=tuple(sorted(i.digest for series in chosen.series.values() for i in series.instances)),
            unread=chosen.unread,
            handling=handling(study, chosen, self._rules),
        )
