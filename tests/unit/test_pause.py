"""pause and resume: what is held waits, nothing is lost, and a restart changes nothing."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from daemon.bootstrap import House
from daemon.cli import doctor
from daemon.cli.main import app
from daemon.config import load
from daemon.dimse.listener import TEMPORARY_CONGESTION, Listener, ListenerSettings, Refusal
from daemon.domain.admission import Caller
from daemon.domain.audit import RESTRICTED_FUNCTION
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef
from daemon.domain.pause import Activity
from daemon.errors import OverreadError
from daemon.ledger.pauses import Pauses
from tests import houses
from tests.instances import NOW, series
from tests.receptions import RememberingReception

RUNNER = CliRunner()
LEASE = timedelta(seconds=30)


def test_no_job_is_claimed_while_jobs_are_paused(tmp_path: Path, engine: Engine) -> None:
    """Instances come and jobs are made; none is claimed, not even one whose lease ran out, until the pause ends."""
    house, pauses = houses.House(tmp_path, engine), Pauses(engine)
    pauses.begin([Activity.JOBS], "operator@host", NOW)
    for instance in series(3):
        house.intake.record(instance, "a1")
    job = JobInput(study_instance_uid="1.2", series={"MR": "1.2.5"}, instance_digests=("x",))
    bundle = BundleRef(name="b", version="1", digest="d" * 64)
    assert house.jobs.settle(house.jobs.waiting_studies()[0], [(job, bundle)], None, NOW)
    for at in (NOW, NOW + 2 * LEASE):
        pauses.begin([Activity.JOBS], "operator@host", at)
        assert house.jobs.claim("w", at, LEASE) is None
        assert pauses.end() == [Activity.JOBS]
        assert house.jobs.claim("w", at, LEASE) is not None


def test_no_destination_is_called_while_deliveries_are_paused(tmp_path: Path, engine: Engine) -> None:
    """Neither sent nor asked about; after the pause both go on where they stood."""
    house = houses.House(tmp_path, engine)
    house.completed(b"one")
    held = [True]
    deliver, confirm = house.post(paused=lambda: held[0])
    assert deliver.step("pacs") == 0
    held[0] = False
    assert deliver.step("pacs") == 1
    held[0] = True
    assert confirm.step("pacs") == 0
    assert (house.states(), house.courier.asked) == (["SENT"], [])
    held[0] = False
    assert confirm.step("pacs") == 1
    assert len(house.courier.asked) == 1


def test_reception_that_is_paused_rejects_for_now() -> None:
    """A sender that is welcome is told to come again; a stranger is told that it is one."""
    settings = ListenerSettings(ae_title="OVERREAD", allow_any_caller=True, paused=lambda: True)
    listener = Listener(settings, RememberingReception())
    refusal = listener.admit(object(), Caller(calling_ae="MR1", called_ae="OVERREAD"))  # type: ignore[arg-type]
    assert isinstance(refusal, Refusal)
    assert refusal.rejection == TEMPORARY_CONGESTION


def test_a_pause_is_told_kept_and_ended_by_command(tmp_path: Path) -> None:
    """Both status and doctor show it with its begin, repeating it changes nothing, and both commands are audited."""

    def said(*arguments: str, code: int = 0) -> str:
        told = RUNNER.invoke(app, [*arguments, "--config", str(tmp_path)])
        assert told.exit_code == code, told.output
        return told.output

    assert RUNNER.invoke(app, ["init", str(tmp_path)]).exit_code == 0
    said("pause", "--no-jobs", code=2)
    assert "paused: jobs" in said("pause")
    first = json.loads(said("status", "--json"))["paused"]
    assert "paused: deliveries, jobs, reception" in said("pause", "--deliveries", "--reception")
    shown = json.loads(said("status", "--json"))["paused"]
    assert set(shown) == {"jobs", "deliveries", "reception"}
    assert shown["jobs"] == first["jobs"]
    assert "jobs paused since" in said("status")
    with pytest.raises(OverreadError, match=r"reception since .*; `overread resume` goes on"):
        doctor._pauses(House(load(tmp_path)))
    assert "resumed: deliveries, jobs, reception" in said("resume")
    assert "nothing was paused" in said("resume")
    assert json.loads(said("status", "--json"))["paused"] == {}
    lines = House(load(tmp_path)).trail.chain.lines()
    documents = [line.document for line in lines if line.document]
    assert [d["type"] for d in documents] == [RESTRICTED_FUNCTION.meaning] * 4
    assert "pauses/jobs" in str(documents[0]["what"])
