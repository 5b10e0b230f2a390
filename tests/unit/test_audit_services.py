"""What comes in, goes out and is done by hand is told, once, with the right ends and no patient."""

import base64
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from daemon.audit.trail import Trail
from daemon.bootstrap import House
from daemon.cli.main import app
from daemon.config import load
from daemon.domain import audit
from daemon.domain.admission import Caller
from daemon.domain.audit import AuditMessage, Participant, Reporter
from daemon.domain.delivery import Destination, SendOutcome, SendResult
from daemon.domain.output import OutputKind
from daemon.domain.work import DueDelivery
from daemon.ledger.deliveries import Deliveries
from daemon.ledger.intake import Intake
from daemon.services.arrivals import MOST_ALERTS, Arrivals
from daemon.services.departures import Departures
from tests.audit_schema import checked
from tests.instances import NOW, series

RUNNER = CliRunner()
US = Reporter(process=Participant(user_id="host-7"), person=Participant(user_id="operator@host"))
MR1 = Caller(calling_ae="MR1", called_ae="OVERREAD", address="10.0.0.9")
PACS = Destination(name="pacs", ae_title="PACS", host="10.0.0.5", port=104)


class ListedAudit:
    """Keeps messages in memory."""

    def __init__(self) -> None:
        self.messages: list[AuditMessage] = []

    def record(self, messages: Sequence[AuditMessage]) -> None:
        """Keep them."""
        self.messages += messages


class SetClock:
    """A clock that a test sets."""

    at = NOW

    def now(self) -> datetime:
        """Return the time that was set."""
        return self.at


def told(message: AuditMessage) -> tuple[str, dict[str, int], str]:
    """Return who sent, how many by SOP class, and the action of a transfer."""
    return message.participants[0].user_id, dict(message.objects[0].sop_classes), message.action.value


def test_an_association_is_told_when_it_closes(engine: Engine) -> None:
    """One message a study: new instances are created, repeated ones read; then the next begins from nothing."""
    kept = ListedAudit()
    arrivals = Arrivals(Intake(engine), kept, SetClock(), US)
    instances = series(3)
    for association, part in (("a1", instances[:2]), ("a2", instances)):
        arrivals.association_accepted(association, MR1)
        arrivals.opened(association, "MR1", NOW)
        for instance in part:
            arrivals.record(instance, association)
        arrivals.closed(association, NOW)
    sop_class = instances[0].sop_class_uid
    assert [told(m) for m in kept.messages] == [
        ("MR1", {sop_class: 2}, "C"),
        ("MR1", {sop_class: 2}, "R"),
        ("MR1", {sop_class: 1}, "C"),
    ]
    first = kept.messages[0]
    assert (first.participants[0].address, first.participants[0].requestor) == ("10.0.0.9", True)
    assert [o.id for o in first.objects] == [instances[0].study_instance_uid, instances[0].patient_key]


def test_what_was_one_too_many_is_not_told_as_received(engine: Engine) -> None:
    """An instance over the study's limit was not stored, so no transfer counts it."""
    kept = ListedAudit()
    arrivals = Arrivals(Intake(engine, 2), kept, SetClock(), US)
    arrivals.association_accepted("a1", MR1)
    arrivals.opened("a1", "MR1", NOW)
    for instance in series(3):
        arrivals.record(instance, "a1")
    arrivals.closed("a1", NOW)
    assert [told(m) for m in kept.messages] == [("MR1", {series(1)[0].sop_class_uid: 2}, "C")]


def test_what_a_dead_listener_received_is_told_by_the_next(engine: Engine) -> None:
    """The ledger knows what came on associations that never closed; it is told as a failure, and only once."""
    instances = series(3)
    dead = Arrivals(Intake(engine), ListedAudit(), SetClock(), US)
    dead.opened("a1", "MR1", NOW)
    for instance in instances:
        dead.record(instance, "a1")
    kept = ListedAudit()
    alive = Arrivals(Intake(engine), kept, SetClock(), US)
    alive.close_all(NOW)
    alive.close_all(NOW)
    (message,) = kept.messages
    assert told(message) == ("MR1", {instances[0].sop_class_uid: 3}, "C")
    assert message.outcome is audit.Outcome.MINOR


def test_a_flood_of_strangers_does_not_fill_the_log(engine: Engine) -> None:
    """So many alerts a minute are kept; the next minute's first says how many were not."""
    kept, clock = ListedAudit(), SetClock()
    arrivals = Arrivals(Intake(engine), kept, clock, US)
    for _ in range(MOST_ALERTS + 5):
        arrivals.association_rejected(MR1, "association rejected")
    assert len(kept.messages) == MOST_ALERTS
    clock.at = NOW + timedelta(minutes=2)
    arrivals.association_rejected(MR1, "association rejected")
    assert "5 more rejections" in kept.messages[-1].description
    assert kept.messages[-1].event is audit.SECURITY_ALERT


