"""Two machines over one spool and one ledger: each with a data folder and a clock of its own; real processes, DCMTK."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.bootstrap import House
from daemon.config import load
from daemon.runtime import LISTENING, mark
from demo.ports import free_port
from dicom_fixtures.planes import Layout
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.clocks import WrongClock
from tests.daemons import OVERREAD, init, stop
from tests.dicom_files import ct_file
from tests.houses import aged
from tests.peers import Peer, storescp, storescu, wait_until
from tests.tiny_bundle import make_tiny_bundle
from tests.wires import Fault, wire

pytestmark = pytest.mark.peers
FILES = 8


@contextmanager
def running(part: str, config: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """Run one part of a machine's daemon until the block ends, and yield its process id."""
    with (config.parent / f"{part}.log").open("ab") as log:
        process = subprocess.Popen(
            [*OVERREAD, part, "--config", str(config)], stderr=log, env={**os.environ, **environment}
        )
    try:
        yield process.pid
    finally:
        stop(process)


def arriving(receiver: int, incoming: Path) -> bool:
    """Return whether a process has a file open there, which may have no name yet."""
    found = []
    for handle in Path(f"/proc/{receiver}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(handle.readlink())
    return any(path.is_relative_to(incoming) for path in found)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[tuple[Path, int], ...]]:
    """Return configuration and listener's port of two machines."""
    with storescp(tmp_path / "pacs") as archive:
        yield tuple(machine(tmp_path, name, archive) for name in "ab")


def machine(folder: Path, name: str, archive: Peer) -> tuple[Path, int]:
    """Set one up on what they share; the key that hides patients is the first one's."""
    port = free_port()
    shared = {"ledger_url": f'"sqlite:///{folder / "ledger.db"}"'}
    config = init(folder / name, port, archive, **shared)
    config.write_text(config.read_text().replace("# spool =", f'spool = "{folder / "spool"}"'))
    house = House(load(config))
    house.migrate()
    if name == "a":
        house.salt()
    else:
        shutil.copy(folder / "a/data/patient.key", folder / name / "data/patient.key")
    house.engine.dispose()
    return config, port


def listens(config: Path) -> bool:
    """Return whether a machine's listener runs."""
    return bool(mark(config.parent / "data" / LISTENING))


def test_a_machine_that_starts_sweeps_nothing_of_another_s(
    tmp_path: Path, machines: tuple[tuple[Path, int], ...]
) -> None:
    """Its clock may be days ahead: what the other is receiving stays, is acknowledged, and lies there whole."""
    (first, port), (second, other) = machines
    (tmp_path / "push").mkdir()
    for number in range(FILES):
        ct_file(tmp_path / f"push/{number}.dcm", f"1.2.3.{number}", size=256)
    house, clock = House(load(first)), WrongClock(tmp_path)
    clock.jump(timedelta(days=2))
    stray, _ = house.spool.put(b"nobody's")
    aged(house.spool.path(stray))
    incoming = house.spool.root / "incoming"
    with running("listen", first, {}) as receiver, wire(port) as line, ThreadPoolExecutor(1) as pool:
        wait_until(lambda: listens(first), 90, "the first listener")
        wait_until(lambda: stray not in house.spool.sizes(), 30, "the first to sweep")
        shutil.copy(tmp_path / "push/0.dcm", house.spool.path(stray))
        aged(house.spool.path(stray))
        line.plan(Fault.STALLED, after=300_000)
        push = pool.submit(storescu, line.port, [tmp_path / "push"], quiet=True)
        wait_until(lambda: arriving(receiver, incoming), 60, "a file on its way in")
        with running("listen", second, clock.environment):
            wait_until(lambda: listens(second), 90, "the second listener")
            assert stray not in house.spool.sizes(), "the second has swept, too"
            assert arriving(receiver, incoming), "and left what the first receives"
            line.mend()
            assert push.result().returncode == 0
            assert storescu(other, [tmp_path / "push"], quiet=True).returncode == 0
    assert house.files.kept() == house.spool.sizes()
    assert len(house.files.kept()) == FILES
    house.engine.dispose()


def test_a_study_that_one_machine_received_is_read_by_another(
    tmp_path: Path, machines: tuple[tuple[Path, int], ...]
) -> None:
    """A worker finds every file by its digest, and its results lie where whoever delivers finds them."""
    (first, port), (second, _) = machines
    make_tiny_bundle(tmp_path / "models/brain-mri/0.0.1")
    spacing = (8.0, 6.0, 6.0)
    study = make_brain_mri(
        StudyRequest(seed=3, spacing=spacing, layout=Layout(spacing=spacing, matrix=(32, 32))), tmp_path / "study"
    )
    house, models = House(load(first)), {"OVERREAD_INFERENCE__MODELS": str(tmp_path / "models")}
    with running("listen", first, {}), running("work", second, models):
        wait_until(lambda: listens(first), 90, "the listener")
        assert storescu(port, [study.folder], quiet=True).returncode == 0
        wait_until(lambda: [job.state for job in house.queries.jobs()] == ["COMPLETED"], 120, "the answer")
    outputs = house.queries.outputs()
    assert sorted(output.kind for output in outputs) == ["SEG", "SR"]
    assert all(house.spool.sound(output.digest) for output in outputs)
    house.engine.dispose()
