"""Times that a wrong clock wrote: what is due in a future that no rule reaches would wait for it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import CursorResult, Engine, func, select, update

from daemon.domain.assembly import SKEW
from daemon.domain.delivery import DeliveryState
from daemon.domain.job import JobState
from daemon.ledger.engine import reading, writing
from daemon.ledger.few import in_state
from daemon.ledger.tables import AssociationRow, CircuitRow, DeliveryRow, InquiryRow, JobRow, StudyRow, TransitionRow

# When something happened; what is still to happen lies ahead by right.
_HAPPENED = (StudyRow.last_at, JobRow.created_at, DeliveryRow.sent_at, DeliveryRow.confirmed_at, TransitionRow.at)

# Of these something is due; what has ended keeps its date.
_AWAITED = (DeliveryState.PENDING.value, DeliveryState.SENT.value)


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How far ahead a sound clock sets a time: a lease, the next attempt at a job, at a delivery, at asking an archive.

    Returned SEGs and second reads are not among them: who claims one sees by its own lease what lies too far ahead.
    """

    lease: timedelta
    job: timedelta
    delivery: timedelta
    inquiry: timedelta = timedelta(hours=1)


class Times:
    """The times that decide when something is done."""

    def __init__(self, engine: Engine, reach: Reach) -> None:
        self._engine = engine
        self._reach = reach

    def correct(self, now: datetime) -> int:
        """Commit that what is due beyond reach is due now; return how much it was.

        A lease gets its length from now: its worker may be alive, and renews it then. So may a listener that was last
        heard of in a time to come.
        """
        reach = self._reach
        changes = (
            update(JobRow)
            .where(in_state(JobState.IN_PROGRESS), JobRow.lease_until > now + 2 * reach.lease)
            .values(lease_until=now + reach.lease),
            update(JobRow)
            .where(in_state(JobState.SCHEDULED), JobRow.not_before > now + 2 * reach.job)
            .values(not_before=now),
            update(DeliveryRow)
            .where(DeliveryRow.state.in_(_AWAITED), DeliveryRow.due_at > now + 2 * reach.delivery)
            .values(due_at=now),
            update(CircuitRow).where(CircuitRow.next_at > now + 2 * reach.delivery).values(next_at=now),
            update(InquiryRow).where(InquiryRow.until > now + 2 * reach.inquiry).values(until=now),
            update(AssociationRow)
            .where(AssociationRow.closed_at.is_(None), AssociationRow.seen_at > now + SKEW)
            .values(seen_at=now),
        )
        with writing(self._engine) as session:
            results = [session.execute(change) for change in changes]
        return sum(result.rowcount for result in results if isinstance(result, CursorResult))

    def newest(self) -> datetime | None:
        """Return the newest time at which anything happened; None where nothing has."""
        with reading(self._engine) as session:
            found = [session.scalar(select(func.max(column))) for column in _HAPPENED]
        return max((time for time in found if time), default=None)
