"""Deliver and confirm: every output to every destination, until the destination vouches for it."""

import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from daemon.clock import Clock
from daemon.domain.delivery import DeliveryState, Destination, RetryPolicy, SendOutcome, SendResult
from daemon.domain.references import Reference
from daemon.domain.statuses import displaced, remark
from daemon.domain.work import Change, DueDelivery
from daemon.errors import RetryableError, UnreachableError
from daemon.services.circuit import Breaker
from daemon.services.departures import Departures
from daemon.services.faults import Point, reach
from daemon.services.ports import Circuits, Courier, Deliveries, Spool
from daemon.uids import Role, derive

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DeliveryRules:
    """How long to try, to wait for a commitment report, and to ask for the destination's word at all."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    report_wait: timedelta = timedelta(seconds=60)
    unconfirmed_after: timedelta = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class Post:
    """What delivering needs of the world; `destinations` are those of now, by name.

    While `paused` says so no destination is called; days go on.
    """

    deliveries: Deliveries
    circuits: Circuits
    spool: Spool
    courier: Courier
    destinations: Callable[[], Mapping[str, Destination]]
    departures: Departures | None = None
    paused: Callable[[], bool] = bool


class Deliver:
    """Sends what is due to one destination; the runtime gives each a thread, so that a dead one holds nothing else."""

    def __init__(self, post: Post, clock: Clock, rules: DeliveryRules) -> None:
        self._post = post
        self._clock = clock
        self._rules = rules
        self._breaker = Breaker(post.circuits, rules.retry, clock)

    def step(self, name: str) -> int:
        """Send what is due to destination `name`; return how many objects it was tried with."""
        due = self._post.deliveries.due(DeliveryState.PENDING, self._clock.now(), to=name)
        destination = self._post.destinations().get(name) if due else None
        if destination is None or self._post.paused():
            return 0
        circuit = self._breaker.get(name)
        if circuit and self._breaker.waits(circuit):
            self._give_up(due, circuit.reason)
            return 0
        # What has failed least goes first, so that an object that breaks associations holds no other.
        ranked = sorted(due, key=lambda d: (d.attempts, d.id))
        return self._send(destination, self._at_hand(ranked[:1] if circuit and circuit.open else ranked))

    def bury(self) -> None:
        """Give up what goes to destinations that are no more, when its days are over."""
        due = self._post.deliveries.due(DeliveryState.PENDING, self._clock.now(), beside=self._post.destinations())
        self._give_up(due, "no destination of that name is configured")

    def _send(self, destination: Destination, due: Sequence[DueDelivery]) -> int:
        answered, failure = False, ""
        for delivery, result in self._results(destination, due):
            reach(Point.OBJECTS_SENT)
            if result.tried:
                if self._post.departures is not None:
                    self._post.departures.note(destination, delivery, result)
                self._settle(destination, delivery, result)
            else:
                self._give_up([delivery], result.detail)
            reach(Point.DELIVERY_RECORDED)
            answered = answered or result.answered
            failure = failure or result.detail
            LOGGER.info("delivery %d to %s: %s", delivery.id, destination.name, result.outcome.value)
        if answered:
            self._breaker.answered(destination.name)
        elif due:
            self._breaker.failed(destination.name, failure)
        return len(due)

    def _results(
        self, destination: Destination, due: Sequence[DueDelivery]
    ) -> Iterator[tuple[DueDelivery, SendResult]]:
        """Yield what became of each; at what nobody foresaw the round ends, and the object at hand was tried."""
        results = self._post.courier.send(destination, [self._post.spool.path(d.digest) for d in due])
        for delivery in due:
            try:
                result = next(results)
            except Exception as error:
                # The edge of the loop: else it would meet that object first for ever, and no other would be sent.
                LOGGER.exception("delivery %d to %s failed unexpectedly", delivery.id, destination.name)
                uid, why = delivery.sop_instance_uid, _unexpected(error)
                yield delivery, SendResult(sop_instance_uid=uid, outcome=SendOutcome.RETRY, status=None, detail=why)
                return
            yield delivery, result

    def _give_up(self, due: Sequence[DueDelivery], why: str) -> None:
        """End those whose days are over; the others wait, with no attempt counted."""
        now, retry = self._clock.now(), self._rules.retry
        over = [d for d in due if retry.spent(d.created_at, now)]
        self._post.deliveries.change([_again(d, now, retry, why) for d in over], now)

    def _at_hand(self, due: Sequence[DueDelivery]) -> list[DueDelivery]:
        """Return what has its file; what lost it is dead with that reason, so that it holds nothing else.

        None has where the spool is in a bucket that does not answer.
        """
        now = self._clock.now()
        try:
            self._post.spool.bring(d.digest for d in due)
        except RetryableError as error:
            self._give_up(due, str(error))
            return []
        here = [d for d in due if self._post.spool.sound(d.digest)]
        detail = "its file is gone from the spool or damaged; restore the spool, then replay it"
        lost = [Change(id=d.id, state=DeliveryState.DEAD, due_at=now, detail=detail) for d in due if d not in here]
        self._post.deliveries.change(lost, now)
        return here

    def _settle(self, destination: Destination, delivery: DueDelivery, result: SendResult) -> None:
        """Commit what became of an attempt; what is refused is replaced where that is configured and was made."""
        now, instead = self._clock.now(), destination.instead(delivery.kind)
        if result.outcome is SendOutcome.REFUSED and instead is not None:
            detail = f"{result.detail}; {instead.value} goes instead"
            change = Change(id=delivery.id, state=DeliveryState.REPLACED, due_at=now, detail=detail)
            if self._post.deliveries.replace(change, instead, now):
                return
        self._post.deliveries.change([self._judge(destination, delivery, result)], now)

    def _judge(self, destination: Destination, delivery: DueDelivery, result: SendResult) -> Change:
        now = self._clock.now()
        if result.outcome is SendOutcome.STORED:
            state, warning = DeliveryState.SENT, result.status or 0
            return Change(id=delivery.id, state=state, due_at=now, detail=result.detail, warning=warning)
        if result.outcome is SendOutcome.REFUSED:
            detail = f"{result.detail}; {_mend(destination, delivery, result)}"
            return Change(id=delivery.id, state=DeliveryState.DEAD, due_at=now, detail=detail)
        return _again(delivery, now, self._rules.retry, result.detail)


class Confirm:
    """Asks destinations to vouch for what was sent: Storage Commitment, else read-back."""

    def __init__(self, post: Post, clock: Clock, rules: DeliveryRules) -> None:
        self._post = post
        self._clock = clock
        self._rules = rules
        self._breaker = Breaker(post.circuits, rules.retry, clock)

    def step(self, name: str) -> int:
        """Pursue what was sent to destination `name`; return how many objects were asked about."""
        sent = self._post.deliveries.due(DeliveryState.SENT, self._clock.now(), to=name)
        destination = self._post.destinations().get(name) if sent else None
        if destination is None or self._post.paused():
            return 0
        circuit = self._breaker.get(name)
        if circuit and self._breaker.waits(circuit):
            self._end(sent, circuit.reason)
            return 0
        return self._pursue(destination, sent)

    def bury(self) -> None:
        """End what went to destinations that are no more, when its days are over."""
        sent = self._post.deliveries.due(DeliveryState.SENT, self._clock.now(), beside=self._post.destinations())
        self._end(sent, "no destination of that name is configured")

    def _pursue(self, destination: Destination, sent: Sequence[DueDelivery]) -> int:
        fresh = [d for d in sent if not d.transaction_uid] if destination.commitment else []
        unknown = self._read_back(destination, [d for d in sent if d not in fresh])
        # No report came and no query was answered: a request that was lost is made again.
        again = unknown if destination.commitment else []
        by_study: dict[str, list[DueDelivery]] = defaultdict(list)
        for delivery in (*fresh, *again):
            by_study[delivery.study_instance_uid].append(delivery)
        for group in by_study.values():
            if self._breaker.waits(self._breaker.get(destination.name)):
                break
            self._ask(destination, group)
        return len(sent)

    def _ask(self, destination: Destination, group: Sequence[DueDelivery]) -> None:
        """Ask to commit; the transaction is in the ledger first, because the report may overtake our return."""
        now = self._clock.now()
        transaction = derive(Role.TRANSACTION, destination.name, now.isoformat(), *(str(d.id) for d in group))
        self._note(group, "asked for storage commitment", transaction)
        reach(Point.COMMITMENT_ASKED)
        try:
            asked = self._post.courier.ask_commitment(destination, transaction, [_reference(d) for d in group])
        except UnreachableError as error:
            self._breaker.failed(destination.name, str(error))
            return
        except RetryableError as error:
            LOGGER.warning("commitment at %s: %s", destination.name, error)
            return
        except Exception:
            # The edge of the loop: what was asked for stands noted, and is asked for again.
            LOGGER.exception("commitment at %s failed unexpectedly", destination.name)
            return
        self._breaker.answered(destination.name)
        if not asked:
            self._read_back(destination, group)

    def _read_back(self, destination: Destination, group: Sequence[DueDelivery]) -> list[DueDelivery]:
        """Settle what the destination lists or does not; return what is still SENT because it cannot be asked."""
        now = self._clock.now()
        if not group:
            return []
        try:
            present = self._post.courier.present(destination, [_reference(d) for d in group])
        except UnreachableError as error:
            self._breaker.failed(destination.name, str(error))
            self._unknown(group, str(error))
            return []
        except RetryableError as error:
            return self._unknown(group, str(error))
        except Exception as error:
            # The edge of the loop: nothing is known of the group, and that ends like any other such case.
            LOGGER.exception("reading back from %s failed unexpectedly", destination.name)
            return self._unknown(group, _unexpected(error))
        self._breaker.answered(destination.name)
        here = [d for d in group if d.sop_instance_uid in present]
        self._change(
            [
                Change(id=d.id, state=DeliveryState.CONFIRMED, due_at=now, detail=f"read back{remark(d.warning)}")
                for d in here
            ]
        )
        reach(Point.CONFIRMED)
        absent = [d for d in group if d.sop_instance_uid not in present]
        patient = [d for d in absent if d.sent_at and now - d.sent_at < self._rules.report_wait]
        soon = now + self._rules.report_wait / 6
        self._change(
            [
                Change(id=d.id, state=DeliveryState.SENT, due_at=soon, detail="not listed by the destination yet")
                for d in patient
            ]
        )
        lost = [d for d in absent if d not in patient]
        self._change([_gone(d, now, self._rules.retry) for d in lost])
        return []

    def _unknown(self, group: Sequence[DueDelivery], why: str) -> list[DueDelivery]:
        """End what days brought no word of; return the others, to be asked about later."""
        over = self._end(group, why)
        waiting = [d for d in group if d not in over]
        self._note(waiting, why)
        return waiting

    def _end(self, group: Sequence[DueDelivery], why: str) -> list[DueDelivery]:
        """End what days brought no word of as UNCONFIRMED, and return it."""
        now = self._clock.now()
        over = [d for d in group if now >= _sent_at(d) + self._rules.unconfirmed_after]
        detail = (
            f"stored, but unconfirmed after {_days(self._rules.unconfirmed_after)}: {why}; look for it there, mend "
            "storage commitment or queries, then replay it"
        )
        self._change([Change(id=d.id, state=DeliveryState.UNCONFIRMED, due_at=now, detail=detail) for d in over])
        return over

    def _note(self, group: Sequence[DueDelivery], detail: str, transaction: str = "") -> None:
        self._change(
            [
                Change(
                    id=d.id, state=DeliveryState.SENT, due_at=self._next(d), detail=detail, transaction_uid=transaction
                )
                for d in group
            ]
        )

    def _next(self, delivery: DueDelivery) -> datetime:
        """Return when to ask again: after half its age, so that even a report that takes a day is waited for."""
        now, sent_at = self._clock.now(), _sent_at(delivery)
        later = now + max(self._rules.report_wait, (now - sent_at) / 2)
        end = sent_at + self._rules.unconfirmed_after
        return min(later, end) if end > now else later

    def _change(self, changes: Sequence[Change]) -> None:
        """Commit changes of what is still SENT: a report may have confirmed some of them meanwhile."""
        self._post.deliveries.change(changes, self._clock.now(), only=DeliveryState.SENT)


def _mend(destination: Destination, delivery: DueDelivery, result: SendResult) -> str:
    """Return what to do about a refusal: of the kind of object, by negotiation, or of this one, by a status."""
    name, replay = destination.name, f"then `overread deliveries replay {delivery.id}`"
    if result.status is None and not destination.url:
        return f"`overread destinations probe {name}` shows what it accepts: let it accept this SOP class, {replay}"
    return f"its own log says why: mend it at {name}, {replay}"


def _gone(delivery: DueDelivery, now: datetime, retry: RetryPolicy) -> Change:
    """Return what follows where the destination does not list what it stored."""
    why = "the destination does not list it"
    if elsewhere := displaced(delivery.warning, why):
        return Change(id=delivery.id, state=DeliveryState.UNCONFIRMED, due_at=now, detail=elsewhere)
    return _again(delivery, now, retry, why)


def _again(delivery: DueDelivery, now: datetime, retry: RetryPolicy, detail: str) -> Change:
    """Return the next attempt, or the end where days went by."""
    if retry.spent(delivery.created_at, now):
        gave_up = f"gave up after {_days(retry.give_up)}: {detail}; mend it, then replay it"
        return Change(id=delivery.id, state=DeliveryState.DEAD, due_at=now, detail=gave_up)
    # Jitter spreads retries; nothing secret hangs on it.
    wait = retry.wait(delivery.attempts + 1, random.random())  # noqa: S311
    return Change(id=delivery.id, state=DeliveryState.PENDING, due_at=now + wait, detail=detail)


def _unexpected(error: Exception) -> str:
    """Return what is said of an error that nobody foresaw; its own words may quote a data set."""
    return f"unexpected {type(error).__name__}; see the log of `overread deliver`"


def _sent_at(delivery: DueDelivery) -> datetime:
    return delivery.sent_at or delivery.created_at


def _days(span: timedelta) -> str:
    return f"{span / timedelta(days=1):g} days"


def _reference(delivery: DueDelivery) -> Reference:
    return Reference(
        study_instance_uid=delivery.study_instance_uid,
        series_instance_uid=delivery.series_instance_uid,
        sop_class_uid=delivery.sop_class_uid,
        sop_instance_uid=delivery.sop_instance_uid,
    )
