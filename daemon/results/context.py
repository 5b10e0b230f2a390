"""What all objects of one job share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset

from daemon import uids
from daemon.domain.finding import Findings
from daemon.domain.instance import Instance, by_series, in_words
from daemon.domain.model_bundle import BundleRef, InstalledBundle
from daemon.domain.provider import Provider
from daemon.domain.reasons import REPORTED, SENTENCES, Reason
from daemon.domain.references import Reference
from daemon.imaging.read import SourceSeries
from daemon.uids import Role

MANUFACTURER = "Overread"
MODEL_NAME = "Overread"
SEGMENTATION_SERIES_NUMBER = 9001
REPORT_SERIES_NUMBER = 9002
KEY_IMAGES_SERIES_NUMBER = 9003
SUMMARY_SERIES_NUMBER = 9004
UNCERTAINTY_SERIES_NUMBER = 9005
PRESENTATION_SERIES_NUMBER = 9006
KEY_OBJECTS_SERIES_NUMBER = 9007
PROBABILITY_SERIES_NUMBER = 9008
ACTIVATION_SERIES_NUMBER = 9009
# A later answer's series stand this much further on, beside the first one's.
REVISION_STEP = 100
# Series Description is LO (PS3.5 6.2).
MOST_WORDS = 64
# A report with hundreds of groups is read by nobody; the largest lesions have theirs, all are in the total.
MOST_LESIONS = 20
MOST_SERIES = 40


@dataclass(frozen=True, kw_only=True, eq=False)
class Origin(ABC):
    """What a job's objects share; every UID and time of them comes from here.

    `predecessors` are the reports that this one supersedes, `revision` counts the study's answers from 1.
    """

    job_key: str
    created_at: datetime
    predecessors: tuple[Reference, ...] = ()
    revision: int = 1
    research_use: bool = True
    software_version: str

    @property
    @abstractmethod
    def header(self) -> Dataset:
        """Return an instance of the source, for patient, study and scanner."""

    @property
    @abstractmethod
    def model(self) -> BundleRef:
        """Return the trained model; nameless where none was chosen."""

    @property
    @abstractmethod
    def taken(self) -> frozenset[int]:
        """Return the Series Numbers of the source."""

    def uid(self, role: Role, *parts: str) -> str:
        """Return the UID that this job always gives to `role`."""
        return uids.derive(role, self.job_key, *parts)

    @property
    def device_uid(self) -> str:
        """Return the UID of the trained model."""
        return uids.derive(Role.DEVICE, self.model.digest or "no model")

    @property
    def date(self) -> str:
        """Return when the job was made, as DA, in the machine's zone as all dates of the study are."""
        return self.created_at.astimezone().strftime("%Y%m%d")

    @property
    def time(self) -> str:
        """Return when the job was made, as TM."""
        return self.created_at.astimezone().strftime("%H%M%S")

    def series_number(self, wanted: int) -> int:
        """Return `wanted` in this revision, or the next that no source series has."""
        wanted += REVISION_STEP * (self.revision - 1)
        while wanted in self.taken:
            wanted += 10
        return wanted

    def described(self, what: str) -> str:
        """Return the description of the series of `what`; every answer after the first says which it is."""
        version = f", version {self.revision}" if self.revision > 1 else ""
        research = " (research use)" if self.research_use else ""
        return f"AI {what}{version}{research}"[:MOST_WORDS]


@dataclass(frozen=True, kw_only=True, eq=False)
class ResultContext(Origin):
    """A job's source and answer: `source` is the reference series (MR, or PET), `others` were read too (CT).

    `unread` says of each other series of the study why it was not read.
    """

    source: SourceSeries
    others: tuple[SourceSeries, ...]
    bundle: InstalledBundle
    findings: Findings
    unread: tuple[str, ...] = ()

    @property
    def header(self) -> Dataset:
        """Return the reference series' first header."""
        return self.source.header

    @property
    def model(self) -> BundleRef:
        """Return the bundle that read it."""
        return self.bundle.ref

    @property
    def taken(self) -> frozenset[int]:
        """Return the Series Numbers of what was read."""
        return frozenset(int(s.header.get("SeriesNumber") or 0) for s in (self.source, *self.others))

    @property
    def read(self) -> tuple[str, ...]:
        """Return what was read, a series each; nothing that could name a patient."""
        return tuple(
            in_words(str(s.header.get("Modality") or ""), _integer(s.header.get("SeriesNumber")), len(s.frames))
            for s in (self.source, *self.others)
        )

    @property
    def not_read(self) -> tuple[str, ...]:
        """Return what was not, and why."""
        return _some(self.unread)

    def words(self, what: str) -> str:
        """Return the description of the series of `what`."""
        return self.described(f"{self.bundle.manifest.target.label} {what}")

    def tracking(self, number: int) -> tuple[str, str]:
        """Return Tracking ID and UID of lesion `number`; 0 is all of them together, which is the segment."""
        name = f"Lesion {number}" if number else "All lesions"
        return name, self.uid(Role.TRACKING, str(number))

    @property
    def passes(self) -> str:
        """Return how many passes there were, and of an ensemble how many members had how many each."""
        count, members = self.findings.passes, len(self.bundle.manifest.members)
        return f"{count} ({members} members x {count // members})" if members > 1 else str(count)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Return what the algorithm ran with."""
        manifest, provider = self.bundle.manifest, self.findings.provider
        return (
            f"bundle sha256 {self.bundle.ref.digest}",
            f"quantisation {manifest.quantisation}",
            f"MC-dropout passes {self.passes}",
            f"dropout rate {manifest.dropout.rate}",
            f"seed {self.findings.seed}",
            # Of the CPU nothing is said: it is what the bundle's own figures are of.
            *([f"execution provider {provider}"] if provider is not Provider.CPU else []),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class RefusalContext(Origin):
    """A study that was not read: `sample` is the header of one of the `received` instances, `failed` what tried."""

    sample: Dataset
    received: tuple[Instance, ...]
    failed: BundleRef
    reason: Reason

    @property
    def header(self) -> Dataset:
        """Return the sample."""
        return self.sample

    @property
    def model(self) -> BundleRef:
        """Return the model that failed, nameless where none was chosen."""
        return self.failed

    @property
    def taken(self) -> frozenset[int]:
        """Return the Series Numbers of what was received."""
        return frozenset(i.acquisition.series_number or 0 for i in self.received)

    @property
    def conclusion(self) -> str:
        """Return the plain sentence: cause, and what to do."""
        return f"Not processed. {SENTENCES[self.reason]} {REPORTED[self.reason].mend}"

    @property
    def arrivals(self) -> tuple[str, ...]:
        """Return what was received, a series each; nothing that could name a patient."""
        series = by_series(self.received)
        return _some([s.words for s in series])


def _integer(value: object) -> int | None:
    return None if value in (None, "") else int(str(value))


def _some(told: Sequence[str]) -> tuple[str, ...]:
    more = len(told) - MOST_SERIES
    return (*told[:MOST_SERIES], f"and {more} more series") if more > 0 else tuple(told)
