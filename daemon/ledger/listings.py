"""What others say of studies, in the ledger: notifications, and what came of asking the archive."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from daemon.domain.assembly import StudyFacts
from daemon.domain.evidence import Inquiry, Notice, SeriesListing, SeriesNotice, Source
from daemon.domain.news import News
from daemon.ledger.engine import alone, writing
from daemon.ledger.tables import InquiryRow, InstanceRow, ListingRow, StudyRow

# What is listed is needed until the study is judged, or never comes; then it is forgotten.
KEPT = timedelta(days=7)


class Listings:
    """Listings and inquiries in the ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def notified(self, notice: Notice, at: datetime) -> bool:
        """Take a notification: what is ONLINE is added, what is not is taken off; False where that changes nothing.

        A study that is here and lacks some of it is looked at again.
        """
        with writing(self._engine, News.STUDY) as session:
            alone(session, notice.study_instance_uid)
            _forget(session, at)
            changed = [_notice(session, notice.study_instance_uid, series, at) for series in notice.series]
            if any(changed) and _lacks(session, notice):
                known = (StudyRow.uid == notice.study_instance_uid) & (StudyRow.instances > 0)
                session.execute(update(StudyRow).where(known).values(dirty=True))
            return any(changed)

    def begin(self, study: StudyFacts, at: datetime, until: datetime) -> bool:
        """Take up an inquiry until then; False where another process has."""
        with writing(self._engine) as session:
            alone(session, study.study_instance_uid)
            row = session.get(InquiryRow, study.study_instance_uid)
            if row is None:
                row = InquiryRow(study_uid=study.study_instance_uid, instances=0, rounds=0, detail="")
                session.add(row)
            elif at < row.until:
                return False
            instances = len(study.instances)
            row.rounds = row.rounds + 1 if row.instances == instances else 1
            row.instances, row.until, row.under_way = instances, until, True
        return True

    def answered(self, study_uid: str, listings: Sequence[SeriesListing], at: datetime) -> None:
        """Take the archive's answer in place of the one before."""
        with writing(self._engine) as session:
            alone(session, study_uid)
            old = (ListingRow.study_uid == study_uid) & (ListingRow.source == Source.ARCHIVE.value)
            session.execute(delete(ListingRow).where(old))
            _forget(session, at)
            for listing in listings:
                row = _listing(session, study_uid, listing.series_instance_uid, Source.ARCHIVE)
                row.modality, row.retrieve_ae, row.at = listing.modality, listing.retrieve_ae, at
                row.sop_instance_uids = sorted(listing.sop_instance_uids)

    def ended(self, study_uid: str, detail: str, until: datetime) -> None:
        """Keep what came of an inquiry; the archive is not asked again before `until`."""
        with writing(self._engine, News.STUDY) as session:
            row = session.get_one(InquiryRow, study_uid)
            row.under_way, row.detail, row.until = False, detail, until


def inquiry_of(session: Session, study: str) -> Inquiry | None:
    """Return what came of asking the archive about a study."""
    row = session.get(InquiryRow, study)
    if row is None:
        return None
    return Inquiry(
        instances=row.instances, rounds=row.rounds, until=row.until, under_way=row.under_way, detail=row.detail
    )


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
            notices=row.notices,
        )
        for row in rows
    )
    return listings, max((row.at for row in rows if row.source == Source.NOTIFICATION), default=None)


def _forget(session: Session, at: datetime) -> None:
    session.execute(delete(ListingRow).where(ListingRow.at < at - KEPT))


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
        row = _listing(session, study, series.series_instance_uid, Source.NOTIFICATION)
    row.notices += bool(series.online - before)
    row.modality, row.retrieve_ae, row.at = series.modality, series.retrieve_ae, at
    row.sop_instance_uids = sorted(listed)
    return True


def _listing(session: Session, study: str, series: str, source: Source) -> ListingRow:
    row = ListingRow(study_uid=study, series_uid=series, source=source.value, notices=0)
    session.add(row)
    return row


def _rows(session: Session, study: str, series: str) -> dict[Source, ListingRow]:
    query = select(ListingRow).where(ListingRow.study_uid == study, ListingRow.series_uid == series)
    return {Source(row.source): row for row in session.scalars(query)}


def _lacks(session: Session, notice: Notice) -> bool:
    query = select(InstanceRow.sop_instance_uid).where(InstanceRow.study_uid == notice.study_instance_uid)
    here = set(session.scalars(query))
    return any(series.online - here for series in notice.series)
