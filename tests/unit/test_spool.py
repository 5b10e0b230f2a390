"""The spool's order of writes: what may be promised is never given up for what is not durable yet."""

import os
import resource
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import Engine

from daemon.domain.reception import Verdict
from daemon.errors import FatalError
from daemon.spool import store
from daemon.spool.flushes import Flushes
from daemon.spool.key import patient_key
from daemon.spool.store import Draft, Spool
from tests.dicom_files import ct_file
from tests.houses import House, aged
from tests.instances import NOW

UID = "1.2.826.0.1.3680043.8.498.3"


class SlowDisk(Executor):
    """Flushes that wait until `spin` is set, and are refused while `refuses`."""

    def __init__(self) -> None:
        self.spin, self.refuses = threading.Event(), False
        self._pool = ThreadPoolExecutor(4)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":  # noqa: ANN401 - as its base
        """Flush later."""

        def flush() -> None:
            assert self.spin.wait(20)
            if self.refuses:
                raise OSError(5, "Input/output error")
            fn(*args, **kwargs)

        return self._pool.submit(flush)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as its base
        """End the threads."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


@pytest.fixture(params=["unnamed", "named"], autouse=True)
def drafts(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Drafts without a name, and those of a disk, such as NFS, on which every file has one."""
    if request.param == "named":
        monkeypatch.setattr(store, "_OPEN_FILES", tmp_path / "none")
    return str(request.param)


@pytest.fixture
def disk() -> Iterator[SlowDisk]:
    """A disk that takes its time."""
    made = SlowDisk()
    yield made
    made.spin.set()
    made.shutdown()


def test_a_copy_takes_the_place_of_a_promised_file_only_when_it_is_durable(tmp_path: Path, disk: SlowDisk) -> None:
    """Sent again, what was acknowledged lies there until the copy is flushed: a loss of power before costs nothing."""
    spool = Spool(tmp_path, headroom=0)
    digest, _ = spool.put(b"promised")
    before = spool.path(digest).stat().st_ino
    draft = Draft(tmp_path / "incoming", tmp_path / "objects", disk)
    draft.write(b"promised")
    keeper = threading.Thread(target=draft.keep)
    keeper.start()
    keeper.join(0.3)
    assert keeper.is_alive()
    assert spool.path(digest).stat().st_ino == before
    disk.spin.set()
    keeper.join(20)
    assert spool.path(digest).stat().st_ino != before


def test_a_copy_that_the_disk_refuses_leaves_the_promised_file(tmp_path: Path, disk: SlowDisk) -> None:
    """Nothing of the copy stays, and what was acknowledged is as it was."""
    spool = Spool(tmp_path, headroom=0)
    digest, _ = spool.put(b"promised")
    disk.refuses = True
    disk.spin.set()
    draft = Draft(tmp_path / "incoming", tmp_path / "objects", disk)
    draft.write(b"promised")
    with pytest.raises(OSError, match="Input/output"):
        draft.settle()
    draft.drop()
    assert spool.sound(digest)
    assert list((tmp_path / "incoming").iterdir()) == []


class Meanwhile:
    """A clock that `happens` something when it is read first: before the facts of a file are read."""

    def __init__(self, happens: Callable[[], None]) -> None:
        self._happens: Callable[[], None] | None = happens

    def now(self) -> datetime:
        """Return the time."""
        happens, self._happens = self._happens, None
        if happens:
            happens()
        return NOW


