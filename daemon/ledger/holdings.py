"""Which instances and results are still in the spool, by their UIDs; what DICOMweb and the viewer look up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, Select, literal, or_, select

from daemon.domain.instance import Instance
from daemon.ledger.engine import reading
from daemon.ledger.rows import instance_of
from daemon.ledger.tables import InstanceRow, JobRow, OutputRow, StudyRow

# Explicit VR Little Endian: what every result is written in.
_MADE_IN = "1.2.840.10008.1.2.1"


@dataclass(frozen=True, kw_only=True)
class Holding:
    """One object in the spool under `digest`; `kind` is a result's, empty of what was received."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    digest: str
    size: int
    kind: str = ""
    job_id: int = 0


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which objects are asked for, from the top: an empty UID stands for all."""

    study_uid: str
    series_uid: str = ""
    sop_instance_uid: str = ""


class Holdings:
    """Reads the ledger for who wants files."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def studies(
        self, uids: Sequence[str], after: tuple[datetime, str] | None, limit: int
    ) -> list[tuple[datetime, str]]:
        """Return arrival and UID of studies after that key, newest first; of these `uids` only where there are any."""
        query = select(StudyRow.first_at, StudyRow.uid).order_by(StudyRow.first_at.desc(), StudyRow.uid.desc())
        if uids:
            query = query.where(StudyRow.uid.in_(uids))
        if after is not None:
            at, uid = after
            query = query.where(StudyRow.first_at <= at, or_(StudyRow.first_at < at, StudyRow.uid < uid))
        with reading(self._engine) as session:
            return [(row.first_at, row.uid) for row in session.execute(query.limit(limit)).all()]

    def objects(self, wanted: Wanted) -> list[Holding]:
        """Return what is kept of it, received before made; of a UID that came with other bytes too, what came first."""
        with reading(self._engine) as session:
            received = session.execute(_received(wanted)).all()
            made = session.execute(_made(wanted)).all()
        return [Holding(**row._mapping) for row in (*received, *made)]  # noqa: SLF001 - SQLAlchemy's API

    def made(self, study: str) -> list[Holding]:
        """Return the results of a study, oldest first."""
        with reading(self._engine) as session:
            return [Holding(**row._mapping) for row in session.execute(_made(Wanted(study_uid=study))).all()]  # noqa: SLF001 - SQLAlchemy's API

    def instances(self, study: str, series: str) -> list[Instance]:
        """Return the facts of a series that is kept."""
        query = select(InstanceRow.facts).where(
            InstanceRow.study_uid == study, InstanceRow.series_uid == series, ~InstanceRow.freed, ~InstanceRow.conflict
        )
        with reading(self._engine) as session:
            return [instance_of(facts) for facts in session.scalars(query).all()]

    def patient_key(self, study: str) -> str:
        """Return the keyed hash of a study's patient, empty where the ledger knows none."""
        query = select(InstanceRow.facts["patient_key"].as_string()).where(InstanceRow.study_uid == study).limit(1)
        with reading(self._engine) as session:
            return session.scalar(query) or ""


def _received(wanted: Wanted) -> Select[str, str, str, str, str, str, int]:
    query = select(
        InstanceRow.study_uid,
        InstanceRow.series_uid,
        InstanceRow.sop_instance_uid,
        InstanceRow.facts["sop_class_uid"].as_string().label("sop_class_uid"),
        InstanceRow.facts["transfer_syntax_uid"].as_string().label("transfer_syntax_uid"),
        InstanceRow.digest,
        InstanceRow.size,
    ).where(InstanceRow.study_uid == wanted.study_uid, ~InstanceRow.freed, ~InstanceRow.conflict)
    if wanted.series_uid:
        query = query.where(InstanceRow.series_uid == wanted.series_uid)
    if wanted.sop_instance_uid:
        query = query.where(InstanceRow.sop_instance_uid == wanted.sop_instance_uid)
    return query.order_by(InstanceRow.id)


def _made(wanted: Wanted) -> Select[str, str, str, str, str, str, int, str, int]:
    query = (
        select(
            JobRow.study_uid,
            OutputRow.series_uid,
            OutputRow.sop_instance_uid,
            OutputRow.sop_class_uid,
            literal(_MADE_IN).label("transfer_syntax_uid"),
            OutputRow.digest,
            OutputRow.size,
            OutputRow.kind,
            OutputRow.job_id,
        )
        .join(JobRow, JobRow.id == OutputRow.job_id)
        .where(JobRow.study_uid == wanted.study_uid, ~OutputRow.freed)
    )
    if wanted.series_uid:
        query = query.where(OutputRow.series_uid == wanted.series_uid)
    if wanted.sop_instance_uid:
        query = query.where(OutputRow.sop_instance_uid == wanted.sop_instance_uid)
    return query.order_by(OutputRow.id)
