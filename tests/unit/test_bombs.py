"""Small files that would grow to giant ones are refused before they do."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from daemon.domain.reasons import Reason
from daemon.errors import UnprocessableError
from daemon.imaging.facts import Stored, read_facts
from daemon.imaging.read import read_series
from daemon.imaging.unpack import check_frames, claimed
from tests.bombs import FRAMES, GIANT, SIDE, deflated, slices
from tests.instances import NOW

# What each reading grew to, in megabytes, in a process of its own: the highest mark never falls.
MEASURE = """
import json, resource, sys
from pathlib import Path
from daemon.errors import UnprocessableError
from daemon.imaging.facts import Stored, read_facts
from daemon.imaging.read import read_series
from tests.instances import NOW
resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
read_series(sorted(Path(sys.argv[1]).glob("*.dcm")))
grown = {}
for folder in map(Path, sys.argv[2:]):
    before = peak()
    try:
        if folder.is_dir():
            read_series(sorted(folder.glob("*.dcm")))
        else:
            read_facts(folder, Stored(digest="", size=0, received_at=NOW, patient_salt=b""))
    except UnprocessableError as error:
        assert error.reason == "unreadable-pixels", error
    grown[folder.name] = peak() - before
print(json.dumps(grown))
"""


def test_bombs_do_not_go_off(tmp_path: Path) -> None:
    """A kilobyte that claims 1.8 GB, runs that hold 768 MB, 0.3 MB of deflated zeros: none takes 150 MB."""
    sound = tmp_path / "sound"
    slices(sound, FRAMES["JPEG 2000"][0])
    bombs = []
    for name, (syntax, spoil) in FRAMES.items():
        spoil(slices(tmp_path / name, syntax)[1])
        bombs.append(tmp_path / name)
    bombs.append(deflated(tmp_path / "deflated.dcm", 300))
    told = subprocess.run(
        [sys.executable, "-c", MEASURE, str(sound), *map(str, bombs)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    grown = json.loads(told.stdout)
    assert set(grown) == {*FRAMES, "deflated.dcm"}
    assert max(grown.values()) < 150, grown


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_claims_another_size_is_named(name: str, tmp_path: Path) -> None:
    """Unreadable pixels, with both sizes; the same series without it is read."""
    syntax, spoil = FRAMES[name]
    paths = slices(tmp_path, syntax)
    assert read_series(paths).volume.voxels[2, 1, 5] == SIDE + 5
    spoil(paths[1])
    with pytest.raises(UnprocessableError, match=f"frame of {SIDE} x {SIDE}") as caught:
        read_series(paths)
    assert caught.value.reason == Reason.UNREADABLE_PIXELS


def test_deflated_series_are_read(tmp_path: Path) -> None:
    """Header and pixels are those of the plain files, and the transfer syntax is told as it is."""
    plain, small = slices(tmp_path / "plain"), slices(tmp_path / "small", DeflatedExplicitVRLittleEndian)
    assert np.array_equal(read_series(plain).volume.voxels, read_series(small).volume.voxels)
    facts = read_facts(small[0], Stored(digest="", size=0, received_at=NOW, patient_salt=b""))
    assert (facts.transfer_syntax_uid, facts.rows) == (DeflatedExplicitVRLittleEndian, SIDE)


@pytest.mark.parametrize("syntax", ["", DeflatedExplicitVRLittleEndian])
def test_a_header_that_claims_too_much_is_refused(syntax: str, tmp_path: Path) -> None:
    """Before any memory is asked for: too large a slice, and too many."""
    paths = slices(tmp_path, syntax)
    for path in paths:
        dataset = dcmread(path)
        dataset.Rows = dataset.Columns = GIANT
        dataset.save_as(path)
    with pytest.raises(UnprocessableError, match=f"4 slices of {GIANT} x {GIANT} are more than is read") as caught:
        read_series(paths)
    assert caught.value.reason == Reason.TOO_LARGE


def test_a_deflated_file_that_is_cut_or_damaged_is_refused(tmp_path: Path) -> None:
    """Unreadable, not a crash."""
    for number, spoil in enumerate((lambda b: b[:-60], lambda b: b[:700] + b"\xff" * 40 + b[740:])):
        paths = slices(tmp_path / str(number), DeflatedExplicitVRLittleEndian)
        paths[1].write_bytes(spoil(paths[1].read_bytes()))
        with pytest.raises(UnprocessableError):
            read_series(paths)


@pytest.mark.filterwarnings("ignore::UserWarning")  # some of those files are odd on purpose
def test_frames_of_real_files_are_what_they_claim() -> None:
    """Of every family of encoders, from other makers; but one that was damaged on purpose."""
    seen = set()
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm")):
        header = dcmread(path, stop_before_pixels=True, force=True)
        syntax = header.file_meta.get("TransferSyntaxUID") or UID("")
        whole = "Rows" in header and header.get("SamplesPerPixel") == 1
        if not (whole and syntax.is_transfer_syntax and syntax.is_encapsulated) or "embedded" in path.name:
            continue
        size = (header.Rows, header.Columns, header.BitsAllocated // 8)
        check_frames(path, int(header.get("NumberOfFrames") or 1), size)
        seen.add(syntax.name.partition(",")[0].partition(" (")[0])
    assert len(seen) >= 5, seen


SOF = b"\xff\xc3\x00\x0b\x10" + struct.pack(">HHB", 7, 9, 1) + bytes(3)
SIZ = b"\xff\x4f\xff\x51" + struct.pack(">HHLLLLLLLLH", 41, 0, 9, 7, 0, 0, 9, 7, 0, 0, 1)


@pytest.mark.parametrize(
    ("frame", "size"),
    [
        (b"\xff\xd8" + SOF, (7, 9, 1)),
        (b"\xff\xd8\xff\xe0\x00\x12" + SIZ[:16] + SOF, (7, 9, 1)),
        (b"\xff\xd8\xff\xff" + SOF[1:], (7, 9, 1)),
        (SIZ, (7, 9, 1)),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n\x00\x00\x00\x28free" + SIZ[:32] + b"\x00\x00\x00\x00jp2c" + SIZ, (7, 9, 1)),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n\x00\x00\x00\x00free", None),
        (SIZ[:20], None),
        (b"\xff\xd8\xff\xd9", None),
        (b"", None),
    ],
)
def test_a_frame_says_its_size(frame: bytes, size: tuple[int, int, int] | None) -> None:
    """Decoys in segments and boxes that decoders pass over are passed over here too."""
    assert claimed(frame) == size


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8", SIZ, b"\x00\x00\x00\x0cjP  "]))
def test_whatever_a_frame_holds_it_is_only_asked(noise: bytes, start: bytes) -> None:
    """No bytes raise or loop."""
    assert claimed(start + noise) is None or len(claimed(start + noise) or ()) == 3