def test_what_cannot_be_read_now_costs_nobody_else_the_same_bytes(tmp_path: Path, engine: Engine) -> None:
    """Of two associations with one instance the first runs out of descriptors; the second, told success, keeps it."""
    house, limits = House(tmp_path, engine), resource.getrlimit(resource.RLIMIT_NOFILE)
    path, verdicts = ct_file(tmp_path / "ct.dcm", UID), []
    odd = dcmread(path)
    odd.SpecificCharacterSet, odd.PatientID = "ISO_IR 192", "J\u00fcrgen"  # for pydicom, which opens the file
    odd.save_as(path)

    def happens() -> None:
        verdicts.append(house.receive(path, UID))
        spare = os.open(path, os.O_RDONLY)
        os.close(spare)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, limits[1]))

    house.reception.clock = Meanwhile(happens)
    try:
        with pytest.raises(OSError, match="Too many open files"):
            house.receive(path, UID)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert verdicts == [Verdict.STORED]
    (digest,) = house.files.kept()
    assert house.spool.sound(digest)


HOUR = timedelta(hours=1)


def test_a_draft_that_is_not_kept_leaves_nothing(tmp_path: Path, drafts: str) -> None:
    """Dropped, even twice, nothing of it is there; one without a name never was."""
    spool = Spool(tmp_path, headroom=0)
    draft = spool.draft()
    draft.write(b"half")
    assert len(list((tmp_path / "incoming").iterdir())) == (drafts == "named")
    assert draft.path.read_bytes() == b"half"
    draft.drop()
    draft.drop()
    assert list((tmp_path / "incoming").iterdir()) == []
    assert spool.sizes() == {}


def test_of_two_at_once_the_second_waits_until_it_is_durable(tmp_path: Path, disk: SlowDisk) -> None:
    """Both had the same bytes before either had a name: the first may be promised when the second comes."""
    spool = Spool(tmp_path, headroom=0)
    first, second = spool.draft(), Draft(tmp_path / "incoming", tmp_path / "objects", disk)
    for draft in (first, second):
        draft.write(b"the same")
    first.keep()
    kept = first.path.stat().st_ino
    keeper = threading.Thread(target=second.keep)
    keeper.start()
    keeper.join(0.3)
    assert first.path.stat().st_ino == kept
    disk.spin.set()
    keeper.join(20)
    assert second.path.stat().st_ino != kept
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_sweep_goes_by_the_disk_s_clock(tmp_path: Path) -> None:
    """What nobody promised and nobody touched for so long goes; a wrong clock of ours takes nothing that is young."""
    spool = Spool(tmp_path, headroom=0)
    (old, _), (young, _), (kept, _) = map(spool.put, (b"old", b"young", b"kept"))
    left = [tmp_path / "incoming" / f"{number}.part" for number in range(2)]
    for path in left:
        path.touch()
    for path in (spool.path(old), spool.path(kept), left[0]):
        aged(path)
    assert spool.sweep({kept}, HOUR) == 2
    assert spool.sizes().keys() == {young, kept}
    assert list((tmp_path / "incoming").iterdir()) == [left[1]]


def test_what_is_received_anew_during_a_sweep_stays(tmp_path: Path) -> None:
    """It was old when it was looked at, and is not when it is to be deleted; no trace of the sweep is left."""
    spool = Spool(tmp_path, headroom=0)
    digest, _ = spool.put(b"again")
    before = spool.path(digest).stat().st_mtime - 1
    assert not spool._delete(spool.path(digest), before)
    assert spool.sound(digest)
    assert list((tmp_path / "incoming").iterdir()) == []
    assert not spool._delete(spool.path("0" * 64), before)


