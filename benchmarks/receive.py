"""How fast and how lean reception is: ours, durable, against Orthanc (default fsync), storescp +B and pynetdicom's.

Run as `python -m benchmarks.receive [--instances 500] [--rounds 3] [--associations 1 4] [--processes 1] [--only WORD]
[--huge-mib 1024]`. Loopback only; each round runs every receiver once on the same files from DCMTK's storescu, one
process of it for each association; what counts is the median of the ratios within rounds, over the associations' time:
what storescu takes to look at its files is measured before and taken off. All senders run with TCP_NODELAY=1 and PDUs
of 128 KiB where the receiver takes them. CPU seconds are of the receiver and what it runs, by the gigabyte; of each
receiver one C-STORE after the other is timed too, by our own sender, which takes a millisecond or two of it.

The peer that promises what we do is `storescp +B` with `benchmarks/synced.c` preloaded: it syncs each file and its
folder before it answers, in its own process; how often it did is counted. It is there where `cc` is.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from benchmarks.percentiles import percentile
from benchmarks.processes import cpu_seconds
from daemon.dimse.part10 import head
from daemon.dimse.sender import send
from daemon.domain.delivery import Destination, SendOutcome
from demo.ports import HOST, free_port
from tests.daemons import OVERREAD, overread
from tests.dicom_files import ct_file
from tests.peers import START_SECONDS, Peer, orthanc, running_peer, storescp, storescu, wait_until

SIZE = 512  # 512 x 512 x 2 bytes is half a megabyte
SINGLE = 100  # files that are sent one after the other
PDU = ("--max-pdu", "131072")
SHIM = Path(__file__).with_name("synced.c")
OURS = "overread, durable"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
EXPLICIT = "1.2.840.10008.1.2.1"


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """Where to send: port and called AE title; `process` receives."""

    port: int
    ae_title: str
    process: int


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What one receiver did in one round: instances per second, CPU seconds by the GB, ms of single C-STOREs."""

    rate: float
    cpu: float
    latencies: list[float]


Start = Callable[[Path], AbstractContextManager[Receiver]]


@contextmanager
def served(folder: Path) -> Iterator[tuple[Receiver, psutil.Process]]:
    """Run our listener in its own process; yield where it listens and the process."""
    command = [sys.executable, "-m", "benchmarks.reception_server", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("no pipes to the listener's process")
        port = int(process.stdout.readline())
        yield Receiver(port=port, ae_title="OVERREAD", process=process.pid), psutil.Process(process.pid)
        process.stdin.close()


@contextmanager
def ours(folder: Path) -> Iterator[Receiver]:
    """Run our listener with its durable reception."""
    with served(folder) as (receiver, _):
        yield receiver


@contextmanager
def several(folder: Path, processes: int) -> Iterator[Receiver]:
    """Run `overread listen` with several processes at its port, until all of them are there."""
    port, config, log = free_port(), folder / "overread.toml", folder / "log"
    made = overread("init", str(folder), "--port", str(port))
    if made.returncode:
        raise SystemExit(made.stderr)
    variables = {"OVERREAD_LISTENER__ALLOW_ANY_CALLER": "true", "OVERREAD_LISTENER__PROCESSES": str(processes)}
    with running_peer([*OVERREAD, "listen", "--config", str(config)], port, log, variables) as process:
        wait_until(lambda: log.read_text().count("listening as AE") >= processes, START_SECONDS, "all listeners")
        yield Receiver(port=port, ae_title="OVERREAD", process=process.pid)


@contextmanager
def orthanc_default(folder: Path) -> Iterator[Receiver]:
    """Run Orthanc as installed: it syncs what it stores."""
    with orthanc(folder, known={"STORESCU": free_port()}) as peer:
        yield _receiver(peer)


def _receiver(peer: Peer) -> Receiver:
    return Receiver(port=peer.port, ae_title=peer.ae_title, process=peer.process.pid)


@contextmanager
def storescp_bit_preserving(folder: Path) -> Iterator[Receiver]:
    """Run storescp +B, which writes what comes and syncs nothing; a process for each association."""
    with storescp(folder, "+B", "--fork", *PDU) as peer:
        yield _receiver(peer)


@contextmanager
def storescp_synced(folder: Path) -> Iterator[Receiver]:
    """Run storescp +B that syncs each file and its folder before it answers.

    Raises:
        SystemExit: it did not sync just what it received.
    """
    folder.mkdir(parents=True)
    library, count = folder / "synced.so", folder / "synced"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, SHIM, "-ldl"], check=True)
    variables = {"LD_PRELOAD": str(library), "SYNCED": str(count)}
    with storescp(folder, "+B", "--fork", *PDU, environment=variables) as peer:
        yield _receiver(peer)
    if count.stat().st_size != len(list(peer.folder.iterdir())):
        raise SystemExit("storescp did not sync just what it received")


