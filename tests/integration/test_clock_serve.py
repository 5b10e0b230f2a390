"""The clock of a running daemon jumps a day ahead and two days back, while studies come in and are read.

The clock is wrong in the daemon alone: what tells the time of day jumps, what counts seconds goes on, as when an
administrator sets the machine's clock. By `wrong_clock.c`, not libfaketime: that one (0.9.10) breaks Python's
`time.sleep` when it leaves the monotonic clock alone, and when it does not, it makes that clock jump, as none does.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from demo.ports import free_port
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_petct
from tests.clocks import WrongClock
from tests.daemons import asked, counted, init, results, serving
from tests.peers import Peer, orthanc, storescu, wait_until

pytestmark = pytest.mark.peers
DAY = timedelta(days=1)
ANSWER_SECONDS = 150.0


class Site:
    """A daemon by a wrong clock, a PACS, and the studies that are sent."""

    def __init__(self, folder: Path, config: Path, port: int) -> None:
        self._folder, self.config, self._port = folder, config, port
        self.studies: list[StudyTruth] = []

    def made(self) -> StudyTruth:
        """Return a study that nobody has seen."""
        number = len(self.studies)
        self.studies.append(make_petct(StudyRequest(seed=7, salt=f"c{number}"), self._folder / f"study{number}"))
        return self.studies[-1]

    def push(self, study: StudyTruth) -> None:
        """Send it, once."""
        assert storescu(self._port, [study.folder], quiet=True).returncode == 0

    def asked(self, query: str) -> list[Any]:
        """Return what the ledger answers."""
        return asked(self.config, query)

    def answered(self) -> None:
        """Wait until all are."""
        wanted = 2 * len(self.studies)
        wait_until(
            lambda: counted(self.config, "deliveries", "CONFIRMED") == wanted, ANSWER_SECONDS, f"{wanted} results"
        )


@contextmanager
def site(folder: Path, clock: WrongClock) -> Iterator[tuple[Site, Peer]]:
    """Run the daemon by `clock`, and a PACS by the true one."""
    port = free_port()
    with orthanc(folder / "pacs", known={"OVERREAD": port}, http=True) as archive:
        config = init(folder / "site", port, archive, report_wait_seconds="3")
        with serving(folder / "site", port, clock.environment):
            yield Site(folder, config, port), archive


def while_it_is_read(here: Site, jump: Callable[[], None]) -> None:
    """Jump while one study is read, then send another."""
    here.push(here.made())
    query = "SELECT id FROM jobs WHERE state = 'IN PROGRESS'"
    wait_until(lambda: len(here.asked(query)) == 1, 240, "the job to begin")
    jump()
    here.push(here.made())
    here.answered()


def while_it_arrives(here: Site, jump: Callable[[], None]) -> None:
    """Jump in the middle of a study."""
    study, before = here.made(), int(here.asked("SELECT count(*) FROM instances")[0][0])
    with ThreadPoolExecutor(1) as pool:
        push = pool.submit(here.push, study)
        wait_until(lambda: int(here.asked("SELECT count(*) FROM instances")[0][0]) > before, 60, "an instance")
        jump()
        push.result(120)
    here.answered()


def test_every_study_is_answered_once_whatever_the_clock_does(tmp_path: Path) -> None:
    """A day ahead, a day back, another day back: within minutes each study has one SEG and one SR, at one attempt."""
    clock = WrongClock(tmp_path)
    with site(tmp_path, clock) as (here, archive):
        while_it_is_read(here, lambda: clock.jump(DAY))
        while_it_is_read(here, lambda: clock.jump(0 * DAY))
        while_it_arrives(here, lambda: clock.jump(-DAY))
        for study in here.studies:
            found = results(archive, study.study_instance_uid)
            assert {kind: len(ids) for kind, ids in found.items()} == {"SEG": 1, "SR": 1}
        assert here.asked("SELECT state, attempts, deaths FROM jobs") == [("COMPLETED", 1, 0)] * 5
        query = "SELECT study_uid, min(received_at), max(received_at) FROM instances GROUP BY study_uid"
        times = {uid: [datetime.fromisoformat(str(t)) for t in both] for uid, *both in here.asked(query)}
    first, last = zip(*(times[study.study_instance_uid] for study in here.studies), strict=True)
    assert [round((later - earlier) / DAY) for earlier, later in pairwise(first)] == [1, 0, -1, -1]
    assert [round((end - begin) / DAY) for begin, end in zip(first, last, strict=True)] == [0, 0, 0, 0, 1]
