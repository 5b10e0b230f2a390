"""The daemon's deliverer as a process of its own, over results that wait for destinations."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread

from daemon.bootstrap import House as Home
from daemon.config import load
from daemon.ledger.queries import DeliveryView
from demo.ports import HOST, free_port
from tests import houses
from tests.daemons import OVERREAD, overread, stop
from tests.dicom_files import CT, ct_file
from tests.oddities import OddPacs

# What waits has done so since `tests.instances.NOW`.
HASTE = {
    "OVERREAD_DELIVERY__FIRST_RETRY_SECONDS": "0.2",
    "OVERREAD_DELIVERY__REPORT_WAIT_SECONDS": "1",
    "OVERREAD_DELIVERY__GIVE_UP_DAYS": "10000",
}


def site(folder: Path, *places: OddPacs, sop_class: str = CT) -> Path:
    """Write a configuration with these destinations and results that wait for each; return its path."""
    words = [w for p in places for w in ("--destination", f"{p.name}={p.destination.ae_title}@{HOST}:{p.port}")]
    made = overread("init", str(folder), "--port", str(free_port()), *words)
    assert made.returncode == 0, made.stderr
    home = Home(load(folder))
    result = dcmread(ct_file(folder / "ct.dcm", "9.0", sop_class=sop_class))
    result.StudyInstanceUID, result.SeriesInstanceUID = "1.2", "9"
    result.save_as(folder / "ct.dcm")
    content = (folder / "ct.dcm").read_bytes()
    houses.House(home.settings.data.folder, home.engine).completed(content, destinations=tuple(p.name for p in places))
    home.engine.dispose()
    return folder / "overread.toml"


@contextmanager
def delivering(config: Path) -> Iterator[None]:
    """Run the daemon's deliverer until the block ends."""
    with (config.parent / "deliver.log").open("ab") as log:
        process = subprocess.Popen(
            [*OVERREAD, "deliver", "--config", str(config)], stderr=log, env={**os.environ, **HASTE}
        )
    try:
        yield
    finally:
        stop(process)


def deliveries(config: Path) -> dict[str, DeliveryView]:
    """Return the delivery to each destination."""
    home = Home(load(config))
    found = {d.destination: d for d in home.queries.deliveries()}
    home.engine.dispose()
    return found
