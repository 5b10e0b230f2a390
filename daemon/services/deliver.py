"""Deliver and confirm: every output to every destination, until the destination vouches for it."""

import logging
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from daemon.clock import Clock
from daemon.domain.delivery import DeliveryState, Destination, RetryPolicy, SendOutcome, SendResult
from daemon.domain.references import Reference
from daemon.domain.work import Change, DueDelivery
from daemon.errors import RetryableError
from daemon.services.departures import Departures
from daemon.services.faults import Point, reach
from daemon.services.ports import Courier, Deliveries, Spool
from daemon.uids import Role, derive

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DeliveryRules:
    """How long to try, to wait for a commitment report, and to ask for read-back."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    report_wait: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True)
class Post:
    """What delivering needs of the world."""

    deliveries: Deliveries
    spool: Spool
    courier: Courier
    departures: Departures | None = None


class Deliver:
    """Sends what is due to one destination; the runtime gives each a thread, so that a dead one holds nothing else."""

    def __init__(self, post: Post, destinations: Mapping[str, Destination], clock: Clock, rules: DeliveryRules) -> None:
        self._post = post
        self._destinations = destinations
        self._clock = clock
        self._rules = rules

    def step(self, name: str) -> int:
        """Send what is due to destination `name`; return how many objects were tried."""
        due = [d for d in self._post.deliveries.due(DeliveryState.PENDING, self._clock.now()) if d.destination == name]
        if not due:
            return 0
        destination = self._destinations[name]
        due = self._at_hand(due)
        paths = [self._post.spool.path(d.digest) for d in due]
        for delivery, result in zip(due, self._post.courier.send(destination, paths), strict=True):
            reach(Point.OBJECTS_SENT)
            if self._post.departures is not None:
                self._post.departures.note(destination, delivery, result)
            self._post.deliveries.change([self._judge(delivery, result)], self._clock.now())
            reach(Point.DELIVERY_RECORDED)
            LOGGER.info("delivery %d to %s: %s", delivery.id, name, result.outcome.value)
        return len(due)

    def _at_hand(self, due: Sequence[DueDelivery]) -> list[DueDelivery]:
        """Return what has its file; what lost it is dead with that reason, so that it holds nothing else."""
        now = self._clock.now()
        here = [d for d in due if self._post.spool.path(d.digest).is_file()]
        detail = "its file is gone from the spool; restore the spool, then retry the delivery"
        lost = [Change(id=d.id, state=DeliveryState.DEAD, due_at=now, detail=detail) for d in due if d not in here]
        self._post.deliveries.change(lost, now)
        return here

    def _judge(self, delivery: DueDelivery, result: SendResult) -> Change:
        now = self._clock.now()
        if result.outcome is SendOutcome.STORED:
            return Change(id=delivery.id, state=DeliveryState.SENT, due_at=now, detail=result.detail)
        if result.outcome is SendOutcome.REFUSED:
            return Change(id=delivery.id, state=DeliveryState.DEAD, due_at=now, detail=result.detail)
        return _again(delivery, now, self._rules.retry, result.detail)


class Confirm:
    """Asks destinations to vouch for what was sent: Storage Commitment, else read-back."""

    def __init__(self, post: Post, destinations: Mapping[str, Destination], clock: Clock, rules: DeliveryRules) -> None:
        self._post = post
        self._destinations = destinations
        self._clock = clock
        self._rules = rules

    def step(self, name: str) -> int:
        """Pursue what was sent to destination `name`; return how many objects were asked about."""
        now = self._clock.now()
        sent = [d for d in self._post.deliveries.due(DeliveryState.SENT, now) if d.destination == name]
        destination = self._destinations[name]
        fresh = [d for d in sent if not d.transaction_uid] if destination.commitment else []
        rest = [d for d in sent if d not in fresh]
        by_transaction: dict[str, list[DueDelivery]] = defaultdict(list)
        for delivery in fresh:
            by_transaction[delivery.study_instance_uid].append(delivery)
        for group in by_transaction.values():
            self._ask(destination, group)
        if rest:
            self._read_back(destination, rest)
        return len(sent)

    def _ask(self, destination: Destination, group: Sequence[DueDelivery]) -> None:
        """Ask to commit; the transaction is in the ledger first, because the report may overtake our return."""
        now = self._clock.now()
        transaction = derive(Role.TRANSACTION, destination.name, now.isoformat(), *(str(d.id) for d in group))
        wait = now + self._rules.report_wait
        self._note(group, wait, "asked for storage commitment", transaction)
        reach(Point.COMMITMENT_ASKED)
        try:
            asked = self._post.courier.ask_commitment(destination, transaction, [_reference(d) for d in group])
        except RetryableError as error:
            LOGGER.warning("commitment at %s: %s", destination.name, error)
            return
        if not asked:
            self._read_back(destination, group)

    def _read_back(self, destination: Destination, group: Sequence[DueDelivery]) -> None:
        now = self._clock.now()
        try:
            present = self._post.courier.present(destination, [_reference(d) for d in group])
        except RetryableError as error:
            self._note(group, now + self._rules.report_wait, str(error))
            return
        here = [d for d in group if d.sop_instance_uid in present]
        self._change([Change(id=d.id, state=DeliveryState.CONFIRMED, due_at=now, detail="read back") for d in here])
        reach(Point.CONFIRMED)
        absent = [d for d in group if d.sop_instance_uid not in present]
        patient = [d for d in absent if d.sent_at and now - d.sent_at < self._rules.report_wait]
        self._note(patient, now + self._rules.report_wait / 6, "not listed by the destination yet")
        lost = [d for d in absent if d not in patient]
        self._change([_again(d, now, self._rules.retry, "the destination does not list it") for d in lost])

    def _note(self, group: Sequence[DueDelivery], due_at: datetime, detail: str, transaction: str = "") -> None:
        self._change(
            [
                Change(id=d.id, state=DeliveryState.SENT, due_at=due_at, detail=detail, transaction_uid=transaction)
                for d in group
            ]
        )

    def _change(self, changes: Sequence[Change]) -> None:
        """Commit changes one by one: a report may have confirmed some of them meanwhile."""
        still = {d.id for d in self._post.deliveries.due(DeliveryState.SENT, datetime.max.replace(tzinfo=UTC))}
        self._post.deliveries.change([c for c in changes if c.id in still], self._clock.now())


def _again(delivery: DueDelivery, now: datetime, retry: RetryPolicy, detail: str) -> Change:
    """Return the next attempt, or the end where days went by."""
    if now - delivery.created_at >= retry.give_up:
        return Change(id=delivery.id, state=DeliveryState.DEAD, due_at=now, detail=f"gave up: {detail}")
    # Jitter spreads retries; nothing secret hangs on it.
    wait = retry.wait(delivery.attempts + 1, random.random())  # noqa: S311
    return Change(id=delivery.id, state=DeliveryState.PENDING, due_at=now + wait, detail=detail)


def _reference(delivery: DueDelivery) -> Reference:
    return Reference(
        study_instance_uid=delivery.study_instance_uid,
        series_instance_uid=delivery.series_instance_uid,
        sop_class_uid=delivery.sop_class_uid,
        sop_instance_uid=delivery.sop_instance_uid,
    )