@contextmanager
def pynetdicom_storescp(folder: Path) -> Iterator[Receiver]:
    """Run the storescp that comes with pynetdicom, which syncs nothing."""
    folder.mkdir(parents=True)
    port = free_port()
    command = [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-od", str(folder), *PDU]
    with running_peer([*command, "-aet", "STORESCP"], port, folder / "storescp.log") as process:
        yield Receiver(port=port, ae_title="STORESCP", process=process.pid)


PEERS: Mapping[str, Start] = {
    "storescp +B, file and folder synced in its process": storescp_synced,
    "Orthanc, default fsync": orthanc_default,
    "storescp +B, no fsync": storescp_bit_preserving,
    "pynetdicom storescp, no fsync": pynetdicom_storescp,
}


def receivers(processes: int, words: Sequence[str]) -> dict[str, Start]:
    """Return ours and those peers that can be run and whose name has one of `words`; all where there are none."""
    able = {name: start for name, start in PEERS.items() if start is not storescp_synced or shutil.which("cc")}
    chosen = {name: start for name, start in able.items() if not words or any(word in name for word in words)}
    return {OURS: ours if processes == 1 else partial(several, processes=processes), **chosen}


def parted(paths: Sequence[Path], count: int) -> list[Sequence[Path]]:
    """Return the files that each of `count` associations sends."""
    return [paths[start::count] for start in range(count)]


def timed(receiver: Receiver, parts: Sequence[Sequence[Path]]) -> tuple[float, list[int]]:
    """Send each part on an association of its own, all at once; return the seconds and how each sender ended."""

    def sent(part: Sequence[Path]) -> int:
        options = ("--max-send-pdu", "131072")
        return storescu(receiver.port, part, *options, called_ae=receiver.ae_title, quiet=True).returncode

    with ThreadPoolExecutor(len(parts)) as pool:
        began = time.perf_counter()
        ended = list(pool.map(sent, parts))
        return time.perf_counter() - began, ended


def push(start: Start, paths: Sequence[Path], folder: Path, associations: int) -> Pushed:
    """Push all files into a fresh receiver, then some of them one after the other into another."""
    parts = parted(paths, associations)
    with start(folder) as receiver:
        scan, _ = timed(Receiver(port=free_port(), ae_title="NOBODY", process=0), parts)
        cpu = cpu_seconds(receiver.process)
        seconds, ended = timed(receiver, parts)
        spent = cpu_seconds(receiver.process) - cpu
    if any(ended):
        raise SystemExit(f"the push failed: storescu ended with {ended}")
    shutil.rmtree(folder)
    with start(folder) as receiver:
        latencies = list(_latencies(receiver, paths[:SINGLE]))
    shutil.rmtree(folder)
    return Pushed(
        rate=len(paths) / (seconds - scan),
        cpu=spent / (sum(p.stat().st_size for p in paths) / 1e9),
        latencies=latencies,
    )


def _latencies(receiver: Receiver, paths: Sequence[Path]) -> Iterator[float]:
    """Yield how many ms each C-STORE takes on one association; what the association takes is not counted."""
    target = Destination(name="theirs", ae_title=receiver.ae_title, host=HOST, port=receiver.port)
    results = send(target, paths, "STORESCU")
    next(results)
    began = time.perf_counter()
    for one in results:
        if one.outcome is not SendOutcome.STORED:
            raise SystemExit(f"a C-STORE failed: {one.detail}")
        yield 1000 * (time.perf_counter() - began)
        began = time.perf_counter()


def compare(starts: Mapping[str, Start], paths: Sequence[Path], rounds: int, associations: int) -> None:
    """Print rates and ratios."""
    found: dict[str, list[Pushed]] = {name: [] for name in starts}
    for number in range(rounds):
        for name, start in starts.items():
            folder = paths[0].parents[1] / f"{associations}-{number}-{len(name)}"
            found[name].append(push(start, paths, folder, associations))
    for name, theirs in found.items():
        pairs = list(zip(found[OURS], theirs, strict=True))
        rate, cpu = statistics.median(t.rate for t in theirs), statistics.median(t.cpu for t in theirs)
        faster = statistics.median(a.rate / b.rate for a, b in pairs)
        leaner = statistics.median(b.cpu / a.cpu for a, b in pairs)
        single = sorted(ms for t in theirs for ms in t.latencies)
        p50, p99 = single[len(single) // 2], percentile(single, 0.99)
        figures = f"{rate:.0f} | {faster:.2f} | {cpu:.2f} | {leaner:.2f} | {p50:.1f} | {p99:.1f}"
        print(f"| {name} | {_counted(associations)} | {figures} |", flush=True)


def _counted(associations: int) -> str:
    return f"{'one' if associations == 1 else f'with {associations}'}"


def huge_file(path: Path, mebibytes: int) -> Path:
    """Write a multi-frame Enhanced CT whose pixel data are a hole in the file."""
    uid = "1.2.826.0.1.3680043.8.498.99"
    path.write_bytes(head(ENHANCED_CT, uid, EXPLICIT) + _header(uid, mebibytes << 20))
    os.truncate(path, path.stat().st_size + (mebibytes << 20))
    return path


def _header(uid: str, length: int) -> bytes:
    """Return the least data set that is kept: its UIDs, in Explicit VR Little Endian, and the pixels' length."""
    values = (
        (0x0008, 0x0016, ENHANCED_CT),
        (0x0008, 0x0018, uid),
        (0x0020, 0x000D, f"{uid}.1"),
        (0x0020, 0x000E, f"{uid}.2"),
    )
    header = b""
    for group, element, value in values:
        encoded = value.encode() + b"\0" * (len(value) % 2)
        header += group.to_bytes(2, "little") + element.to_bytes(2, "little") + b"UI"
        header += len(encoded).to_bytes(2, "little") + encoded
    return header + b"\xe0\x7f\x10\x00OW\0\0" + length.to_bytes(4, "little")


def measure_memory(folder: Path, mebibytes: int) -> None:
    """Print by how much one huge instance raises the listener's resident memory at its peak."""
    path = huge_file(folder / "huge.dcm", mebibytes)
    small = ct_file(folder / "small.dcm")
    with served(folder / "huge") as (receiver, process):
        target = Destination(name="ours", ae_title=receiver.ae_title, host=HOST, port=receiver.port)
        _must_store(target, small)
        before = process.memory_info().rss
        began = time.perf_counter()
        _must_store(target, path)
        seconds = time.perf_counter() - began
        grown = (_peak(process.pid) - before) / (1 << 20)
    print(f"\n{mebibytes} MiB instance: peak resident memory +{grown:.1f} MiB, {mebibytes / seconds:.0f} MiB/s")
    shutil.rmtree(folder / "huge")


def _must_store(target: Destination, path: Path) -> None:
    (result,) = send(target, [path], "BENCHMARK")
    if result.outcome is not SendOutcome.STORED:
        raise SystemExit(f"{path.name} was not stored: {result.detail}")


def _peak(pid: int) -> int:
    """Return the highest resident size so far, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--processes", type=int, default=1, help="Processes of our listener.")
    parser.add_argument("--only", nargs="+", default=[], help="Peers with one of these words in their name.")
    parser.add_argument("--huge-mib", type=int, default=1024, help="0 leaves the huge instance out.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overread-receive-") as name:
        folder = Path(name)
        files = folder / "files"
        files.mkdir()
        paths = [
            ct_file(files / f"{number:05}.dcm", f"1.2.826.0.1.3680043.8.498.5.{number + 1}", SIZE)
            for number in range(options.instances)
        ]
        print(f"load {os.getloadavg()[0]:.1f}, {options.processes} processes of our listener\n")
        print("| receiver | associations | instances/s | ours / theirs | CPU s/GB | theirs / ours | ms p50 | ms p99 |")
        print("|---|---|---|---|---|---|---|---|")
        for associations in options.associations:
            compare(receivers(options.processes, options.only), paths, options.rounds, associations)
        if options.huge_mib:
            measure_memory(folder, options.huge_mib)


if __name__ == "__main__":
    main()
