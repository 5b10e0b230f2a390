"""Real DICOM peers on loopback for tests: Debian's DCMTK and Orthanc, started, awaited and stopped."""

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon.cli.doctor import _INT8
from demo.ports import HOST, free_port, listens
from demo.programs import end, system_path

START_SECONDS = 90.0


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A running DICOM node: where to call it and the folder that it keeps its files in."""

    ae_title: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    http_port: int | None = None
    host: str = HOST

    def rest(self, path: str) -> object:
        """Return what Orthanc's REST API answers to GET `path`, parsed; needs `http=True`."""
        with urllib.request.urlopen(f"http://{self.host}:{self.http_port}{path}", timeout=30) as answer:
            return json.load(answer)

    def rest_bytes(self, path: str) -> bytes:
        """Return what Orthanc's REST API answers to GET `path`, such as `/instances/ID/file`."""
        with urllib.request.urlopen(f"http://{self.host}:{self.http_port}{path}", timeout=30) as answer:
            body: bytes = answer.read()
        return body


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": system_path(), "TCP_NODELAY": "1"}


def need_int8() -> None:
    """Skip the test where the CPU's INT8 arithmetic is not what golden outputs are of: without VNNI sums saturate."""
    if not set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split()) & set(_INT8):
        pytest.skip("this CPU has no VNNI: INT8 models give other bits than the shipped golden outputs")


def need(*programs: str) -> None:
    """Skip the test when a program is not installed."""
    for program in programs:
        if shutil.which(program, path=system_path()) is None:
            pytest.skip(f"{program} is not installed; `make setup` as root installs it")


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Return once `condition` holds; fail the test, naming `what`, when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.02)


@contextmanager
def running_peer(
    command: Sequence[str], port: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends, once it listens on `port`; what it prints goes to `log`."""
    variables = {**_environment(), **(environment or {})}
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=variables)
    try:
        wait_until(lambda: process.poll() is not None or listens(port), START_SECONDS, f"{command[0]} to listen")
        if process.poll() is not None:
            pytest.fail(f"{command[0]} ended at once: {log.read_text(errors='replace')[-2000:]}")
        yield process
    finally:
        end(process, 15)


def _orthanc_defaults(folder: Path, ae_title: str, known: Mapping[str, int]) -> dict[str, object]:
    modalities = {
        title: {"AET": title, "Host": HOST, "Port": port, "AllowStorageCommitment": True}
        for title, port in known.items()
    }
    return {
        "Name": ae_title,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": ae_title,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "DicomCheckModalityHost": True,
        "DicomModalities": modalities,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
    }


@contextmanager
def orthanc(  # noqa: PLR0913 - a test names only what it cares about
    folder: Path,
    *,
    known: Mapping[str, int] | None = None,
    ae_title: str = "ORTHANC",
    port: int | None = None,
    http: bool = False,
    options: Mapping[str, object] | None = None,
) -> Iterator[Peer]:
    """Run an Orthanc that knows the AE titles `known` at their ports on this machine, and no one else.

    Orthanc binds every address; known AEs and REST are tied to this machine: nothing else gets in.

    Args:
        folder: for its storage, database and log; made when missing.
        known: AE title -> DICOM port of those who may store, query and ask for commitment.
        ae_title: what it is called; a wrong called AE title is rejected.
        port: its DICOM port, or a free one.
        http: whether to serve REST, at `Peer.http_port`.
        options: further entries of Orthanc's configuration.
    """
    need("Orthanc")
    folder.mkdir(parents=True, exist_ok=True)
    dicom_port, http_port = port or free_port(), free_port()
    configuration = {
        **_orthanc_defaults(folder, ae_title, known or {}),
        "DicomPort": dicom_port,
        "HttpPort": http_port,
        "HttpServerEnabled": http,
        **(options or {}),
    }
    config_file = folder / "orthanc.json"
    config_file.write_text(json.dumps(configuration, indent=1))
    with running_peer(["Orthanc", "--verbose", str(config_file)], dicom_port, folder / "orthanc.log") as process:
        if http:
            wait_until(lambda: listens(http_port), START_SECONDS, "Orthanc's REST API")
        yield Peer(
            ae_title=ae_title,
            port=dicom_port,
            folder=folder,
            process=process,
            http_port=http_port if http else None,
        )


@contextmanager
def storescp(
    folder: Path,
    *options: str,
    ae_title: str = "STORESCP",
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Peer]:
    """Run DCMTK's storescp; received files land in `folder / "received"`, named by SOP Instance UID."""
    need("storescp")
    received = folder / "received"
    received.mkdir(parents=True, exist_ok=True)
    listening = port or free_port()
    command = [
        "storescp",
        "--aetitle",
        ae_title,
        "-od",
        str(received),
        *(options or ("+xa",)),
        str(listening),
    ]
    with running_peer(command, listening, folder / "storescp.log", environment) as process:
        yield Peer(ae_title=ae_title, port=listening, folder=received, process=process)


@contextmanager
def dcmqrscp(
    folder: Path, *options: str, known: Mapping[str, int] | None = None, ae_title: str = "QRSCP"
) -> Iterator[Peer]:
    """Run DCMTK's dcmqrscp, an archive with C-FIND, no Storage Commitment; `known` are C-MOVE hosts."""
    need("dcmqrscp")
    area = folder / "area"
    area.mkdir(parents=True, exist_ok=True)
    port = free_port()
    hosts = "\n".join(f"{title} = ({title}, {HOST}, {p})" for title, p in (known or {}).items())
    peers = "ANY"
    config_file = folder / "dcmqrscp.cfg"
    config_file.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\n{hosts}\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{ae_title} {area} RW (200, 1024mb) {peers}\nAETable END\n"
    )
    command = ["dcmqrscp", "-c", str(config_file), *options]
    with running_peer(command, port, folder / "dcmqrscp.log") as process:
        yield Peer(ae_title=ae_title, port=port, folder=area, process=process)


def _dcmtk(command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    need(command[0])
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        env=_environment(),
    )


def storescu(
    port: int,
    paths: Sequence[Path],
    *options: str,
    calling_ae: str = "STORESCU",
    called_ae: str = "OVERREAD",
    quiet: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Push files (or folders, walked) with DCMTK's storescu on one association; return how it ended.

    `-R` proposes just the SOP classes of the files: without it SEG and Comprehensive 3D SR are not proposed. `quiet`
    prints nothing of what is sent, which takes time, and ends at the first that is not stored.
    """
    return _dcmtk(
        [
            "storescu", *(() if quiet else ("-v", "-nh")), "-R", "+sd", "+r", "-aet", calling_ae, "-aec", called_ae,
            *options, HOST, str(port), *map(str, paths),
        ],
        300,
    )  # fmt: skip


def echoscu(
    port: int, *options: str, calling_ae: str = "ECHOSCU", called_ae: str = "OVERREAD"
) -> subprocess.CompletedProcess[str]:
    """Verify a node with DCMTK's echoscu; return how it ended."""
    return _dcmtk(["echoscu", "-v", "-aet", calling_ae, "-aec", called_ae, *options, HOST, str(port)], 60)
