"""What came in and who was turned away, for the audit trail."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from daemon.clock import Clock
from daemon.domain.admission import Caller
from daemon.domain.audit import Action, AuditMessage, Outcome, Participant, Reporter, Transfer, rejected, transferred
from daemon.domain.instance import Instance
from daemon.domain.reception import KNOWN, REFUSED, Verdict
from daemon.services.ports import Audit, Visits

MOST_ALERTS = 60
ALERT_WINDOW = timedelta(minutes=1)
_INTERRUPTED = "the listener ended during the transfer; the instances counted are those it had acknowledged or recorded"


@dataclass(frozen=True, kw_only=True)
class _Visit:
    """One association: who, and how many instances by (study, patient, action) and SOP class."""

    caller: Caller
    counts: dict[tuple[str, str, Action], Counter[str]] = field(default_factory=dict)


class Arrivals:
    """An intake that also accounts for each association's instances, and the listener's witness.

    What an association brought is told when it closes, a message a study. Where the process ends before, the next
    one tells it from the ledger. Of rejections it tells `alerts` a minute. Each association is served by one thread;
    the association's own counts need no lock.
    """

    def __init__(
        self, intake: Visits, audit: Audit, clock: Clock, reporter: Reporter, alerts: int = MOST_ALERTS
    ) -> None:
        self._intake = intake
        self._audit = audit
        self._clock = clock
        self._reporter = reporter
        self._visits: dict[str, _Visit] = {}
        self._alerts = _Alerts(alerts)

    def association_accepted(self, association: str, caller: Caller) -> None:
        """Remember who came."""
        self._visits[association] = _Visit(caller=caller)

    def association_rejected(self, caller: Caller, reason: str) -> None:
        """Raise an alert, a few a minute: a flood of callers must not fill the disk."""
        now = self._clock.now()
        left_out = self._alerts.admit(now)
        if left_out is None:
            return
        more = f"; {left_out} more rejections were not recorded, because they came too fast" if left_out else ""
        told = f"{reason} (called {caller.called_ae}){more}"
        self._audit.record([rejected(self._reporter, _participant(caller), now, told)])

    def record(self, instance: Instance, association: str) -> Verdict:
        """Record an instance, then count it, unless it was refused."""
        verdict = self._intake.record(instance, association)
        visit = self._visits.get(association)
        if visit is not None and verdict not in REFUSED:
            action = Action.READ if verdict in KNOWN else Action.CREATE
            key = (instance.study_instance_uid, instance.patient_key, action)
            visit.counts.setdefault(key, Counter())[instance.sop_class_uid] += 1
        return verdict

    def opened(self, association: str, calling_ae: str, at: datetime) -> None:
        """Note that an association began."""
        self._visits.setdefault(association, _Visit(caller=Caller(calling_ae=calling_ae)))
        self._intake.opened(association, calling_ae, at)

    def closed(self, association: str, at: datetime) -> None:
        """Tell what came, then note that the association ended: ended in between, it is told again."""
        visit = self._visits.pop(association, None)
        if visit is not None:
            self._audit.record([self._told(visit.caller, key, count, at) for key, count in visit.counts.items()])
        self._intake.closed(association, at)

    def close_all(self, at: datetime, unseen: datetime | None = None) -> None:
        """Tell what came on associations of a former life, or of listeners silent since `unseen`, then end them."""
        counts: dict[tuple[str, str, str, str], Counter[str]] = {}
        for found in self._intake.interrupted(unseen):
            key = (found.association, found.calling_ae, found.study_instance_uid, found.patient_key)
            counts.setdefault(key, Counter())[found.sop_class_uid] += found.instances
        self._audit.record(
            [
                self._told(Caller(calling_ae=calling_ae), (study, patient, Action.CREATE), count, at, _INTERRUPTED)
                for (_, calling_ae, study, patient), count in counts.items()
            ]
        )
        self._intake.close_all(at, unseen)

    def _told(
        self, caller: Caller, key: tuple[str, str, Action], count: Counter[str], at: datetime, fault: str = ""
    ) -> AuditMessage:
        study, patient, action = key
        return transferred(
            Transfer(
                source=_participant(caller, requestor=True),
                destination=self._reporter.process,
                study_instance_uid=study,
                patient_key=patient,
                sop_classes=count,
                action=action,
                outcome=Outcome.MINOR if fault else Outcome.SUCCESS,
                description=fault,
            ),
            at,
        )


class _Alerts:
    """Lets through `most` alerts a window and counts the rest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._since: datetime | None = None
        self._passed = 0
        self._left_out = 0

    def admit(self, now: datetime) -> int | None:
        """Return how many were left out since the last one that passed; None where this one is left out too."""
        with self._lock:
            if self._since is None or not timedelta() <= now - self._since < ALERT_WINDOW:
                self._since, self._passed = now, 0
            if self._passed >= self._most:
                self._left_out += 1
                return None
            self._passed += 1
            left_out, self._left_out = self._left_out, 0
            return left_out


def _participant(caller: Caller, *, requestor: bool = False) -> Participant:
    name = caller.calling_ae or "unknown"
    return Participant(user_id=name, ae_title=caller.calling_ae, address=caller.address, requestor=requestor)
