"""What went out to destinations, for the audit trail."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from daemon.clock import Clock
from daemon.domain.audit import Action, Outcome, Participant, Reporter, Transfer, transferred
from daemon.domain.delivery import Destination, SendOutcome, SendResult
from daemon.domain.instance import Instance
from daemon.domain.work import DueDelivery
from daemon.services.ports import Audit, Deliveries

_OUTCOMES = {
    SendOutcome.STORED: Outcome.SUCCESS,
    SendOutcome.RETRY: Outcome.MINOR,
    SendOutcome.REFUSED: Outcome.SERIOUS,
}


class Departures:
    """Tells of each object that was sent, and of attempts that failed."""

    def __init__(self, deliveries: Deliveries, audit: Audit, clock: Clock, reporter: Reporter) -> None:
        self._deliveries = deliveries
        self._audit = audit
        self._clock = clock
        self._reporter = reporter

    def by_hand(self, destination: Destination, sent: Sequence[tuple[Instance, SendResult]]) -> None:
        """Tell what a person sent, a message a study and outcome."""
        counts: dict[tuple[str, str, Outcome], Counter[str]] = {}
        for instance, result in sent:
            key = (instance.study_instance_uid, instance.patient_key, _OUTCOMES[result.outcome])
            counts.setdefault(key, Counter())[instance.sop_class_uid] += 1
        told = [
            Transfer(
                source=self._reporter.process,
                destination=node(destination),
                study_instance_uid=study,
                patient_key=patient,
                sop_classes=count,
                action=Action.READ,
                outcome=outcome,
                others=(replace(self._reporter.person, requestor=True),),
            )
            for (study, patient, outcome), count in counts.items()
        ]
        self._audit.record([transferred(transfer, self._clock.now()) for transfer in told])

    def note(self, destination: Destination, delivery: DueDelivery, result: SendResult) -> None:
        """Tell what became of one object, before the ledger is told: ended in between, it is sent and told again.

        Repeated attempts that got no answer are not told: while a destination is down for days nothing is transferred.
        """
        if result.outcome is SendOutcome.RETRY and result.status is None and delivery.attempts:
            return
        outcome = _OUTCOMES[result.outcome]
        transfer = Transfer(
            source=self._reporter.process,
            destination=node(destination),
            study_instance_uid=delivery.study_instance_uid,
            patient_key=self._deliveries.patient_key(delivery.study_instance_uid),
            sop_classes={delivery.sop_class_uid: 1},
            action=Action.READ,
            outcome=outcome,
            description="" if outcome is Outcome.SUCCESS else result.detail,
        )
        self._audit.record([transferred(transfer, self._clock.now())])


def node(destination: Destination) -> Participant:
    """Return a destination as a participant."""
    return Participant(
        user_id=destination.ae_title or destination.url,
        user_name=destination.name,
        ae_title=destination.ae_title,
        address=destination.host or urlsplit(destination.url).hostname or "",
    )
