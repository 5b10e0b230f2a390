"""Several listener processes at one port: to senders one node, and none of them is missed when it dies."""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from pydicom import dcmread
from pynetdicom import build_context
from pynetdicom.association import Association
from sqlalchemy import select

from daemon.bootstrap import House
from daemon.config import load
from daemon.dimse import requestor
from daemon.dimse.port import bound
from daemon.domain.delivery import Destination
from daemon.errors import RetryableError
from daemon.ledger.engine import reading
from daemon.ledger.tables import AssociationRow, InstanceRow
from daemon.runtime import LISTENING, mark
from demo.ports import HOST, free_port, listens
from dicom_fixtures.planes import Layout
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.daemons import OVERREAD, alive, init, overread, serving, stop
from tests.dicom_files import CT, ct_file
from tests.peers import Peer, storescp, storescu, wait_until
from tests.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.peers
MR = "1.2.840.10008.5.1.4.1.1.4"
PUSHED = 200


@dataclass(frozen=True, kw_only=True)
class Site:
    """A daemon whose listener is several processes, and its house as this process sees it."""

    house: House
    port: int
    process: subprocess.Popen[bytes]

    def open(self) -> dict[str, str]:
        """Return the associations that stand open, and the listener of each."""
        with reading(self.house.engine) as session:
            found = select(AssociationRow.id, AssociationRow.listener).where(AssociationRow.closed_at.is_(None))
            return {row.id: row.listener for row in session.execute(found)}

    def took(self) -> list[str]:
        """Return the listener that each instance came to."""
        with reading(self.house.engine) as session:
            joined = select(AssociationRow.listener).join(InstanceRow, InstanceRow.association == AssociationRow.id)
            return list(session.scalars(joined))

    def part(self, listener: str) -> psutil.Process | None:
        """Return the process that the ledger calls so, while it runs."""
        number = next((n for n in "23" if listener.endswith(f" {n}")), "1")
        for child in psutil.Process(self.process.pid).children():
            if alive(child) and child.cmdline()[3:6] == ["listen", "--process", number]:
                return child
        return None

    def listens(self, listener: str) -> bool:
        """Return whether the kernel deals that process associations."""
        part = self.part(listener)
        return part is not None and any(one.status == psutil.CONN_LISTEN for one in part.net_connections("tcp"))

    def one_at_each(self) -> dict[str, Association]:
        """Return an association of STORESCU at each of two listeners: asked for again until the kernel deals so."""
        kept: dict[str, Association] = {}
        while len(kept) < 2:
            known = self.open()
            association = associate(self.port)
            assert association.is_established
            wait_until(lambda known=known: len(self.open()) > len(known), 60, "the association in the ledger")  # type: ignore[misc]
            (name,) = self.open().keys() - known.keys()
            listener = self.open()[name]
            if listener in kept:
                association.release()
                wait_until(lambda known=known: self.open() == known, 60, "its end in the ledger")  # type: ignore[misc]
            else:
                kept[listener] = association
        return kept


def associate(port: int, calling_ae: str = "STORESCU") -> Association:
    """Return what pynetdicom's requestor made of asking for an association."""
    contexts = [build_context(sop_class, "1.2.840.10008.1.2.1") for sop_class in (CT, MR)]
    association = requestor.RequestingEntity(ae_title=calling_ae).associate(
        HOST, port, contexts=contexts, ae_title="OVERREAD"
    )
    requestor.keep_answers(association)
    return association


def refusal(port: int, calling_ae: str) -> str:
    """Return why no association comes about."""
    there = Destination(name="self", ae_title="OVERREAD", host=HOST, port=port)
    with (
        pytest.raises(RetryableError) as caught,
        requestor.association(there, calling_ae, [build_context(CT, "1.2.840.10008.1.2.1")]),
    ):
        pytest.fail("it came about")
    return str(caught.value)


def store(association: Association, path: Path) -> bool:
    """Send a file; return whether it was acknowledged."""
    return bool(association.send_c_store(dcmread(path)).get("Status", -1) == 0)


