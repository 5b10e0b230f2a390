"""The ledger's tables; invariants are constraints."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Double,
    Engine,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    false,
    text,
    true,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from daemon.ledger.types import Moment, Number, Uid, Words


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {datetime: Moment(), str: Words(), dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012 - SQLAlchemy's API


def _some(where: str, name: str, *columns: str, unique: bool = False) -> Index:
    """Return an index of those rows alone of which `where` is true.

    A column that is the same in all of them may lead: SQLite has no statistics here, and of two indexes takes the one
    of which more is given by equality.
    """
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


class AssociationRow(Base):
    """One association of one listener; open while `closed_at` is empty, which the listener says again now and then."""

    __tablename__ = "associations"
    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    calling_ae: Mapped[str] = mapped_column(String(16))
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None] = mapped_column(index=True)
    listener: Mapped[str] = mapped_column(String(128), default="", server_default="")
    seen_at: Mapped[datetime | None]


class InstanceRow(Base):
    """One stored instance; the same SOP Instance UID with other bytes stands beside it, flagged."""

    __tablename__ = "instances"
    __table_args__ = (
        UniqueConstraint("sop_instance_uid", "digest"),
        _some("NOT conflict", "uq_instances_first", "sop_instance_uid", unique=True),
        _some("NOT freed", "ix_instances_arriving", "association"),
        _some("conflict", "ix_instances_conflicting", "study_uid"),
    )
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(Uid)
    digest: Mapped[str] = mapped_column(Uid, index=True)
    study_uid: Mapped[str] = mapped_column(Uid, index=True)
    series_uid: Mapped[str] = mapped_column(Uid)
    size: Mapped[int] = mapped_column(BigInteger)
    conflict: Mapped[bool]
    freed: Mapped[bool] = mapped_column(default=False)
    association: Mapped[str] = mapped_column(String(80))
    received_at: Mapped[datetime]
    facts: Mapped[dict[str, Any]]


class StudyRow(Base):
    """One study; `dirty` while there is news that no decision has seen, `oversize` once an instance was too many.

    `size` is that of all its instances in bytes, conflicts too; `refused_size` what one that was refused would have
    made it, 0 where none was. `kept` as long as a file of it may be there that retention has not freed.
    """

    __tablename__ = "studies"
    __table_args__ = (
        Index("ix_studies_newest", "first_at", "uid"),
        _some("dirty", "ix_studies_news", "dirty", "first_at", "uid"),
        _some("kept", "ix_studies_kept", "first_at"),
        _some("refusal <> ''", "ix_studies_refused", "refusal"),
    )
    uid: Mapped[str] = mapped_column(Uid, primary_key=True)
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    instances: Mapped[int]
    dirty: Mapped[bool]
    verdict: Mapped[str] = mapped_column(String(16), default="")
    evidence: Mapped[str] = mapped_column(default="")
    refusal: Mapped[str] = mapped_column(String(40), default="")
    oversize: Mapped[bool] = mapped_column(default=False, server_default=false())
    size: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    refused_size: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    kept: Mapped[bool] = mapped_column(default=True, server_default=true())


class ListingRow(Base):
    """The instances that a notification, or the archive, says one series has."""

    __tablename__ = "listings"
    __table_args__ = (UniqueConstraint("study_uid", "series_uid", "source"),)
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    study_uid: Mapped[str] = mapped_column(Uid)
    series_uid: Mapped[str] = mapped_column(Uid)
    source: Mapped[str] = mapped_column(String(12))
    modality: Mapped[str] = mapped_column(String(16))
    retrieve_ae: Mapped[str] = mapped_column(String(16))
    notices: Mapped[int]
    sop_instance_uids: Mapped[list[Any]]
    at: Mapped[datetime] = mapped_column(index=True)


class InquiryRow(Base):
    """What came of asking the archive about one study; see `daemon.domain.evidence.Inquiry`."""

    __tablename__ = "inquiries"
    study_uid: Mapped[str] = mapped_column(Uid, primary_key=True)
    instances: Mapped[int]
    rounds: Mapped[int]
    until: Mapped[datetime]
    under_way: Mapped[bool]
    detail: Mapped[str]


class JobRow(Base):
    """One run of one bundle on one set of instances; with a `refusal`, the report of why there is no answer.

    `deaths` are those of workers that had it in hand; `told_at` is when a message said that it is due, empty where none
    did since it last became so.
    """

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True)
    study_uid: Mapped[str] = mapped_column(Uid, ForeignKey("studies.uid"), index=True)
    bundle: Mapped[str] = mapped_column(String(64))
    bundle_version: Mapped[str] = mapped_column(String(32))
    bundle_digest: Mapped[str] = mapped_column(Uid)
    series: Mapped[dict[str, Any]]
    digests: Mapped[list[Any]]
    unread: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    state: Mapped[str] = mapped_column(String(12))
    reason: Mapped[str] = mapped_column(String(40), default="")
    detail: Mapped[str] = mapped_column(default="")
    attempts: Mapped[int] = mapped_column(default=0)
    deaths: Mapped[int] = mapped_column(default=0, server_default="0")
    created_at: Mapped[datetime]
    not_before: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    supersedes: Mapped[int | None] = mapped_column(Number, ForeignKey("jobs.id"))
    worker: Mapped[str] = mapped_column(String(80), default="")
    fence: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[datetime | None]
    findings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    seconds: Mapped[dict[str, Any]] = mapped_column(default=dict)
    refusal: Mapped[str] = mapped_column(String(40), default="", server_default="")
    answer: Mapped[str] = mapped_column(String(20), default="", server_default="")
    priority: Mapped[int] = mapped_column(default=0, server_default="0")
    resource: Mapped[str] = mapped_column(String(12), default="cpu", server_default="cpu")
    told_at: Mapped[datetime | None]
    __table_args__ = (
        _some("state = 'SCHEDULED'", "ix_jobs_waiting", "state", "priority", "created_at", "id"),
        _some("state = 'IN PROGRESS'", "ix_jobs_under_way", "state", "lease_until"),
        Index("ix_jobs_newest", "state", "id"),
        Index("ix_jobs_counts", "state", "bundle", "bundle_version", "answer", "reason"),
    )


class ScoreRow(Base):
    """An answer's numbers (see `daemon.domain.drift`), in the order in which answers were given."""

    __tablename__ = "scores"
    __table_args__ = (Index("ix_scores_of_bundle", "bundle_digest", "id"),)
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    job_id: Mapped[int] = mapped_column(Number, ForeignKey("jobs.id"), unique=True)
    bundle_digest: Mapped[str] = mapped_column(Uid)
    probability: Mapped[float] = mapped_column(Double)
    risk: Mapped[float] = mapped_column(Double)
    volume_ml: Mapped[float] = mapped_column(Double)
    entropy: Mapped[float] = mapped_column(Double)
    novelty: Mapped[float | None] = mapped_column(Double)


