"""Inquire: what the archive lists of a study, before it counts as complete, and what lacks, fetched from there."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from daemon.clock import Clock
from daemon.domain.assembly import Patience, Retrieval, StudyFacts, to_ask
from daemon.domain.delivery import Destination
from daemon.domain.evidence import Source, Wanted
from daemon.errors import OverreadError, RefusedError
from daemon.services.ports import Archive, Inquiries, Jobs

LOGGER = logging.getLogger(__name__)
# Longer than any question takes: what did not end by then was cut off, and is asked anew.
UNDER_WAY = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Archives:
    """The network, the destinations of now by name, and which of them is the archive."""

    network: Archive
    destinations: Callable[[], Mapping[str, Destination]]
    name: str


class Inquire:
    """Asks about every study whose quiet time is over; whatever comes of it, the study is judged after that."""

    def __init__(self, jobs: Jobs, inquiries: Inquiries, archives: Archives, clock: Clock, patience: Patience) -> None:
        self._jobs = jobs
        self._inquiries = inquiries
        self._archives = archives
        self._clock = clock
        self._patience = patience

    def step(self) -> int:
        """Ask about every study that is due; return how many."""
        return sum(self._consider(study) for study in self._jobs.waiting_studies())

    def _consider(self, study: StudyFacts) -> bool:
        now = self._clock.now()
        if not to_ask(study, now, self._patience) or not self._inquiries.begin(study, now, now + UNDER_WAY):
            return False
        uid = study.study_instance_uid
        try:
            said = self._ask(study)
        except OverreadError as error:
            said = f"no answer: {error}"
        except Exception as error:
            # The edge of the loop: the study goes on without the archive's word.
            LOGGER.exception("study %s could not be asked about", uid)
            said = f"no answer: {type(error).__name__}; see the log"
        detail = f"archive {self._archives.name}: {said}"
        LOGGER.info("study %s asked about: %s", uid, detail)
        self._inquiries.ended(uid, detail, self._clock.now() + self._patience.quiet)
        return True

    def _ask(self, study: StudyFacts) -> str:
        name, uid = self._archives.name, study.study_instance_uid
        destination = self._archives.destinations().get(name)
        if destination is None or destination.url:
            raise RefusedError(f"no DICOM node of that name is a destination; correct assembly.archive ({name})")
        series = frozenset(i.series_instance_uid for i in study.instances)
        wanted = Wanted(study_instance_uid=uid, series=series, modality=study.counterpart)
        answer = self._archives.network.listed(destination, wanted)
        self._inquiries.answered(uid, answer, self._clock.now())
        others = tuple(listing for listing in study.listings if listing.source is not Source.ARCHIVE)
        known = replace(study, listings=(*others, *answer))
        listed = sum(len(listing.sop_instance_uids) for listing in answer)
        said = f"lists {listed} instances of {len(answer)} series"
        return f"{said}; {self._fetched(destination, known)}" if known.missing and self._fetches else said

    @property
    def _fetches(self) -> bool:
        return self._patience.asking is not None and self._patience.asking.retrieve is not Retrieval.OFF

    def _fetched(self, destination: Destination, study: StudyFacts) -> str:
        """Have what lacks sent to us; return in words what came of it."""
        total = sum(map(len, study.missing.values()))
        try:
            fetched = self._archives.network.fetch(destination, study.study_instance_uid, study.missing)
        except OverreadError as error:
            return f"{total} missing, not fetched: {error}"
        why = f": {fetched.fault}" if fetched.fault else ""
        return f"{fetched.sent} of {total} missing fetched{why}"
