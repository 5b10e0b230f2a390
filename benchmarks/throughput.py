"""Studies an hour with the queue full, by one worker and by two, each on one thread.

Run as `python -m benchmarks.throughput [--rounds 1] [--studies 6]`. Studies are received while jobs are paused; the
time runs from `overread resume` to the last result in the PACS (DCMTK's `storescp`). CPU seconds are those of all parts
of the daemon in that time, sending included. One worker and two take turns.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.processes import cpu_seconds
from benchmarks.studies import KINDS
from daemon.bootstrap import House
from daemon.config import load
from daemon.domain.job import JobState
from daemon.domain.output import ALWAYS
from demo.ports import free_port
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_petct
from tests.daemons import init, overread, serving
from tests.peers import storescp, storescu, wait_until

# The sizes that hospitals send, and the demo's head.
NAMES = [name for name, make in KINDS.items() if make is not make_petct]
WORKERS = (1, 2)
HOUR = 3600.0


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--studies", type=int, default=6)
    parser.add_argument("--only", default="", help="studies whose name has this in it")
    options = parser.parse_args()
    print(f"medians of {options.rounds} rounds of {options.studies} studies, load {os.getloadavg()[0]:.1f}\n")
    print(
        "| study | workers | studies/h | by core | times one worker | CPU seconds a study |\n|---|---|---|---|---|---|"
    )
    for name in (name for name in NAMES if options.only in name):
        with tempfile.TemporaryDirectory(prefix="overread-throughput-") as folder:
            made = [
                KINDS[name](StudyRequest(seed=11, salt=f"t{n}"), Path(folder) / str(n)) for n in range(options.studies)
            ]
            taken: dict[int, list[tuple[float, float]]] = {workers: [] for workers in WORKERS}
            for number in range(options.rounds):
                for workers in WORKERS:
                    taken[workers].append(read(made, Path(folder) / f"site-{number}-{workers}", workers))
        clock = {workers: statistics.median(seconds for seconds, _ in taken[workers]) for workers in WORKERS}
        for workers in WORKERS:
            rate = HOUR * options.studies / clock[workers]
            cpu = statistics.median(spent for _, spent in taken[workers]) / options.studies
            faster = clock[WORKERS[0]] / clock[workers]
            row = f"{rate:.0f} | {rate / workers:.0f} | {faster:.2f} | {cpu:.2f}"
            print(f"| {name} | {workers} | {row} |", flush=True)


def read(studies: list[StudyTruth], site: Path, workers: int) -> tuple[float, float]:
    """Return the seconds, and the CPU seconds, that all studies take from the moment in which they may be read."""
    port = free_port()
    with storescp(site.with_suffix(".pacs")) as archive:
        config = init(site, port, archive, workers=str(workers), threads="1", quiet_seconds="1")
        queries = House(load(config)).queries
        _told("pause", config)
        with serving(site, port) as daemon:
            for study in studies:
                if storescu(port, [study.folder]).returncode:
                    raise SystemExit("a study could not be pushed")
            log = site / "serve.log"
            wait_until(lambda: log.read_text(encoding="utf-8").count("models loaded") == workers, 120, "the models")
            wait_until(lambda: queries.counts()["jobs"].get(JobState.SCHEDULED) == len(studies), 120, "all jobs")
            before, results = cpu_seconds(daemon.process.pid), len(ALWAYS) * len(studies)
            _told("resume", config)
            began = time.perf_counter()
            wait_until(lambda: sum(1 for _ in archive.folder.iterdir()) == results, 1800, "all results")
            return time.perf_counter() - began, cpu_seconds(daemon.process.pid) - before


def _told(command: str, config: Path) -> None:
    if overread(command, "--config", str(config)).returncode:
        raise SystemExit(f"`overread {command}` failed")


if __name__ == "__main__":
    main()
