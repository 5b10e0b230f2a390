"""The ledger's tables; invariants are constraints."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Engine,
    ForeignKey,
    Index,
    String,
    TypeDecorator,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Moment(TypeDecorator[datetime]):
    """An aware UTC time; SQLite stores it without zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: object) -> datetime | None:
        """Return the time in UTC."""
        del dialect
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: object) -> datetime | None:
        """Return the time as aware."""
        del dialect
        return None if value is None else value.replace(tzinfo=value.tzinfo or UTC)


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {datetime: Moment(), dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012 - SQLAlchemy's API


class AssociationRow(Base):
    """One association of one listener process; open while `closed_at` is empty."""

    __tablename__ = "associations"
    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    calling_ae: Mapped[str] = mapped_column(String(16))
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None] = mapped_column(index=True)


class InstanceRow(Base):
    """One stored instance; the same SOP Instance UID with other bytes stands beside it, flagged."""

    __tablename__ = "instances"
    __table_args__ = (UniqueConstraint("sop_instance_uid", "digest"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    digest: Mapped[str] = mapped_column(String(64))
    study_uid: Mapped[str] = mapped_column(String(64), index=True)
    series_uid: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    conflict: Mapped[bool]
    freed: Mapped[bool] = mapped_column(default=False)
    association: Mapped[str] = mapped_column(String(80))
    received_at: Mapped[datetime]
    facts: Mapped[dict[str, Any]]


class StudyRow(Base):
    """One study; `dirty` while there is news that no decision has seen, `oversize` once an instance was too many."""

    __tablename__ = "studies"
    uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    instances: Mapped[int]
    dirty: Mapped[bool] = mapped_column(index=True)
    verdict: Mapped[str] = mapped_column(String(16), default="")
    evidence: Mapped[str] = mapped_column(default="")
    refusal: Mapped[str] = mapped_column(String(40), default="")
    oversize: Mapped[bool] = mapped_column(default=False, server_default=false())


class ListingRow(Base):
    """The instances that a notification, or the archive, says one series has."""

    __tablename__ = "listings"
    __table_args__ = (UniqueConstraint("study_uid", "series_uid", "source"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(String(64))
    series_uid: Mapped[str] = mapped_column(String(64))
    source: Mapped[str] = mapped_column(String(12))
    modality: Mapped[str] = mapped_column(String(16))
    retrieve_ae: Mapped[str] = mapped_column(String(16))
    notices: Mapped[int]
    sop_instance_uids: Mapped[list[Any]]
    at: Mapped[datetime] = mapped_column(index=True)


class InquiryRow(Base):
    """What came of asking the archive about one study; see `daemon.domain.evidence.Inquiry`."""

    __tablename__ = "inquiries"
    study_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    instances: Mapped[int]
    rounds: Mapped[int]
    until: Mapped[datetime]
    under_way: Mapped[bool]
    detail: Mapped[str]


class JobRow(Base):
    """One run of one bundle on one set of instances."""

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True)
    study_uid: Mapped[str] = mapped_column(ForeignKey("studies.uid"), index=True)
    bundle: Mapped[str] = mapped_column(String(64))
    bundle_version: Mapped[str] = mapped_column(String(32))
    bundle_digest: Mapped[str] = mapped_column(String(64))
    series: Mapped[dict[str, Any]]
    digests: Mapped[list[Any]]
    state: Mapped[str] = mapped_column(String(12))
    reason: Mapped[str] = mapped_column(String(40), default="")
    detail: Mapped[str] = mapped_column(default="")
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    not_before: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    supersedes: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
    worker: Mapped[str] = mapped_column(String(80), default="")
    fence: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[datetime | None]
    findings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    seconds: Mapped[dict[str, Any]] = mapped_column(default=dict)
    __table_args__ = (Index("ix_jobs_claim", "state", "not_before"),)


class OutputRow(Base):
    """One result object of a completed job."""

    __tablename__ = "outputs"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), index=True)
    kind: Mapped[str] = mapped_column(String(8))
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    sop_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    series_uid: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    freed: Mapped[bool] = mapped_column(default=False)


class DeliveryRow(Base):
    """One output on its way to one destination."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("output_id", "destination"),
        Index("ix_deliveries_due", "state", "due_at"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    output_id: Mapped[int] = mapped_column(ForeignKey("outputs.id"))
    destination: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(12))
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    due_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    confirmed_at: Mapped[datetime | None]
    transaction_uid: Mapped[str] = mapped_column(String(64), default="", index=True)
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


class TransitionRow(Base):
    """What changed state, when and why; rows are only ever added."""

    __tablename__ = "transitions"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    subject: Mapped[str] = mapped_column(String(12))
    subject_id: Mapped[int] = mapped_column(index=True)
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
    "InquiryRow",
    "InstanceRow",
    "JobRow",
    "ListingRow",
    "OutputRow",
    "PauseRow",
    "StudyRow",
    "TransitionRow",
]
