"""The targets of `make fuzz`, over what they begin with; and what fuzzing has found."""

from pathlib import Path

import pytest
from pydicom import dcmread

from daemon.dimse.notices import decode_notice
from daemon.dimse.reports import decode_report
from daemon.domain.reasons import Reason
from daemon.errors import RefusedError, UnprocessableError
from daemon.imaging.facts import Stored, look, read_facts
from daemon.imaging.read import read_series
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.dicom_files import ct_file
from tests.fuzzing import SYNTAXES, TARGETS
from tests.instances import NOW
from tests.sources import COARSE


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_target_begins_with_breaks_no_promise(tmp_path: Path, name: str) -> None:
    """Whole inputs, each of them cut short, and one with its octets reversed."""
    target = TARGETS[name](tmp_path)
    assert target.seeds
    for seed in target.seeds:
        for data in (seed, seed[: len(seed) * 2 // 3], seed[::-1]):
            target.take(data)


@pytest.mark.parametrize("context_id", [0, 2, 254])
def test_a_presentation_context_of_an_even_number_is_the_peers_fault(tmp_path: Path, context_id: int) -> None:
    """The association is aborted as after any PDU that cannot be read, not by a fault of ours (PS3.8 9.3.2.2)."""
    target = TARGETS["association"](tmp_path)
    data = bytearray(target.seeds[0])
    at = data.index(b"\x20\0", 74)  # the first presentation context item
    assert data[at + 4] % 2 == 1
    data[at + 4] = context_id
    target.take(bytes(data))


# A sequence whose item has no whole header: pydicom calls it an OSError.
CUT_ITEM = b"\x08\x00\x95\x11UI\x06\x001.2.3\0" + b"\x08\x00\x99\x11SQ\0\0\x40\0\0\0" + b"\xfe\xff"


@pytest.mark.parametrize("decode", [decode_report, decode_notice])
def test_a_sequence_cut_within_an_item_is_the_peers_fault(decode: object) -> None:
    """It is refused, not answered as a fault of ours, after which a PACS would report it for ever."""
    assert callable(decode)
    with pytest.raises(RefusedError):
        decode(CUT_ITEM, SYNTAXES[1])


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_numbers_that_are_none_place_nothing(tmp_path: Path, value: str) -> None:
    """A position that is not finite is no geometry, in the facts and where voxels are read: no volume is made of it."""
    paths = make_brain_mri(StudyRequest(seed=3, spacing=COARSE), tmp_path / "mri").series["FLAIR"]
    for path in paths:
        content = path.read_bytes()
        position = dcmread(path, stop_before_pixels=True).ImagePositionPatient
        text = "\\".join(str(v) for v in position).encode()
        spoilt = f"{value}\\0\\0".encode().ljust(len(text))
        assert content.count(text) == 1
        path.write_bytes(content.replace(text, spoilt))
    stored = Stored(digest="d", size=1, received_at=NOW, patient_salt=b"")
    assert read_facts(paths[0], stored).geometry is None
    assert read_facts(paths[0], stored, look(paths[0].read_bytes())).geometry is None
    with pytest.raises(UnprocessableError) as caught:
        read_series(paths)
    assert caught.value.reason == Reason.NO_GEOMETRY


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("keyword", "text"), [("PixelSpacing", b"0\\0"), ("EchoTime", b"inf ")])
def test_facts_hold_no_number_that_says_nothing(tmp_path: Path, keyword: str, text: bytes) -> None:
    """A spacing of nothing is no geometry, an infinite time is unknown; the instance is kept."""
    dataset = dcmread(ct_file(tmp_path / "ct.dcm"))
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [1, 1]
    dataset.add_new(keyword, "UN", text)
    dataset.save_as(tmp_path / "ct.dcm")
    facts = read_facts(tmp_path / "ct.dcm", Stored(digest="d", size=1, received_at=NOW, patient_salt=b""))
    assert facts.acquisition.echo_time is None
    assert (facts.geometry is None) == (keyword == "PixelSpacing")