def push(port: int, paths: list[Path]) -> None:
    """Send on an association of its own, again until all are taken."""
    wait_until(lambda: storescu(port, paths, quiet=True).returncode == 0, 120, f"{len(paths)} files to be taken")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """A PACS that results go to."""
    with storescp(tmp_path_factory.mktemp("pacs")) as made:
        yield made


@contextmanager
def receiving(folder: Path, archive: Peer, **keys: str) -> Iterator[Site]:
    """Run `overread listen` with two processes until the block ends."""
    port = free_port()
    config = init(folder, port, archive, **{"processes": "2", **keys})
    with (folder / "listen.log").open("ab") as log:
        process = subprocess.Popen([*OVERREAD, "listen", "--config", str(config)], stderr=log)
    site = Site(house=House(load(config)), port=port, process=process)
    try:
        wait_until(lambda: process.poll() is not None or _both_listen(folder), 120, "both listeners")
        assert process.poll() is None, (folder / "listen.log").read_text()[-2000:]
        yield site
    finally:
        stop(process)
        site.house.engine.dispose()


def _both_listen(folder: Path) -> bool:
    return (folder / "listen.log").read_text().count("listening as AE OVERREAD") == 2


def test_limits_hold_for_all_processes_together(tmp_path: Path, archive: Peer) -> None:
    """A peer with an association at each has its two; of three places one is left for another peer."""
    limits = {"max_associations": "3", "max_associations_per_peer": "2", "allow_any_caller": "true"}
    with receiving(tmp_path, archive, **limits) as site:
        held = site.one_at_each()
        assert "local limit exceeded" in refusal(site.port, "STORESCU")
        other = associate(site.port, "OTHER")
        assert other.is_established
        assert "local limit exceeded" in refusal(site.port, "THIRD")
        log = (tmp_path / "listen.log").read_text()
        assert "it has 2 associations already" in log
        assert "all 3 places are taken" in log
        first, second = held.values()
        first.release()
        wait_until(lambda: len(site.open()) == 2, 60, "its place to be free")
        third = associate(site.port, "THIRD")
        assert third.is_established
        for association in (second, other, third):
            association.release()


def test_a_process_that_is_killed_is_not_missed(tmp_path: Path, archive: Peer) -> None:
    """What it acknowledged is kept, the other goes on; started again it ends its own associations, and no other's."""
    (tmp_path / "push").mkdir()
    paths = [ct_file(tmp_path / f"push/{number}.dcm", f"1.2.3.{number}", size=128) for number in range(PUSHED)]
    mine = [ct_file(tmp_path / f"{number}.dcm", f"1.2.4.{number}") for number in range(3)]
    with receiving(tmp_path / "site", archive) as site, ThreadPoolExecutor(2) as pool:
        spool, files = site.house.spool, site.house.files
        (first, dying), (second, living) = site.one_at_each().items()
        held = {listener: name for name, listener in site.open().items()}
        assert store(dying, mine[0])
        assert store(living, mine[1])
        pushes = [pool.submit(push, site.port, paths[start::2]) for start in (0, 1)]
        wait_until(lambda: len(spool.sizes()) > 20, 60, "the pushes to begin")
        victim = site.part(first)
        assert victim
        victim.kill()
        assert mark(tmp_path / "site/data" / LISTENING) == f"{HOST}:{site.port}"
        wait_until(lambda: held[first] not in site.open(), 120, "its association to be ended")
        assert site.open()[held[second]] == second
        assert store(living, mine[2])
        assert len(site.house.files.kept()) >= len(mine)
        for pushed in pushes:
            pushed.result()
        again = site.part(first)
        assert again
        assert again.pid != victim.pid
        living.release()
        assert len(files.kept()) == len(paths) + len(mine)
        assert files.kept() == spool.sizes()
        assert all(spool.sound(digest) for digest in files.kept())
    log = (tmp_path / "site/data/audit.log").read_text()
    assert "the listener ended during the transfer" in log
    assert "ended with -9; starting it again" in (tmp_path / "site/listen.log").read_text()


