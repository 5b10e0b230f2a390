"""How fast results go back on one association: ours against DCMTK's dcmsend and storescu, into storescp.

Run as `python -m benchmarks.send [--instances 200] [--rounds 3]`. Each round runs every sender once, in turn, on the
same files into the same kind of receiver (`storescp +B`, PDUs of 128 KiB); DCMTK's senders with TCP_NODELAY=1. What
counts is the median of the ratios within rounds: over the clock, and over the sender's CPU seconds, which a busy
machine disturbs less. What a sender takes to start and to look at its files is measured by a call to nobody, and taken
off, ours too.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from daemon.dimse.sender import send
from daemon.domain.delivery import Destination, SendOutcome
from demo.ports import HOST, free_port
from demo.programs import system_path
from tests.dicom_files import ct_file
from tests.peers import storescp

SIZES = {"CT slices of 0.5 MB": 512, "small objects of 8 KB": 64}
PDU = "131072"
Command = Callable[[int, Path], Sequence[str]]


def ours(port: int, files: Path) -> Sequence[str]:
    """Return how our sender is run as a process of its own."""
    return [sys.executable, "-m", "benchmarks.send", "--to", str(port), "--files", str(files)]


def dcmsend(port: int, files: Path) -> Sequence[str]:
    """Return how dcmsend is run."""
    return ["dcmsend", "--scan-directories", "--no-uid-checks", "--max-send-pdu", PDU, HOST, str(port), str(files)]


def storescu(port: int, files: Path) -> Sequence[str]:
    """Return how storescu is run."""
    return ["storescu", "+sd", "-R", "--max-send-pdu", PDU, HOST, str(port), str(files)]


SENDERS: Mapping[str, Command] = {"overread": ours, "dcmsend": dcmsend, "storescu": storescu}


def main() -> None:
    """Print rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--to", type=int, help="Send --files to this port, and that is all.")
    parser.add_argument("--files", type=Path)
    options = parser.parse_args()
    if options.to:
        push(options.to, options.files)
        return
    print(
        f"load {os.getloadavg()[0]:.1f}\n\n| objects | sender | per s | ours / theirs | CPU ms each | theirs / ours |"
    )
    print("|---|---|---|---|---|---|")
    for what, side in SIZES.items():
        with tempfile.TemporaryDirectory(prefix="overread-send-") as folder:
            files = Path(folder) / "files"
            files.mkdir()
            for number in range(options.instances):
                ct_file(files / f"{number:05}.dcm", f"1.2.826.0.1.3680043.8.498.6.{number + 1}", side)
            compare(what, files, Path(folder), (options.rounds, options.instances))


def push(port: int, files: Path) -> None:
    """Send all files, as the daemon does."""
    target = Destination(name="peer", ae_title="STORESCP", host=HOST, port=port)
    began, cpu = time.perf_counter(), time.process_time()
    results = list(send(target, sorted(files.iterdir()), "OVERREAD"))
    print(time.perf_counter() - began, time.process_time() - cpu)
    if any(one.outcome is not SendOutcome.STORED for one in results):
        raise SystemExit(1)


def compare(what: str, files: Path, folder: Path, size: tuple[int, int]) -> None:
    """Print a line for each sender."""
    rounds, count = size
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in SENDERS}
    for number in range(rounds):
        for name, command in SENDERS.items():
            with storescp(folder / f"{number}-{name}", "+B", "--max-pdu", PDU) as peer:
                spent[name].append(_spent(command, peer.port, files))
    for name, theirs in spent.items():
        rate, cpu = (statistics.median(one[n] / count for one in theirs) for n in range(2))
        faster, leaner = (
            statistics.median(b[n] / a[n] for a, b in zip(spent["overread"], theirs, strict=True)) for n in range(2)
        )
        print(f"| {what} | {name} | {1 / rate:.0f} | {faster:.2f} | {1000 * cpu:.2f} | {leaner:.2f} |", flush=True)


def _spent(command: Command, port: int, files: Path) -> tuple[float, float]:
    """Return the seconds and CPU seconds of sending alone: less what a call to nobody takes."""
    (seconds, cpu), (idle, idle_cpu) = _run(command(port, files), wanted=0), _run(command(free_port(), files), wanted=1)
    return seconds - idle, cpu - idle_cpu


def _run(command: Sequence[str], wanted: int) -> tuple[float, float]:
    """Return a command's seconds and its CPU seconds: ours says them itself, without Python's start."""
    environment = {**os.environ, "PATH": f"{system_path()}:{os.environ['PATH']}", "TCP_NODELAY": "1"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if min(ended.returncode, 1) != wanted:
        raise SystemExit(f"{command[0]} ended with {ended.returncode}\n{ended.stderr[-1000:]}")
    if command[0] == sys.executable:
        told = ended.stdout.split()
        return float(told[0]), float(told[1])
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
