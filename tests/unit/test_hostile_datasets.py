"""Data sets that lie: whatever their bytes, a verdict comes back, and only what is promised is kept."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from daemon.domain.reception import Announced, Verdict
from daemon.ledger.engine import connect
from daemon.ledger.files import Files
from daemon.ledger.intake import Intake
from daemon.ledger.migrate import upgrade
from daemon.services.receive import Reception
from daemon.spool.store import Spool
from tests.dicom_files import CT, ct_file, data_set
from tests.instances import NOW
from tests.mutations import CHANGES, Change, changed

UID = "1.2.826.0.1.3680043.8.498.3"
EXPLICIT = "1.2.840.10008.1.2.1"


class Desk:
    """A reception on a real ledger and spool."""

    def __init__(self, folder: Path) -> None:
        self.engine = connect(f"sqlite:///{folder / 'ledger.db'}")
        upgrade(self.engine)
        self.spool, self.files, intake = Spool(folder / "spool", headroom=0), Files(self.engine), Intake(self.engine)
        self._reception = Reception(self.spool, intake, SimpleNamespace(now=lambda: NOW), b"salt")
        intake.opened("a1", "MR1", NOW)

    def take(self, head: bytes, body: bytes) -> Verdict:
        """Receive one object."""
        announced = Announced(
            sop_class_uid=CT,
            sop_instance_uid=UID,
            transfer_syntax_uid=EXPLICIT,
            calling_ae="MR1",
            called_ae="OVERREAD",
            association="a1",
        )
        incoming = self._reception.open(announced)
        incoming.write(head + body)
        return incoming.finish()

    def agrees(self) -> bool:
        """Return whether ledger and spool hold the same files."""
        return set(self.files.kept()) == set(self.spool.sizes())


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One desk for all examples: what one leaves must not hurt the next."""
    made = Desk(tmp_path_factory.mktemp("desk"))
    yield made
    made.engine.dispose()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A CT's Part 10 head and data set."""
    path = ct_file(tmp_path_factory.mktemp("ct") / "ct.dcm", UID, size=4)
    body = data_set(path)
    return path.read_bytes()[: -len(body)], body


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(changes=CHANGES)
def test_changed_data_sets_get_a_verdict(desk: Desk, whole: tuple[bytes, bytes], changes: list[Change]) -> None:
    """Bytes lost, added or changed: stored, conflict or refused; never a fault, never a file without a row."""
    head, body = whole
    assert isinstance(desk.take(head, changed(body, changes)), Verdict)
    assert desk.agrees()


def nested(depth: int) -> Dataset:
    """Return sequences inside sequences."""
    inner = Dataset()
    for _ in range(depth):
        outer = Dataset()
        outer.ReferencedStudySequence = Sequence([inner])
        inner = outer
    return inner


def deep(dataset: Dataset) -> None:
    """Nest 200 sequences."""
    dataset.update(nested(200))


def long(dataset: Dataset) -> None:
    """Give a header value a megabyte."""
    dataset.add_new("ImageComments", "LT", "x" * (1 << 20))


def many(dataset: Dataset) -> None:
    """Give an image type ten thousand values."""
    dataset.ImageType = ["ORIGINAL", *(f"V{n}" for n in range(10_000))]


def foreign(dataset: Dataset) -> None:
    """Name a character set that nobody knows."""
    dataset.SpecificCharacterSet = "ISO_IR 999"


def climbing(dataset: Dataset) -> None:
    """Make the study's UID a path."""
    dataset.add_new("StudyInstanceUID", "UI", "../../../etc/passwd")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("spoil", "verdicts"),
    [
        (deep, {Verdict.STORED, Verdict.MALFORMED}),
        (long, {Verdict.STORED}),
        (many, {Verdict.STORED}),
        (foreign, {Verdict.STORED, Verdict.MALFORMED}),
        (climbing, {Verdict.MALFORMED, Verdict.MISMATCH}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_extremes_get_a_verdict(tmp_path: Path, spoil: object, verdicts: set[Verdict]) -> None:
    """Deep nesting, giant values, unknown character sets, paths as UIDs; what is stored is stored whole."""
    assert callable(spoil)
    path = ct_file(tmp_path / "ct.dcm", UID, size=4)
    dataset = dcmread(path)
    spoil(dataset)
    dataset.save_as(path)
    body = data_set(path)
    desk = Desk(tmp_path)
    assert desk.take(path.read_bytes()[: -len(body)], body) in verdicts
    assert desk.agrees()
    names = [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")]
    assert not any("passwd" in name for name in names)
    desk.engine.dispose()
