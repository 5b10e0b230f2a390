"""A bell wakes who waits for news of the ledger; what becomes of a ring never matters but for the time it saves."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from daemon.bell import Bells, Ear, Stop
from daemon.domain.news import News
from daemon.ledger.engine import telling, writing
from daemon.ledger.pauses import Pauses
from daemon.ledger.tables import PauseRow
from daemon.runtime import Posting, loop
from tests.houses import House
from tests.instances import NOW

# No test waits for so long: a rest ends before, or never.
AGES, PATIENCE = 600.0, 240.0


@pytest.fixture
def bells(tmp_path: Path) -> Bells:
    """The bells of a data folder."""
    return Bells(tmp_path / "bells")


@pytest.fixture
def ear(bells: Bells) -> Iterator[Ear]:
    """An ear for jobs."""
    with bells.heard(Stop(), News.JOB) as made:
        yield made


def test_another_process_ends_a_rest(tmp_path: Path, ear: Ear) -> None:
    """Whoever rings, and whatever becomes of them after that."""
    ring = "import sys; from pathlib import Path; from daemon.bell import Bells, News; Bells(Path(sys.argv[1])).ring"
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    command = [sys.executable, "-c", f"{ring}(News.JOB); {killed}", str(tmp_path / "bells")]
    with subprocess.Popen(command):
        assert ear.wait(AGES)
    assert not ear.wait(0)


def test_a_ring_before_the_rest_is_heard(bells: Bells, ear: Ear) -> None:
    """What is committed while a part looks elsewhere is not overlooked; many rings are one."""
    for _ in range(10_000):
        bells.ring(News.JOB)
    assert ear.wait(AGES)
    assert not ear.wait(0)


def test_all_hear_what_they_listen_for(bells: Bells) -> None:
    """Each ear of any process, whoever heard it first, and no other news."""
    with ExitStack() as open_:
        jobs, either, outputs = (
            open_.enter_context(bells.heard(Stop(), *news))
            for news in ((News.JOB,), (News.STUDY, News.JOB), (News.OUTPUT,))
        )
        bells.ring(News.JOB)
        assert (jobs.wait(0), either.wait(0), outputs.wait(0)) == (True, True, False)
        bells.ring(News.STUDY)
        assert (jobs.wait(0), either.wait(0), outputs.wait(0)) == (False, True, False)


def test_a_stop_ends_every_rest(bells: Bells) -> None:
    """Those that have begun and those that begin later, of ears that hear nothing else, too."""
    stop = Stop()
    with bells.heard(stop, News.JOB) as one, bells.heard(stop) as deaf:
        rests = [threading.Thread(target=ear.wait, args=(AGES,)) for ear in (one, deaf)]
        for rest in rests:
            rest.start()
        stop.set()
        stop.set()
        for rest in rests:
            rest.join(AGES)
            assert not rest.is_alive()
        assert not one.wait(AGES)


def test_a_ring_that_nobody_can_hear_is_nothing(tmp_path: Path, bells: Bells) -> None:
    """Without a folder nothing is made; a pipe or folder in a bell's place, or none, holds nobody up."""
    bells.ring(News.JOB)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "bells").mkdir()
    os.mkfifo(tmp_path / "bells" / News.JOB)
    (tmp_path / "bells" / News.OUTPUT).mkdir()
    for news in (News.JOB, News.OUTPUT):
        bells.ring(news)


def test_an_ear_outlives_its_bell(tmp_path: Path, bells: Bells, ear: Ear) -> None:
    """Where somebody deletes the file, the part polls, and hears the next that listens no worse."""
    (tmp_path / "bells" / News.JOB).unlink()
    bells.ring(News.JOB)
    ear.wait(0)
    assert not ear.wait(0)
    with bells.heard(Stop(), News.JOB) as later:
        bells.ring(News.JOB)
        assert later.wait(0)


def test_who_cannot_listen_polls_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the folder cannot be made, the rest lasts as long as ever."""
    (tmp_path / "bells").touch()
    bells, stop = Bells(tmp_path / "bells"), Stop()
    with caplog.at_level(logging.WARNING), bells.heard(stop, News.JOB) as deaf:
        bells.ring(News.JOB)
        assert not deaf.wait(0)
    assert "only polled" in caplog.text


def test_a_loop_goes_on_when_it_is_rung_for(bells: Bells) -> None:
    """A part that would look again in ten minutes looks at once, and stops at once."""
    stop, looks = Stop(), threading.Semaphore(0)
    with bells.heard(stop, News.JOB) as ear:
        turns = threading.Thread(target=loop, args=("test", looks.release, stop, AGES, ear.wait))
        turns.start()
        for _ in range(3):
            assert looks.acquire(timeout=PATIENCE)
            bells.ring(News.JOB)
        stop.set()
        turns.join(AGES)
    assert not turns.is_alive()


def test_each_destination_hears(bells: Bells) -> None:
    """The thread of each is woken by results, not the first of them alone."""
    stop, seen = Stop(), {name: threading.Semaphore(0) for name in ("a", "b")}

    class Verb:
        def step(self, name: str) -> int:
            seen[name].release()
            return 0

    posting = Posting(lambda: tuple(seen), [Verb()], lambda: bells.heard(stop, News.OUTPUT))
    posting.refresh(stop)
    for _ in range(3):
        assert all(one.acquire(timeout=PATIENCE) for one in seen.values())
        bells.ring(News.OUTPUT)
    stop.set()
    posting.join()


def test_news_is_told_once_it_is_committed(engine: Engine) -> None:
    """Not before, when who looks finds nothing yet, nor where nothing was written."""
    told: list[News] = []
    telling(engine, told.append)
    with writing(engine, News.JOB) as session:
        session.add(PauseRow(activity="jobs", since=NOW, by="x"))
        session.flush()
        assert told == []
    assert told == [News.JOB]

    def again() -> None:
        with writing(engine, News.JOB) as session:
            session.add(PauseRow(activity="jobs", since=NOW, by="x"))

    with pytest.raises(IntegrityError):
        again()
    assert told == [News.JOB]


def test_every_step_of_a_study_is_news(tmp_path: Path, engine: Engine) -> None:
    """An association's end, a job, a result, the end of a pause: whoever waits for it is told."""
    house, told = House(tmp_path, engine), list[News]()
    telling(engine, told.append)
    house.completed(b"report")
    assert told == [News.STUDY, News.JOB, News.OUTPUT]
    Pauses(engine).end()
    assert told[3:] == [News.JOB, News.OUTPUT]
