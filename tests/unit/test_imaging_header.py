"""A quick look at a header answers as pydicom does, or not at all."""

from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.imaging import facts
from daemon.imaging.facts import Stored, read_facts
from daemon.imaging.header import Element, Kind, glance
from tests.dicom_files import ct_file, shared_folder

STORED = Stored(digest="d" * 64, size=1, received_at=datetime(2026, 1, 1, tzinfo=UTC), patient_salt=b"salt")
PATIENT_ID = 0x0010_0020


def by_pydicom(path: Path) -> object:
    """Return the facts as pydicom alone gives them."""
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(facts._KINDS))
    return facts._instance(header, str(header.file_meta.TransferSyntaxUID), STORED)


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore::UserWarning")  # real files have faults that pydicom warns of
def test_real_headers_give_the_facts_that_pydicom_gives() -> None:
    """Over all the real files there are, whatever their syntax and vendor, the facts are the same."""
    glanced = 0
    for path in sorted(shared_folder().glob("data/**/*")):
        content = path.read_bytes() if path.is_file() else b""
        quick = glance(content[: 1 << 16], facts._WANTED) if content[128:132] == b"DICM" else None
        if quick is not None:
            assert facts._instance(quick, quick.transfer_syntax_uid, STORED) == by_pydicom(path), path
            glanced += 1
    assert glanced > 100


def test_a_plain_header_needs_no_pydicom(tmp_path: Path) -> None:
    """The common case is the quick one."""
    path = ct_file(tmp_path / "ct.dcm", "1.2.3")
    assert glance(path.read_bytes(), facts._WANTED) is not None
    assert read_facts(path, STORED) == by_pydicom(path)


@pytest.mark.parametrize(
    "value", ["Jos\xe9".encode("latin1"), b"\x1b$B", b"A\\B", b"A\0B"], ids=["latin", "iso 2022", "two", "null"]
)
def test_what_pydicom_knows_better_is_left_to_it(tmp_path: Path, value: bytes) -> None:
    """Other character sets and odd values are not guessed at."""
    path = ct_file(tmp_path / "ct.dcm")
    content = path.read_bytes()
    plain = b"\x10\0\x20\0LO\x02\0T1"
    assert plain in content
    even = value + b" " * (len(value) % 2)
    changed = content.replace(plain, plain[:6] + len(even).to_bytes(2, "little") + even)
    wanted = {PATIENT_ID: Element(keyword="PatientID", kind=Kind.TEXT)}
    assert glance(content, wanted) is not None
    assert glance(changed, wanted) is None


@given(st.binary(max_size=300))
def test_noise_is_left_to_pydicom(noise: bytes) -> None:
    """Whatever follows the prefix, the quick look raises nothing."""
    glance(bytes(128) + b"DICM" + noise, {PATIENT_ID: Element(keyword="PatientID")})


@pytest.mark.parametrize("cut", [140, 200, 400, 600])
def test_a_header_that_is_cut_off_is_left_to_pydicom(tmp_path: Path, cut: int) -> None:
    """A glance never takes half a header for a whole one."""
    content = ct_file(tmp_path / "ct.dcm").read_bytes()
    assert glance(content[:cut], facts._WANTED) is None
