"""Limits before real senders: what is too large or too many is refused by its status, and the rest goes on."""

from datetime import timedelta
from pathlib import Path

import pytest
from alembic.config import Config
from sqlalchemy import Engine, select

from alembic import command
from daemon.dimse.listener import Listener, ListenerSettings
from daemon.domain.assembly import Patience
from daemon.domain.reasons import Reason
from daemon.domain.reception import Verdict
from daemon.ledger.intake import Intake
from daemon.ledger.migrate import scripts
from daemon.ledger.queries import Queries
from daemon.ledger.tables import StudyRow
from daemon.services.assemble import Assemble
from daemon.services.receive import Reception
from tests.dicom_files import ct_file
from tests.houses import House
from tests.instances import series
from tests.peers import storescu

pytestmark = pytest.mark.peers


def pushed(house: House, intake: Intake, most_bytes: int, *paths: Path) -> str:
    """Push files by storescu into the house; return what it printed."""
    reception = Reception(house.spool, intake, house.clock, b"salt", most_bytes)
    with Listener(ListenerSettings(ae_title="OVERREAD", port=0, allow_any_caller=True), reception) as listener:
        told = storescu(listener.port, paths)
    return told.stdout + told.stderr


def test_an_instance_that_is_too_large_is_refused_and_the_next_is_stored(
    tmp_path: Path, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """0xA700 to the sender, cause and mend in the log, nothing of it on the disk; the association goes on."""
    house = House(tmp_path, engine)
    large, small = ct_file(tmp_path / "a.dcm", "1.2.3.1", size=1024), ct_file(tmp_path / "b.dcm", "1.2.3.2", size=16)
    told = pushed(house, house.intake, 1 << 20, large, small)
    assert "Refused: OutOfResources" in told
    assert "Received Store Response (Success)" in told
    assert "refused 1.2.3.1" in caplog.text
    assert "larger than 1 MB; raise listener.max_instance_mb" in caplog.text
    assert house.kept() == 1
    assert house.files.kept() == house.spool.sizes()


def test_a_study_of_too_many_instances_is_cut_off_and_answered(
    tmp_path: Path, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """What is over is refused, what came stays, and no part of a study is read; with a higher limit it goes on."""
    house = House(tmp_path, engine)
    house.intake.closed("a1", house.clock.at)
    paths = [ct_file(tmp_path / f"{n}.dcm", f"1.2.3.{n}", size=16) for n in range(1, 5)]
    told = pushed(house, Intake(engine, 3), 1 << 20, *paths)
    assert (told.count("(Success)"), told.count("Refused: OutOfResources")) == (3, 1)
    assert "raise listener.max_study_instances" in caplog.text
    assert house.kept() == 3
    assert house.files.kept() == house.spool.sizes()
    assemble = Assemble(house.jobs, tuple, house.clock, Patience())
    house.clock.at += timedelta(hours=1)
    assert assemble.step() == 1
    (study,) = Queries(engine).studies()
    assert (study.refusal, study.jobs) == (Reason.STUDY_TOO_LARGE, ())
    again = pushed(house, Intake(engine, 4), 1 << 20, *paths)
    assert again.count("(Success)") == 4
    house.clock.at += timedelta(hours=1)
    assert assemble.step() == 1
    (study,) = Queries(engine).studies()
    assert study.refusal == Reason.NO_ELIGIBLE_SERIES
    assert study.instances == 4


def test_a_study_of_too_many_bytes_is_cut_off_and_answered(
    tmp_path: Path, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Once one was refused, even one that would fit is: the study is not whole. With a higher limit it goes on."""
    house = House(tmp_path, engine)
    house.intake.closed("a1", house.clock.at)
    paths = [ct_file(tmp_path / f"{n}.dcm", f"1.2.3.{n}", size=size) for n, size in enumerate((512, 512, 512, 16))]
    total = sum(path.stat().st_size for path in paths)
    told = pushed(house, Intake(engine, most_bytes=total * 5 // 6), 1 << 20, *paths)
    assert (told.count("(Success)"), told.count("Refused: OutOfResources")) == (2, 2)
    assert caplog.text.count("raise listener.max_study_mb") == 2
    assert house.kept() == 2
    assemble = Assemble(house.jobs, tuple, house.clock, Patience())
    house.clock.at += timedelta(hours=1)
    assert assemble.step() == 1
    (study,) = Queries(engine).studies()
    assert (study.refusal, study.jobs) == (Reason.STUDY_TOO_LARGE, ())
    again = pushed(house, Intake(engine, most_bytes=total * 2), 1 << 20, *paths)
    assert again.count("(Success)") == 4
    house.clock.at += timedelta(hours=1)
    assert assemble.step() == 1
    (study,) = Queries(engine).studies()
    assert (study.refusal, study.instances) == (Reason.NO_ELIGIBLE_SERIES, 4)


def test_an_older_ledger_is_told_how_large_its_studies_are(engine: Engine) -> None:
    """The migration adds up what came before it, so that the limit counts that too."""
    instances = series(3)
    for instance in instances:
        Intake(engine).record(instance, "a1")
    config = Config()
    config.set_main_option("script_location", str(scripts()))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0004")
        command.upgrade(config, "head")
    with engine.connect() as connection:
        assert connection.scalar(select(StudyRow.size)) == sum(i.size for i in instances) > 0


def test_what_is_there_already_is_no_more_than_before(tmp_path: Path, engine: Engine) -> None:
    """At the limit a duplicate is success and other bytes of the same UID are one too many."""
    house = House(tmp_path, engine)
    first, other = ct_file(tmp_path / "a.dcm", "1.2.3.1", size=16), ct_file(tmp_path / "b.dcm", "1.2.3.1", size=17)
    house.reception.intake = Intake(engine, 1)
    assert [house.receive(path, "1.2.3.1") for path in (first, first, other)] == [
        Verdict.STORED,
        Verdict.DUPLICATE,
        Verdict.TOO_MANY,
    ]
    assert house.kept() == 1


def test_a_decision_taken_before_the_limit_was_met_is_not_written(tmp_path: Path, engine: Engine) -> None:
    """A study that was read before its first refusal is looked at again."""
    house = House(tmp_path, engine)
    house.reception.intake = Intake(engine, 1)
    house.receive(ct_file(tmp_path / "a.dcm", "1.2.3.1", size=16), "1.2.3.1")
    (read,) = house.jobs.waiting_studies()
    house.receive(ct_file(tmp_path / "b.dcm", "1.2.3.2", size=16), "1.2.3.2")
    assert not house.jobs.settle(read, [], None, house.clock.at)
    assert [study.oversize for study in house.jobs.waiting_studies()] == [True]
