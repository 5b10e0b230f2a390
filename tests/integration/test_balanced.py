"""Two listeners on hosts of their own behind one HAProxy, with one PostgreSQL and one spool: one node to senders."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import func, select

from daemon.ledger.engine import connect, reading
from daemon.ledger.queries import Queries
from daemon.ledger.tables import AssociationRow, InstanceRow, StudyRow
from demo.ports import HOST, free_port, listens
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_petct
from tests.clusters import cluster
from tests.daemons import OVERREAD, init, results
from tests.hosts import HUB, Host, hosts
from tests.peers import Peer, need, orthanc, running_peer, storescu, wait_until

BALANCER = Path(__file__).parents[2] / "deploy/haproxy.cfg"


@dataclass(frozen=True, kw_only=True)
class Hospital:
    """Two listeners behind `port`, and the rest of the daemon beside the archive."""

    port: int
    url: str
    listeners: list[Host]
    archive: Peer

    def figures(self) -> tuple[int, int, set[str]]:
        """Return how many studies and instances there are, and the listeners that took them."""
        engine = connect(self.url)
        with reading(engine) as session:
            studies = session.scalar(select(func.count()).select_from(StudyRow)) or 0
            instances = session.scalar(select(func.count()).select_from(InstanceRow)) or 0
            took = select(AssociationRow.listener).join(InstanceRow, InstanceRow.association == AssociationRow.id)
            found = (studies, instances, set(session.scalars(took)))
        engine.dispose()
        return found

    def confirmed(self) -> int:
        """Return how many results the archive has, by its own word."""
        engine = connect(self.url)
        count = Queries(engine).counts()["deliveries"].get("CONFIRMED", 0)
        engine.dispose()
        return count


@contextmanager
def _balancer(folder: Path, listeners: list[Host], port: int) -> Iterator[None]:
    """Run HAProxy with the configuration that is shipped, at our addresses."""
    text = BALANCER.read_text(encoding="utf-8").replace("bind 0.0.0.0:11112", f"bind {HOST}:{port}")
    for number, host in enumerate(listeners, 1):
        text = text.replace(f"10.0.0.1{number}:11112", f"{host.address}:{port}")
    config = folder / "haproxy.cfg"
    config.write_text(text)
    checked = subprocess.run(["haproxy", "-c", "-f", str(config)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    with running_peer(["haproxy", "-db", "-f", str(config)], port, folder / "haproxy.log"):
        yield


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """Everything, running."""
    need("haproxy")
    folder, port = tmp_path_factory.mktemp("hospital"), free_port()
    with hosts(2) as listeners, cluster(host=HUB) as server, ExitStack() as stack:
        url = f"postgresql://postgres@{HUB}:{server.port}/{server.ledger()}"
        archive = stack.enter_context(orthanc(folder / "pacs", known={"OVERREAD": port}, http=True))
        config = init(folder / "site", port, archive, ledger_url=f'"{url}"', commitment="false", lease_seconds="20")
        for host in listeners:
            own = config.with_name(f"{host.link}.toml")
            own.write_text(config.read_text().replace(f'host = "{HOST}"', f'host = "{host.address}"', 1))
            command = [*OVERREAD, "listen", "--config", str(own)]
            stack.enter_context(host.running(command, folder / f"{host.link}.log", {}))
        for part in ("work", "deliver"):
            with (folder / f"{part}.log").open("ab") as log:
                process = subprocess.Popen([*OVERREAD, part, "--config", str(config)], stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        for host in listeners:
            wait_until(lambda host=host: listens(port, host.address), 120, f"the listener at {host.address}")  # type: ignore[misc]
        stack.enter_context(_balancer(folder, listeners, port))
        yield Hospital(port=port, url=url, listeners=listeners, archive=archive)


def push(port: int, files: list[Path]) -> None:
    """Send until all are taken."""
    while storescu(port, files, quiet=True).returncode != 0:
        time.sleep(0.2)


def in_halves(port: int, study: StudyTruth) -> list[threading.Thread]:
    """Begin to send a study on two associations at once."""
    files = [path for paths in study.series.values() for path in paths]
    threads = [threading.Thread(target=push, args=(port, files[start::2])) for start in (0, 1)]
    for thread in threads:
        thread.start()
    return threads


def test_a_study_that_comes_by_two_listeners_is_one(hospital: Hospital, tmp_path: Path) -> None:
    """Each takes a half; there is one study with every instance, and one answer."""
    study = make_petct(StudyRequest(seed=7, salt="balanced"), tmp_path)
    for thread in in_halves(hospital.port, study):
        thread.join()
    expected = sum(map(len, study.series.values()))
    studies, instances, took = hospital.figures()
    assert (studies, instances, len(took)) == (1, expected, 2)
    wait_until(lambda: hospital.confirmed() == 2, 240, "the results")
    found = results(hospital.archive, study.study_instance_uid)
    assert {kind: len(ids) for kind, ids in found.items()} == {"SEG": 1, "SR": 1}


def test_a_host_that_is_cut_off_stalls_and_comes_back(hospital: Hospital, tmp_path: Path) -> None:
    """Its senders send again to the other; what it left open holds the study up for two minutes at most."""
    study = make_petct(StudyRequest(seed=7, salt="cut"), tmp_path)
    known = hospital.figures()
    threads = in_halves(hospital.port, study)
    wait_until(lambda: hospital.figures()[1] > known[1], 60, "the push to begin")
    first, second = hospital.listeners
    first.cut()  # packets are only late: TCP sends them again
    time.sleep(0.5)
    first.heal()
    second.cut()
    for thread in threads:
        thread.join()
    expected = sum(map(len, study.series.values()))
    assert hospital.figures()[:2] == (known[0] + 1, known[1] + expected)
    wait_until(lambda: hospital.confirmed() == 4, 400, "the results")
    second.heal()
    found = results(hospital.archive, study.study_instance_uid)
    assert {kind: len(ids) for kind, ids in found.items()} == {"SEG": 1, "SR": 1}
    wait_until(lambda: listens(hospital.port, second.address), 60, "the second listener to be back")
