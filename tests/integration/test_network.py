"""The network between modality, daemon and PACS fails: what was not answered is sent again, nothing is half kept."""

from pathlib import Path

import pytest

from daemon.dimse.listener import Listener, ListenerSettings
from daemon.dimse.requestor import Limits
from daemon.dimse.sender import send
from daemon.domain.delivery import Destination, SendOutcome
from demo.ports import HOST
from tests.dicom_files import ct_file
from tests.peers import storescp, storescu, wait_until
from tests.receptions import FolderReception, RememberingReception
from tests.wires import Fault, wire

# As short as a machine with other work still answers in.
QUICK = Limits(connect_seconds=20, association_seconds=20, answer_seconds=5)
BREAKS = [Fault.CUT, Fault.CLOSED, Fault.STALLED]
# Beyond the association's negotiation and the first object, within the second.
MIDDLE = 60_000


def files(folder: Path) -> list[Path]:
    """Write three CT of 32 KiB and more."""
    return [ct_file(folder / f"{n}.dcm", f"1.2.3.{n}", size=150) for n in range(1, 4)]


@pytest.mark.peers
@pytest.mark.parametrize("fault", BREAKS)
def test_a_broken_wire_to_the_pacs_leaves_the_rest_to_retry(fault: Fault, tmp_path: Path) -> None:
    """What the PACS answered is stored, the rest is RETRY within the time allowed, and goes out once it is mended."""
    paths = files(tmp_path)
    with storescp(tmp_path / "pacs", "+xa", "+B") as pacs, wire(pacs.port) as line:
        there = Destination(name="pacs", ae_title=pacs.ae_title, host=HOST, port=line.port)
        line.plan(fault, after=MIDDLE)
        outcomes = [result.outcome for result in send(there, paths, "OVERREAD", QUICK)]
        assert outcomes[0] is SendOutcome.STORED
        assert outcomes[1:] == [SendOutcome.RETRY] * 2
        line.mend()
        assert [r.outcome for r in send(there, paths, "OVERREAD")] == [SendOutcome.STORED] * 3
        wait_until(lambda: len(list(pacs.folder.iterdir())) == 3, 60, "all three to lie in the PACS, once each")


@pytest.mark.peers
def test_a_slow_wire_to_the_pacs_is_waited_for(tmp_path: Path) -> None:
    """A network that is slow, yet within the time allowed, costs time and nothing else."""
    with storescp(tmp_path / "pacs", "+xa", "+B") as pacs, wire(pacs.port) as line:
        line.plan(Fault.DELAYED, delay=0.02)
        there = Destination(name="pacs", ae_title=pacs.ae_title, host=HOST, port=line.port)
        assert [r.outcome for r in send(there, files(tmp_path), "OVERREAD")] == [SendOutcome.STORED] * 3
        assert line.faults


@pytest.mark.peers
@pytest.mark.parametrize("fault", BREAKS)
def test_a_broken_wire_from_the_modality_keeps_nothing_by_halves(fault: Fault, tmp_path: Path) -> None:
    """Storescu fails, whole objects alone lie in the folder, and the same push succeeds once the wire is mended."""
    paths, folder = files(tmp_path), tmp_path / "kept"
    settings = ListenerSettings(ae_title="OVERREAD", port=0, allow_any_caller=True, network_seconds=5)
    with Listener(settings, FolderReception(folder)) as listener, wire(listener.port) as line:
        line.plan(fault, after=MIDDLE)
        assert storescu(line.port, paths, "-td", "5", "-ta", "5").returncode != 0
        wait_until(lambda: not list(folder.glob(".*.part")), 60, "the half object to go")
        assert [path.name for path in folder.iterdir()] == ["1.2.3.1.dcm"]
        line.mend()
        assert storescu(line.port, paths).returncode == 0
        assert len(list(folder.glob("*.dcm"))) == 3


def test_a_slow_wire_from_the_modality_is_waited_for(tmp_path: Path) -> None:
    """Bytes that trickle in, each within the time allowed, make whole objects."""
    reception = RememberingReception()
    settings = ListenerSettings(ae_title="OVERREAD", port=0, allow_any_caller=True, network_seconds=20)
    with Listener(settings, reception) as listener, wire(listener.port) as line:
        line.plan(Fault.DELAYED, delay=0.02)
        assert storescu(line.port, files(tmp_path)).returncode == 0
    assert [one.finished for one in reception.objects] == [True] * 3