class SecondRow(Base):
    """What another bundle says of a job that was answered; once for each job and bundle (see `daemon.domain.second`).

    `due_at` is when it is taken up, or again where that was cut off; `asked` where somebody did, not the settings.
    """

    __tablename__ = "second_reads"
    __table_args__ = (
        UniqueConstraint("job_id", "bundle_digest"),
        Index("ix_second_reads_due", "state", "due_at"),
        Index("ix_second_reads_of_bundle", "bundle_digest", "state", "id"),
    )
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    job_id: Mapped[int] = mapped_column(Number, ForeignKey("jobs.id"))
    bundle: Mapped[str] = mapped_column(String(64))
    bundle_version: Mapped[str] = mapped_column(String(32))
    bundle_digest: Mapped[str] = mapped_column(Uid)
    by: Mapped[str] = mapped_column(String(80))
    asked: Mapped[bool]
    state: Mapped[str] = mapped_column(String(12))
    detail: Mapped[str] = mapped_column(default="")
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    due_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    findings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    seconds: Mapped[dict[str, Any]] = mapped_column(default=dict)
    answer: Mapped[str] = mapped_column(String(20), default="")
    probability: Mapped[float | None] = mapped_column(Double)
    dice: Mapped[float | None] = mapped_column(Double)


class OutputRow(Base):
    """One result object of a completed job."""

    __tablename__ = "outputs"
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    job_id: Mapped[int] = mapped_column(Number, ForeignKey("jobs.id"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    sop_class_uid: Mapped[str] = mapped_column(Uid)
    sop_instance_uid: Mapped[str] = mapped_column(Uid, unique=True)
    series_uid: Mapped[str] = mapped_column(Uid)
    digest: Mapped[str] = mapped_column(Uid, index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    freed: Mapped[bool] = mapped_column(default=False)


class DeliveryRow(Base):
    """One output on its way to one destination."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("output_id", "destination"),
        Index("ix_deliveries_due", "state", "due_at"),
        Index("ix_deliveries_counts", "state", "destination"),
    )
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    output_id: Mapped[int] = mapped_column(Number, ForeignKey("outputs.id"))
    destination: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(12))
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    due_at: Mapped[datetime]
    sent_at: Mapped[datetime | None] = mapped_column(index=True)
    confirmed_at: Mapped[datetime | None]
    transaction_uid: Mapped[str] = mapped_column(Uid, default="", index=True)
    warning: Mapped[int] = mapped_column(default=0, server_default="0")
    detail: Mapped[str] = mapped_column(default="")


class DestinationRow(Base):
    """A destination that an administrator added with the command line."""

    __tablename__ = "destinations"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    ae_title: Mapped[str] = mapped_column(String(16))
    host: Mapped[str]
    port: Mapped[int]
    commitment: Mapped[bool]
    url: Mapped[str] = mapped_column(server_default="")
    token_file: Mapped[str] = mapped_column(server_default="")
    password_file: Mapped[str] = mapped_column(server_default="")
    ca_file: Mapped[str] = mapped_column(server_default="")
    tls: Mapped[bool] = mapped_column(server_default=false())
    outputs: Mapped[str] = mapped_column(server_default="SEG,SR")
    fallback: Mapped[str] = mapped_column(server_default="")


class CircuitRow(Base):
    """A destination that was not reached; there is no row where all is well."""

    __tablename__ = "circuits"
    destination: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int]
    since: Mapped[datetime]
    next_at: Mapped[datetime]
    reason: Mapped[str]


class PauseRow(Base):
    """What an administrator holds; there is no row where all goes on."""

    __tablename__ = "pauses"
    activity: Mapped[str] = mapped_column(String(12), primary_key=True)
    since: Mapped[datetime]
    by: Mapped[str]


class SessionRow(Base):
    """Somebody logged in at the console; of the cookie and of the user's entry only SHA-256 digests are kept."""

    __tablename__ = "sessions"
    digest: Mapped[str] = mapped_column(Uid, primary_key=True)
    user: Mapped[str] = mapped_column(String(64))
    entry: Mapped[str] = mapped_column(String(64))
    began_at: Mapped[datetime]
    used_at: Mapped[datetime]


class FeedbackRow(Base):
    """A corrected SEG that came back, or somebody's word on a result, without `sop_instance_uid` and file.

    `due_at` is when it is looked at, or again where that was cut off; `job_id` is empty where it is of no result.
    """

    __tablename__ = "feedback"
    __table_args__ = (
        UniqueConstraint("sop_instance_uid", "digest"),
        Index("ix_feedback_due", "state", "due_at"),
    )
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    kind: Mapped[str] = mapped_column(String(12))
    state: Mapped[str] = mapped_column(String(12))
    at: Mapped[datetime]
    by: Mapped[str] = mapped_column(String(80))
    study_uid: Mapped[str] = mapped_column(Uid, index=True)
    job_id: Mapped[int | None] = mapped_column(Number, ForeignKey("jobs.id"), index=True)
    evidence: Mapped[str] = mapped_column(String(24), default="")
    detail: Mapped[str] = mapped_column(default="")
    dice: Mapped[float | None] = mapped_column(Double)
    ml: Mapped[float | None] = mapped_column(Double)
    sop_instance_uid: Mapped[str | None] = mapped_column(Uid)
    digest: Mapped[str | None] = mapped_column(Uid)
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    freed: Mapped[bool] = mapped_column(default=False)
    association: Mapped[str] = mapped_column(String(80), default="", index=True)
    patient_key: Mapped[str] = mapped_column(String(64), default="")
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    exported_at: Mapped[datetime | None]


class TallyRow(Base):
    """How often something happened that no other row tells of."""

    __tablename__ = "tallies"
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)


class TransitionRow(Base):
    """What changed state, when and why; rows are only ever added."""

    __tablename__ = "transitions"
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    at: Mapped[datetime]
    subject: Mapped[str] = mapped_column(String(12))
    subject_id: Mapped[int] = mapped_column(Number, index=True)
    old: Mapped[str] = mapped_column(String(12))
    new: Mapped[str] = mapped_column(String(12))
    detail: Mapped[str]


__all__ = [
    "AssociationRow",
    "Base",
    "CircuitRow",
    "DeliveryRow",
    "DestinationRow",
    "Engine",
    "FeedbackRow",
    "InquiryRow",
    "InstanceRow",
    "JobRow",
    "ListingRow",
    "Moment",
    "OutputRow",
    "PauseRow",
    "ScoreRow",
    "SecondRow",
    "SessionRow",
    "StudyRow",
    "TallyRow",
    "TransitionRow",
]