def test_of_several_listeners_each_tells_its_share(engine: Engine) -> None:
    """Together they fill the log no faster than one."""
    kept = ListedAudit()
    arrivals = Arrivals(Intake(engine), kept, SetClock(), US, MOST_ALERTS // 3)
    for _ in range(MOST_ALERTS):
        arrivals.association_rejected(MR1, "association rejected")
    assert len(kept.messages) == MOST_ALERTS // 3


def _due(attempts: int) -> DueDelivery:
    return DueDelivery(
        id=1,
        destination="pacs",
        attempts=attempts,
        created_at=NOW,
        sent_at=None,
        transaction_uid="",
        kind=OutputKind.SEGMENTATION,
        digest="d",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
        sop_instance_uid="1.2.9",
        series_instance_uid="1.2.8",
        study_instance_uid=series(1)[0].study_instance_uid,
    )


@pytest.mark.parametrize(
    ("outcome", "status", "attempts", "indicator"),
    [
        (SendOutcome.STORED, 0, 3, 0),
        (SendOutcome.REFUSED, 0xA900, 0, 8),
        (SendOutcome.RETRY, 0xA700, 3, 4),
        (SendOutcome.RETRY, None, 0, 4),
        (SendOutcome.RETRY, None, 1, None),
    ],
)
def test_each_object_that_went_out_is_told(
    engine: Engine, outcome: SendOutcome, status: int | None, attempts: int, indicator: int | None
) -> None:
    """With its outcome and the study's patient key; but not each knock at a door that stays shut."""
    (instance,) = series(1)
    Intake(engine).record(instance, "a1")
    kept = ListedAudit()
    result = SendResult(sop_instance_uid="1.2.9", outcome=outcome, status=status, detail="its words")
    Departures(Deliveries(engine), kept, SetClock(), US).note(PACS, _due(attempts), result)
    assert [m.outcome.value for m in kept.messages] == ([] if indicator is None else [indicator])
    for message in kept.messages:
        assert [p.user_id for p in message.participants] == ["host-7", "PACS"]
        assert [o.id for o in message.objects] == [instance.study_instance_uid, instance.patient_key]


def test_what_a_person_does_is_told(tmp_path: Path) -> None:
    """Adding and removing a destination, and reading the log, name the person; the messages fit the schema."""
    config = str(tmp_path / "overread.toml")
    for command in (
        ["init", str(tmp_path)],
        ["destinations", "add", "pacs", "PACS@127.0.0.1:104", "--config", config],
        ["destinations", "remove", "pacs", "--config", config],
        ["audit", "list", "--config", config],
    ):
        assert RUNNER.invoke(app, command).exit_code == 0, command
    shown = json.loads(RUNNER.invoke(app, ["audit", "list", "--json", "--config", config]).stdout)
    assert [(row["event"], row["type"]) for row in shown] == [
        ("Audit Log Used", ""),
        ("Security Alert", "Network Configuration"),
        ("Security Alert", "Network Configuration"),
    ]
    for row in shown:
        people = [p.attrib for p in checked(row["message"]).findall("ActiveParticipant")]
        assert [p["UserIsRequestor"] for p in people] == ["true", "false"]


def test_settings_that_changed_between_starts_are_named(tmp_path: Path) -> None:
    """The first start tells nothing, a changed one the names without values, the next nothing again."""
    assert RUNNER.invoke(app, ["init", str(tmp_path), "--allow", "MR1"]).exit_code == 0
    path = tmp_path / "overread.toml"
    House(load(path)).note_settings("listen")
    path.write_text(path.read_text().replace('"MR1"', '"STRANGER"').replace("keep_days = 7", "keep_days = 1"))
    for _ in range(2):
        House(load(path)).note_settings("listen")
    (line,) = House(load(path)).trail.chain.lines()
    message = (line.document or {})["message"]
    detail = checked(message).find(".//ParticipantObjectDetail")
    assert detail is not None
    text = base64.b64decode(detail.attrib["value"]).decode()
    assert text == "changed since the last start: data.keep_days, listener.allowed_callers"
    assert "STRANGER" not in message + (tmp_path / "data" / "audit.settings").read_text()


def test_verify_says_where_the_log_was_changed(tmp_path: Path) -> None:
    """Exit code 0 with the last digest while it holds, 1 with the line once it does not."""
    config = str(tmp_path / "overread.toml")
    assert RUNNER.invoke(app, ["init", str(tmp_path)]).exit_code == 0
    for name in ("one", "two", "three"):
        RUNNER.invoke(app, ["destinations", "add", name, "PACS@127.0.0.1:104", "--config", config])
    held = RUNNER.invoke(app, ["audit", "verify", "--config", config])
    assert (held.exit_code, held.output.startswith("3 lines, the chain holds")) == (0, True)
    log = tmp_path / "data" / "audit.log"
    log.write_text(log.read_text().replace("#destinations/two", "#destinations/six"))
    broken = RUNNER.invoke(app, ["audit", "verify", "--config", config])
    assert broken.exit_code == 1
    assert "line 3" in broken.output


def test_a_log_that_cannot_be_written_stops_no_work(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is an error in the ordinary log, and nothing is raised."""
    Trail(tmp_path / "gone", "s").record([audit.started(US, NOW)])
    assert "could not be kept" in caplog.text
