"""The dead-letter list and its replay, as an administrator types them."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.bootstrap import House
from daemon.cli.main import app
from daemon.config import load
from daemon.domain.audit import RESTRICTED_FUNCTION
from daemon.domain.delivery import Circuit, DeliveryState, Selection
from daemon.domain.work import Change
from tests import houses
from tests.instances import NOW

RUNNER = CliRunner()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with one dead delivery to a destination that is not reached."""
    made = RUNNER.invoke(app, ["init", str(tmp_path), "--destination", "pacs=PACS@127.0.0.1:104"])
    assert made.exit_code == 0, made.output
    engine = House(load(tmp_path)).engine
    house = houses.House(tmp_path, engine)
    house.completed(b"one")
    house.deliveries.change([Change(id=1, state=DeliveryState.DEAD, due_at=NOW, detail="it refuses SEG")], NOW)
    house.circuits.keep(Circuit(destination="pacs", failures=3, since=NOW, next_at=NOW, reason="nothing listens"))
    engine.dispose()
    return tmp_path


def at(site: Path) -> tuple[str, str]:
    return "--config", str(site)


def said(site: Path, *arguments: str, code: int = 0) -> str:
    told = RUNNER.invoke(app, [*arguments, *at(site)])
    assert told.exit_code == code, told.output
    return told.output


def test_the_dead_letters_are_listed_shown_and_replayed(site: Path) -> None:
    """Reason in the list, history in show, the number in replay."""
    (dead,) = json.loads(said(site, "deliveries", "list", "--state", "DEAD", "--json"))
    assert dead["detail"] == "it refuses SEG"
    shown = json.loads(said(site, "deliveries", "show", "1"))
    assert [(e["old"], e["new"]) for e in shown["events"]][-1] == ("PENDING", "DEAD")
    assert "0 deliveries" in said(site, "deliveries", "replay", "--destination", "other")
    assert "1 deliveries are PENDING" in said(site, "deliveries", "replay", "--state", "DEAD", "--since", "2000-01-01")
    said(site, "deliveries", "show", "7", code=1)


def test_a_person_accepts_what_nobody_confirmed(site: Path) -> None:
    """UNCONFIRMED only, all or none; who it was stands in the detail and in the audit log, and the study may go."""
    here = House(load(site))
    assert "delivery 1 is not UNCONFIRMED" in str(
        RUNNER.invoke(app, ["deliveries", "accept", "1", *at(site)]).exception
    )
    here.deliveries.replay(Selection(ids=(1,)), NOW)
    for state in (DeliveryState.SENT, DeliveryState.UNCONFIRMED):
        here.deliveries.change([Change(id=1, state=state, due_at=NOW, detail="no report came")], NOW)
    assert "delivery 7 is not" in str(RUNNER.invoke(app, ["deliveries", "accept", "1", "7", *at(site)]).exception)
    assert here.files.freeable(NOW + timedelta(days=9)) == []
    assert "1 deliveries are CONFIRMED" in said(site, "deliveries", "accept", "1")
    person = here.reporter("test").person.user_id
    shown = json.loads(said(site, "deliveries", "show", "1"))
    assert (shown["delivery"]["state"], shown["delivery"]["detail"]) == ("CONFIRMED", f"accepted by {person}")
    last = list(here.trail.chain.lines())[-1].document or {}
    assert (last["type"], person in last["who"]) == (RESTRICTED_FUNCTION.meaning, True)
    assert str(last["what"]).endswith("#deliveries/1']")
    assert len(here.files.freeable(NOW + timedelta(days=9))) == 4
    here.engine.dispose()


@pytest.mark.parametrize("wrong", [(), ("--state", "SENT"), ("--since", "yesterday")], ids=str)
def test_a_replay_of_everything_or_nothing_is_wrong_usage(site: Path, wrong: tuple[str, ...]) -> None:
    """A replay says what it means."""
    said(site, "deliveries", "replay", *wrong, code=2)


def test_a_destination_that_is_not_reached_is_seen(site: Path) -> None:
    """Since when and why, in the list and in the status."""
    (row,) = json.loads(said(site, "destinations", "list", "--json"))
    assert (row["state"], row["failures"], row["reason"]) == ("open", 3, "nothing listens")
    assert row["since"] == NOW.isoformat()
    assert json.loads(said(site, "status", "--json"))["destinations"] == {"open": 1}
    assert "3 failures since" in said(site, "status")


def test_results_that_went_nowhere_are_sent_to_a_destination_of_later(tmp_path: Path) -> None:
    """Made with no destination they are counted, kept and sent when an administrator says so, each once; audited."""
    made = RUNNER.invoke(app, ["init", str(tmp_path)])
    assert made.exit_code == 0, made.output
    here = House(load(tmp_path))
    house = houses.House(tmp_path, here.engine)
    house.completed(b"one", b"two", destinations=())
    assert "2 results go nowhere" in said(tmp_path, "status")
    said(tmp_path, "deliveries", "create", "--destination", "late", "--all", code=1)
    said(tmp_path, "destinations", "add", "late", "LATE@127.0.0.1:104")
    create = ("deliveries", "create", "--destination", "late")
    for wrong in ((), ("--all", "1"), ("--all", "--since", "2000-01-01")):
        said(tmp_path, *create, *wrong, code=2)
    assert "0 deliveries" in said(tmp_path, *create, "--since", "2100-01-01")
    assert "1 deliveries to late are PENDING" in said(tmp_path, *create, "2")
    told = RUNNER.invoke(app, [*create, "1", "2", *at(tmp_path)])
    assert "output 2 is not there" in str(told.exception)
    assert "1 deliveries to late are PENDING" in said(tmp_path, *create, "--all")
    assert "0 deliveries" in said(tmp_path, *create, "--all")
    assert "go nowhere" not in said(tmp_path, "status")
    rows = json.loads(said(tmp_path, "deliveries", "list", "--json"))
    assert sorted((row["output_id"], row["destination"], row["state"]) for row in rows) == [
        (1, "late", "PENDING"),
        (2, "late", "PENDING"),
    ]
    house.places = {"late": here.destinations()["late"]}
    house.clock.at = here.clock.now()
    send, _ = house.post()
    assert send.step("late") == 2
    assert house.states() == ["SENT", "SENT"]
    last = list(here.trail.chain.lines())[-1].document or {}
    assert last["type"] == RESTRICTED_FUNCTION.meaning
    here.engine.dispose()
