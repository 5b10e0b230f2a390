"""What others say of studies, in the ledger: notifications, and what came of asking the archive."""

from datetime import datetime, timedelta

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from daemon.domain.evidence import Notice, SeriesListing, SeriesNotice, Source
from daemon.ledger.engine import writing
from daemon.ledger.tables import InstanceRow, ListingRow, StudyRow

# What is listed of a study that never comes is forgotten.
KEPT = timedelta(days=7)


class Listings:
    """Listings and inquiries in the ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def notified(self, notice: Notice, at: datetime) -> bool:
        """Take a notification: what is ONLINE is added, what is not is taken off; False where that changes nothing.

        A study that is here and lacks some of it is looked at again.
        """
        with writing(self._engine) as session:
            session.execute(delete(ListingRow).where(ListingRow.at < at - KEPT))
            changed = [_notice(session, notice.study_instance_uid, series, at) for series in notice.series]
            if any(changed) and _lacks(session, notice):
                known = (StudyRow.uid == notice.study_instance_uid) & (StudyRow.instances > 0)
                session.execute(update(StudyRow).where(known).values(dirty=True))
            return any(changed)


def listings_of(session: Session, study: str) -> tuple[tuple[SeriesListing, ...], datetime | None]:
    """Return what is listed of a study, and when the newest notification of it came."""
    rows = session.scalars(select(ListingRow).where(ListingRow.study_uid == study).order_by(ListingRow.id)).all()
    listings = tuple(
        SeriesListing(
            series_instance_uid=row.series_uid,
            modality=row.modality,
            source=Source(row.source),
            sop_instance_uids=frozenset(map(str, row.sop_instance_uids)),
            retrieve_ae=row.retrieve_ae,
        )
        for row in rows
    )
    return listings, max((row.at for row in rows if row.source == Source.NOTIFICATION), default=None)


def _notice(session: Session, study: str, series: SeriesNotice, at: datetime) -> bool:
    rows = _rows(session, study, series.series_instance_uid)
    archived = rows.get(Source.ARCHIVE)
    if archived is not None:
        archived.sop_instance_uids = sorted(set(archived.sop_instance_uids) - series.elsewhere)
    row = rows.get(Source.NOTIFICATION)
    before = set() if row is None else set(row.sop_instance_uids)
    listed = (before | series.online) - series.elsewhere
    if listed == before:
        return False
    if row is None:
        row = ListingRow(study_uid=study, series_uid=series.series_instance_uid, source=Source.NOTIFICATION.value)
        session.add(row)
    row.modality, row.retrieve_ae, row.at = series.modality, series.retrieve_ae, at
    row.sop_instance_uids = sorted(listed)
    return True


def _rows(session: Session, study: str, series: str) -> dict[Source, ListingRow]:
    query = select(ListingRow).where(ListingRow.study_uid == study, ListingRow.series_uid == series)
    return {Source(row.source): row for row in session.scalars(query)}


def _lacks(session: Session, notice: Notice) -> bool:
    query = select(InstanceRow.sop_instance_uid).where(InstanceRow.study_uid == notice.study_instance_uid)
    here = set(session.scalars(query))
    return any(series.online - here for series in notice.series)
