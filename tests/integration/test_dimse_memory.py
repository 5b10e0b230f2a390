"""An instance far larger than a buffer passes through; it is never whole in memory."""

from pathlib import Path

import psutil
import pytest

from benchmarks.receive import huge_file, served
from daemon.dimse.sender import send
from daemon.domain.delivery import Destination, SendOutcome
from demo.ports import HOST
from tests.dicom_files import ct_file

MEBIBYTES = 300


@pytest.mark.slow
def test_a_huge_instance_leaves_memory_flat(tmp_path: Path) -> None:
    """300 MiB, durably received, raise neither our listener's nor our sender's memory by 100 MiB."""
    huge, small = huge_file(tmp_path / "huge.dcm", MEBIBYTES), ct_file(tmp_path / "small.dcm")
    with served(tmp_path / "listener") as (receiver, process):
        target = Destination(name="ours", ae_title=receiver.ae_title, host=HOST, port=receiver.port)
        peak = 0
        for path in (small, huge):
            before, own = process.memory_info().rss, psutil.Process().memory_info().rss
            (result,) = send(target, [path], "TESTER")
            assert result.outcome is SendOutcome.STORED, result.detail
            peak = _peak_kib(process.pid) * 1024 - before
        assert peak < 100 << 20
        assert psutil.Process().memory_info().rss - own < 100 << 20


def _peak_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
