"""What all objects of one job share."""

from dataclasses import dataclass
from datetime import datetime

from daemon import uids
from daemon.domain.finding import Findings
from daemon.domain.model_bundle import InstalledBundle
from daemon.domain.references import Reference
from daemon.imaging.read import SourceSeries
from daemon.uids import Role

MANUFACTURER = "Overread"
MODEL_NAME = "Overread"
SEGMENTATION_SERIES_NUMBER = 9001
REPORT_SERIES_NUMBER = 9002
# A later answer's series stand this much further on, beside the first one's.
REVISION_STEP = 100
# Series Description is LO (PS3.5 6.2).
MOST_WORDS = 64
# A report with hundreds of groups is read by nobody; the largest lesions have theirs, all are in the total.
MOST_LESIONS = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class ResultContext:
    """A job's identity, source and answer; every UID and time of its objects comes from here.

    `source` is the reference series (MR, or PET), `others` were read too (CT). `predecessors` are the reports that this
    one supersedes, `revision` the number of this answer among the study's, from 1.
    """

    job_key: str
    created_at: datetime
    source: SourceSeries
    others: tuple[SourceSeries, ...]
    bundle: InstalledBundle
    findings: Findings
    predecessors: tuple[Reference, ...] = ()
    revision: int = 1
    research_use: bool = True
    software_version: str

    def uid(self, role: Role, *parts: str) -> str:
        """Return the UID that this job always gives to `role`."""
        return uids.derive(role, self.job_key, *parts)

    @property
    def device_uid(self) -> str:
        """Return the UID of the trained model."""
        return uids.derive(Role.DEVICE, self.bundle.ref.digest)

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
        taken = {int(s.header.get("SeriesNumber") or 0) for s in (self.source, *self.others)}
        wanted += REVISION_STEP * (self.revision - 1)
        while wanted in taken:
            wanted += 10
        return wanted

    def words(self, what: str) -> str:
        """Return the description of the series of `what`; every answer after the first says which it is."""
        version = f", version {self.revision}" if self.revision > 1 else ""
        research = " (research use)" if self.research_use else ""
        return f"AI {self.bundle.manifest.target.label} {what}{version}{research}"[:MOST_WORDS]

    def tracking(self, number: int) -> tuple[str, str]:
        """Return Tracking ID and UID of lesion `number`; 0 is all of them together, which is the segment."""
        name = f"Lesion {number}" if number else "All lesions"
        return name, self.uid(Role.TRACKING, str(number))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Return what the algorithm ran with."""
        manifest = self.bundle.manifest
        return (
            f"bundle sha256 {self.bundle.ref.digest}",
            f"quantisation {manifest.quantisation}"[:64],
            f"MC-dropout passes {self.findings.passes}",
            f"dropout rate {manifest.dropout.rate}",
            f"seed {self.findings.seed}",
        )