def test_a_sweep_that_was_killed_costs_nothing(tmp_path: Path) -> None:
    """What it put aside comes back where it is promised, and goes where it is not."""
    spool = Spool(tmp_path, headroom=0)
    (promised, _), (stray, _) = map(spool.put, (b"promised", b"stray"))
    for digest in (promised, stray):
        aged(spool.path(digest))
        spool.path(digest).rename(tmp_path / "incoming" / f"{digest}.swept")
    spool.sweep({promised}, HOUR)
    assert spool.sizes().keys() == {promised}
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_data_folder_has_one_key_however_many_ask(tmp_path: Path) -> None:
    """Eight at once get the same 32 bytes, nothing else is left there, and what is no key is refused."""
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(patient_key, [tmp_path] * 8))
    (key,) = keys
    assert (len(key), [path.name for path in tmp_path.iterdir()]) == (32, ["patient.key"])
    assert (tmp_path / "patient.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "patient.key").write_bytes(b"")
    with pytest.raises(FatalError, match=r"patient\.key .* restore it"):
        patient_key(tmp_path)


def test_a_refused_file_takes_no_other_s_with_it(tmp_path: Path) -> None:
    """Two send the same bytes at once; the first is refused after the second took its place."""
    spool = Spool(tmp_path, headroom=0)
    first, second = spool.draft(), spool.draft()
    for draft in (first, second):
        draft.write(b"the same")
        draft.keep()
    first.drop()
    assert spool.sound(first.digest)
    second.drop()
    assert spool.sound(first.digest), "what was there before stays"


@pytest.mark.parametrize(
    "sizes", [(326, 131066, 131066, 700), (4096, 8192), (1, 1, 1), (5000,), (4095, 1, 4097), (0, 3)]
)
def test_what_comes_in_pieces_is_kept_as_it_came(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    """Whatever lengths the pieces have: all of it can be read at any time, and the digest is of just that."""
    spool, whole = Spool(tmp_path, headroom=0), os.urandom(sum(sizes))
    draft, begin = spool.draft(), 0
    for size in sizes:
        draft.write(memoryview(whole)[begin : begin + size])
        begin += size
    kept = draft.keep()
    assert kept.read_bytes() == whole
    assert spool.sound(draft.digest)
    again, begin = spool.draft(), 0
    for size in sizes:
        again.write(whole[begin : begin + size])
        begin += size
        assert again.path.read_bytes() == whole[:begin]
    again.drop()


def test_a_disk_that_takes_less_at_a_time_is_written_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write may end early, near the end of a disk say: the rest follows."""
    writev = os.writev
    monkeypatch.setattr(os, "writev", lambda file, pieces: writev(file, [b"".join(pieces)[:1000]]))
    spool, whole = Spool(tmp_path, headroom=0), os.urandom(10_000)
    draft = spool.draft()
    draft.write(whole[:4000])
    draft.write(whole[4000:])
    assert draft.keep().read_bytes() == whole


def open_files() -> set[str]:
    """Return the descriptors that are open."""
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_files_that_are_opened_before_are_drafts_like_any_other(tmp_path: Path, drafts: str) -> None:
    """Few are, each is used once, those left over are closed with the spool; where each has a name none is."""
    spool, before = Spool(tmp_path, headroom=0), open_files()
    for _ in range(9):
        spool.prepare()
    ready = open_files() - before
    assert len(ready) == (4 if drafts == "unnamed" else 0)
    assert list((tmp_path / "incoming").iterdir()) == []
    made = [spool.draft() for _ in range(6)]
    for number, draft in enumerate(made):
        draft.write(b"%d" % number)
        draft.keep()
    assert len(spool.sizes()) == 6
    spool.prepare()
    del spool
    assert open_files() == before


def test_a_flush_that_fails_is_heard_of_by_all_who_wait() -> None:
    """And the thread that had it takes the next."""
    disk = Flushes()

    def refuse() -> None:
        raise OSError(5, "Input/output error")

    refused = disk.submit(refuse)
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output"):
            refused.result()
    done: list[int] = []
    for number in range(100):
        disk.submit(done.append, number).result()
    assert done == list(range(100))


def test_flushes_at_once_do_not_wait_for_each_other() -> None:
    """Each has a thread of its own: all meet, which one after the other never could."""
    disk, meeting = Flushes(), threading.Barrier(8, timeout=20)
    for call in [disk.submit(meeting.wait) for _ in range(8)]:
        call.result()


def test_where_no_thread_is_left_who_asks_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer, and is done all the same."""

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    done: list[int] = []
    Flushes().submit(done.append, 1).result()
    assert done == [1]
