"""Places for associations: of one process, and of several that share them."""

import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.dimse.seats import Seats, SharedSeats

MR1, MR2, MR3 = ("MR1", "10.0.0.1"), ("MR2", "10.0.0.1"), ("MR1", "10.0.0.2")
Make = Callable[[int, int], Seats]
_OTHER = """
import sys
from pathlib import Path
from daemon.dimse.seats import SharedSeats
seats = SharedSeats(*map(int, sys.argv[2:4]), Path(sys.argv[1]))
"""


@pytest.fixture(params=["one process", "several"])
def make(request: pytest.FixtureRequest, share: Make) -> Make:
    """Return what makes the seats of one process, or of one of several."""
    return share if request.param == "several" else Seats


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Make]:
    """Return what makes the seats of one of several processes, and empties them at the end."""
    made: list[SharedSeats] = []

    def make(places: int, own: int) -> Seats:
        made.append(SharedSeats(places, own, tmp_path))
        return made[-1]

    yield make
    for seats in made:
        for guest in list(seats._held):
            seats.leave(guest)
        assert seats.taken == 0


@contextmanager
def other(folder: Path, program: str, places: int, own: int) -> Iterator[subprocess.Popen[str]]:
    """Run a process that has such seats, up to its first word; what it waits for by `input` it never gets."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OTHER + program, str(folder), str(places), str(own)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_place_is_one_guest_s_until_it_leaves(make: Make) -> None:
    """The limits are named; a guest that has no place may leave, too."""
    seats = make(3, 2)
    assert [seats.take(guest, peer) for guest, peer in enumerate((MR1, MR1, MR2))] == ["", "", ""]
    assert seats.taken == 3
    assert seats.take("late", MR2) == "all 3 places are taken (listener.max_associations)"
    seats.leave("late")
    seats.leave(2)
    assert seats.take("late", MR1) == "it has 2 associations already (listener.max_associations_per_peer)"
    assert [seats.take("late", MR3), seats.taken] == ["", 3]
    seats.leave(0)
    assert seats.take("again", MR1) == ""


def test_a_place_says_nothing_of_who_had_it_before(make: Make) -> None:
    """The name of a longer one does not shine through."""
    seats = make(1, 1)
    for peer in (("A" * 16, "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"), MR1, MR2):
        assert seats.take("guest", peer) == ""
        assert seats.take("next", peer).startswith("all 1 places")
        seats.leave("guest")


def test_the_limits_are_of_all_processes_together(share: Make, tmp_path: Path) -> None:
    """What another holds counts, by peer too, and is free at once when it is killed."""
    seats = share(3, 2)
    assert seats.take("ours", MR1) == ""
    with other(tmp_path, f"assert not seats.take(0, {MR1})\nprint('ready', flush=True)\ninput()", 3, 2) as process:
        assert "max_associations_per_peer" in seats.take("more", MR1)
        assert seats.take("else", MR2) == ""
        assert "max_associations)" in seats.take("third", MR3)
        process.kill()
        process.wait()
        assert seats.take("more", MR1) == ""
        assert seats.taken == 3


def test_no_more_get_in_however_many_ask_at_once(share: Make, tmp_path: Path) -> None:
    """Two processes with eight threads each fill the places, to the last and not beyond."""
    grab = """
from concurrent.futures import ThreadPoolExecutor
print('ready', flush=True)
input()
with ThreadPoolExecutor(8) as pool:
    print(list(pool.map(lambda n: seats.take(n, ('B', str(n))), range(40))).count(''), flush=True)
input()
"""
    seats = share(50, 1)
    with other(tmp_path, grab, 50, 1) as process, ThreadPoolExecutor(8) as pool:
        assert process.stdin
        assert process.stdout
        process.stdin.write("\n")
        process.stdin.flush()
        ours = [limit == "" for limit in pool.map(lambda n: seats.take(n, ("A", str(n))), range(40))]
        assert sum(ours) + int(process.stdout.readline()) == 50


def test_one_passcode_is_tried_at_a_time_by_all(share: Make, tmp_path: Path) -> None:
    """While another process tries one, nobody here gets the turn."""
    seats = share(1, 1)
    with (
        other(tmp_path, "with seats.guess():\n    print('ready', flush=True)\n    input()", 1, 1),
        (tmp_path / "guessing").open("wb") as turn,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with seats.guess():
        pass