def test_told_to_stop_each_serves_what_is_under_way(tmp_path: Path, archive: Peer) -> None:
    """No new association gets in, and those at either process go on to their end."""
    path = ct_file(tmp_path / "one.dcm")
    with receiving(tmp_path / "site", archive, stop_seconds="100") as site:
        held = site.one_at_each().values()
        site.process.terminate()
        wait_until(lambda: not listens(site.port), 60, "the port to close")
        assert all(store(association, path) for association in held)
        for association in held:
            association.release()
        assert site.process.wait(120) == 0
    assert (tmp_path / "site/listen.log").read_text().count("listener stopped, 0 associations left over") == 2


def test_another_daemon_at_the_port_is_refused(tmp_path: Path, archive: Peer) -> None:
    """Of the same user, with one process or several, the same configuration or another: all get a clear line."""
    with receiving(tmp_path / "first", archive) as site:
        configs = [tmp_path / "first"]
        configs += [init(tmp_path / n, site.port, archive, processes=n).parent for n in ("1", "2")]
        for config in configs:
            _refused(config, site.port)


@pytest.mark.parametrize("shared", [False, True])
def test_a_foreign_server_at_the_port_is_told_of(tmp_path: Path, archive: Peer, shared: bool) -> None:  # noqa: FBT001 - a parameter
    """Also where it would share the port with us."""
    with bound(HOST, free_port(), shared=shared) as theirs:
        port = theirs.getsockname()[1]
        _refused(init(tmp_path, port, archive, processes="2"), port)


def _refused(config: Path, port: int) -> None:
    told = overread("listen", "--config", str(config))
    assert told.returncode == 1
    assert f"cannot listen on {HOST}:{port}: Address already in use; change host or port" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_process_by_hand_is_refused(tmp_path: Path, archive: Peer) -> None:
    """Two of one number would end each other's associations."""
    config = init(tmp_path, free_port(), archive, processes="2")
    told = overread("listen", "--process", "2", "--config", str(config))
    assert told.returncode == 2
    assert "run `overread listen`" in " ".join(told.stderr.replace("│", " ").split())


def test_a_study_that_comes_by_several_processes_is_answered_once(tmp_path: Path, archive: Peer) -> None:
    """Parts of it on many associations at once become one study with every instance, and one SEG and one SR."""
    make_tiny_bundle(tmp_path / "models/brain-mri/0.0.1")
    spacing = (8.0, 6.0, 6.0)
    layout = Layout(spacing=spacing, matrix=(32, 32))
    study = make_brain_mri(StudyRequest(seed=3, spacing=spacing, layout=layout), tmp_path / "study")
    files = [path for paths in study.series.values() for path in paths]
    port, environment = free_port(), {"OVERREAD_INFERENCE__MODELS": str(tmp_path / "models")}
    config = init(tmp_path / "site", port, archive, processes="3")
    with serving(tmp_path / "site", port, environment) as daemon, ThreadPoolExecutor(4) as pool:
        site = Site(house=House(load(config)), port=port, process=daemon.process)
        try:
            _answered(site, archive, files, lambda paths: pool.submit(push, port, paths).result)
        finally:
            site.house.engine.dispose()


def _answered(site: Site, archive: Peer, files: list[Path], send: Callable[[list[Path]], Callable[[], None]]) -> None:
    wait_until(lambda: all(map(site.listens, ("1", " 2", " 3"))), 60, "three listeners")
    # An association that carried some of it and stands open: the study is not complete before all is sent.
    first = associate(site.port)
    assert store(first, files[0])
    sent = [send([path]) for path in files]
    for done in sent:
        done()
    first.release()
    house = site.house
    wait_until(lambda: [job.state for job in house.queries.jobs()] == ["COMPLETED"], 240, "the answer")
    wait_until(lambda: len(list(archive.folder.iterdir())) == 2, 120, "its results at the archive")
    (found,) = house.queries.studies()
    assert found.instances == len(files)
    assert sorted(output.kind for output in house.queries.outputs()) == ["SEG", "SR"]
    assert len(set(site.took())) >= 2
