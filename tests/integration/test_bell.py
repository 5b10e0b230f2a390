"""The bell between real processes: what one commits, a part that would not look for ten minutes sees at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daemon.bell import Stop
from daemon.bootstrap import House
from daemon.config import load
from daemon.domain.news import News
from daemon.runtime import loop
from demo.ports import free_port
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.daemons import init, overread, serving
from tests.peers import storescp, storescu

AGES, PATIENCE = 600.0, 240.0


@contextmanager
def resting(config: Path, *news: News) -> Iterator[threading.Semaphore]:
    """Yield what counts the looks of a part of this process that polls once in ages."""
    stop, looks = Stop(), threading.Semaphore(0)
    with House(load(config)).bells.heard(stop, *news) as ear:
        part = threading.Thread(target=loop, args=("test", looks.release, stop, AGES, ear.wait))
        part.start()
        assert looks.acquire(timeout=PATIENCE)
        try:
            yield looks
        finally:
            stop.set()
            part.join()


def test_each_part_rings_for_the_next(tmp_path: Path) -> None:
    """The listener where an association ends, the worker for jobs and results."""
    port = free_port()
    made = make_brain_mri(StudyRequest(seed=3), tmp_path / "study")
    with storescp(tmp_path / "pacs") as archive:
        config = init(tmp_path / "site", port, archive)
        with (
            serving(tmp_path / "site", port),
            resting(config, News.STUDY) as studies,
            resting(config, News.JOB) as jobs,
            resting(config, News.OUTPUT) as outputs,
        ):
            assert storescu(port, [made.folder]).returncode == 0
            for looks in (studies, jobs, outputs):
                assert looks.acquire(timeout=PATIENCE)


def test_an_administrator_rings(tmp_path: Path) -> None:
    """What a command lets go on goes on at once."""
    with storescp(tmp_path / "pacs") as archive:
        config = init(tmp_path / "site", free_port(), archive)
    assert overread("pause", "--config", str(config)).returncode == 0
    with resting(config, News.JOB) as jobs, resting(config, News.OUTPUT) as outputs:
        assert overread("resume", "--config", str(config)).returncode == 0
        assert jobs.acquire(timeout=PATIENCE)
        assert outputs.acquire(timeout=PATIENCE)
