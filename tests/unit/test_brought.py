"""Files that people upload: what is read of them, what is refused, and in which words."""

import gzip
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from daemon.errors import RefusedError
from daemon.imaging.brought import Kind, UnknownKindError, kind_of, laid_back, read_nifti, read_picture
from daemon.imaging.zipped import Bounds, unpack
from tests.uploads import MM, SIDE, SLICES, THICKNESS, archive, head, nifti, picture, spot, volume


def flat(path: Path, spacing: float | None = MM) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return the voxels of a picture as five slices of 3 mm."""
    return read_picture(path, 5, 3.0, spacing).source.volume.voxels


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.png", Kind.PNG),
        ("a.jpg", Kind.JPEG),
        ("a.nii", Kind.NIFTI),
        ("a.nii.gz", Kind.NIFTI_GZ),
        ("a.zip", Kind.ZIP),
    ],
)
def test_a_file_is_what_its_first_bytes_are(tmp_path: Path, name: str, kind: Kind) -> None:
    """Whatever it is called."""
    make = nifti if "nii" in name else picture
    path = archive(tmp_path / name, {"x": b""}) if kind is Kind.ZIP else make(tmp_path / name)
    assert kind_of(path.rename(tmp_path / "holiday.gif")) is kind


def test_nothing_else_is_read(tmp_path: Path) -> None:
    """Text, nothing at all and a single DICOM file are refused; of the last it is said what to do."""
    path = tmp_path / "x"
    for content in (b"", b"GIF89a", b"<svg/>", b"\x00" * 400):
        path.write_bytes(content)
        with pytest.raises(UnknownKindError, match="no PNG, JPEG, NIfTI"):
            kind_of(path)
    path.write_bytes(bytes(128) + b"DICM")
    with pytest.raises(UnknownKindError, match="zip the whole series"):
        kind_of(path)


@pytest.mark.parametrize("depth", ["L", "I;16", "RGB", "RGBA", "P", "LA"])
def test_a_grey_picture_keeps_its_greys_whatever_its_depth(tmp_path: Path, depth: str) -> None:
    """Eight or sixteen bits, in colours that are all grey, with a palette or transparency: the same slice, repeated."""
    path = tmp_path / "a.png"
    if depth == "I;16":
        Image.fromarray(head().astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(head()).convert(depth).save(path)
    voxels = flat(path)
    assert voxels.shape == (5, SIDE, SIDE)
    assert (voxels == voxels[0]).all()
    assert np.allclose(voxels[0] / voxels.max(), head() / head().max(), atol=1e-6)


def test_what_is_taken_for_granted_is_said(tmp_path: Path) -> None:
    """A picture's spacing where it was not given, and then no more; of a NIfTI file that it is a head."""
    path = picture(tmp_path / "a.png")
    unknown, known = read_picture(path, 5, 3.0, None), read_picture(path, 5, 3.0, MM)
    assert unknown.source.volume.grid.spacing == (3.0, 2.5, 2.5)
    assert "2.500 mm is taken" in " ".join(unknown.assumptions)
    assert known.source.volume.grid.spacing == (3.0, MM, MM)
    assert "is taken, as if" not in " ".join(known.assumptions)
    found = read_nifti(nifti(tmp_path / "a.nii"), Kind.NIFTI, tmp_path)
    assert "head MR" in found.assumptions[0]


def _save(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(pixels).save(path, "PNG")


def _cut(path: Path) -> None:
    picture(path.with_suffix(".png"))
    content = path.with_suffix(".png").read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _film(path: Path) -> None:
    frames = [Image.fromarray(head()), Image.fromarray(head(tumour=False))]
    frames[0].save(path, "PNG", save_all=True, append_images=frames[1:])


def _bomb(path: Path) -> None:
    Image.new("1", (30_000, 30_000)).save(path, "PNG")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (_save(np.stack([head(), 255 - head(), head().T], axis=-1)), "in colour"),
        (_save(np.full((SIDE, SIDE), 7, np.uint8)), "one value"),
        (_save(head()[:20]), "at least 32 x 32"),
        (_save(np.zeros((3000, 3000), np.uint8)), "at most 4194304 pixels"),
        (_bomb, "at most 4194304 pixels"),
        (_cut, "cut off or damaged"),
        (_film, "several"),
    ],
    ids=["colour", "even", "small", "large", "bomb", "cut", "film"],
)
def test_pictures_that_are_no_slice_are_refused(tmp_path: Path, make: Callable[[Path], None], named: str) -> None:
    """By cause and mend, before memory is spent on them."""
    path = tmp_path / "a"
    make(path)
    with pytest.raises(RefusedError, match=named):
        flat(path)


def test_a_spacing_that_no_head_has_is_refused(tmp_path: Path) -> None:
    """A head of 1 cm or 10 m is a wrong unit, and 10 m of it would fill the memory."""
    path = picture(tmp_path / "a.png")
    for spacing in (0.1, 100.0):
        with pytest.raises(RefusedError, match="correct the spacing"):
            flat(path, spacing)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LAS", "PIR", "ASL"])
def test_a_mask_lies_as_the_file_did(tmp_path: Path, orientation: str) -> None:
    """However a NIfTI file's axes lie, it is read as DICOM lies, and its mask put back has the file's own order."""
    image = sitk.DICOMOrient(volume(), orientation)
    path = nifti(tmp_path / "a.nii.gz", image)
    folder = tmp_path / "work"
    folder.mkdir()
    found = read_nifti(path, Kind.NIFTI_GZ, folder)
    grid = found.source.volume.grid
    assert grid.size == (SLICES, SIDE, SIDE)
    assert grid.spacing == pytest.approx((THICKNESS, MM, MM))
    assert np.array_equal(found.source.volume.voxels, sitk.GetArrayFromImage(volume()))
    bright = (found.source.volume.voxels == 250).astype(np.uint8)
    assert bright.sum() == 4 * spot().sum()
    assert np.array_equal(laid_back(bright, grid, found.orientation), sitk.GetArrayFromImage(image) == 250)


def _short(path: Path) -> None:
    content = nifti(path.with_suffix(".nii")).read_bytes()
    path.write_bytes(content[:-100])


def _short_inside(path: Path) -> None:
    content = nifti(path.with_suffix(".nii")).read_bytes()
    path.write_bytes(gzip.compress(content[:-100]))


def _cut_gz(path: Path) -> None:
    nifti(path.with_suffix(".nii.gz"))
    path.write_bytes(path.with_suffix(".nii.gz").read_bytes()[:-20])


def _other_gz(path: Path) -> None:
    path.write_bytes(gzip.compress(bytes(1 << 20)))


def _written(image: Callable[[], sitk.Image]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        nifti(path.with_suffix(".nii"), image()).rename(path)

    return make


def _spaced(spacing: tuple[float, float, float]) -> sitk.Image:
    image = volume()
    image.SetSpacing(spacing)
    return image


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (_short, "cut off"),
        (_short_inside, "cut off"),
        (_cut_gz, "cut off or damaged"),
        (_other_gz, "no PNG, JPEG, NIfTI"),
        (_written(lambda: sitk.JoinSeries([volume(), volume()])), "4D"),
        (_written(lambda: sitk.Compose(volume(), volume(), volume())), "colours, vectors"),
        (_written(lambda: volume()[:, :, :2]), "no volume"),
        (_written(lambda: volume()[:20]), "at least 32 x 32"),
        (_written(lambda: volume() * 0), "one value"),
        (_written(lambda: _spaced((1e5, 1e5, 1e5))), "correct the spacing"),
    ],
    ids=["short", "short-gz", "cut-gz", "other-gz", "4d", "vector", "thin", "small", "even", "giant"],
)
def test_nifti_files_that_are_no_volume_are_refused(tmp_path: Path, make: Callable[[Path], None], named: str) -> None:
    """Also what is cut off, which ITK would fill with nothing and call whole."""
    path, folder = tmp_path / "a", tmp_path / "work"
    folder.mkdir()
    make(path)
    with pytest.raises(RefusedError, match=named):
        read_nifti(path, kind_of(path), folder)


def _link(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as made:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(entry, "/etc/passwd")


def _lie(path: Path) -> None:
    """Write a zip whose entry says that it is small; it holds 4 MB."""
    archive(path, {"x": bytes(4 << 20)})
    content = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = content.index(signature) + at
        content[start : start + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(content)


def _locked(path: Path) -> None:
    archive(path, {"x": b"secret"})
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


def _broken(path: Path) -> None:
    archive(path, {"x": bytes(range(256)) * 40})
    content = bytearray(path.read_bytes())
    content[40:60] = bytes(20)
    path.write_bytes(content)


def _packed(path: Path, how: int) -> None:
    """Write a zip that is packed in another way than by deflation, and damaged in the middle."""
    with zipfile.ZipFile(path, "w", how) as made:
        made.writestr("x", bytes(range(256)) * 40)
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)
    path.write_bytes(content)


def _nameless(path: Path) -> None:
    path.write_bytes(archive(path, {"x": b"1"}).read_bytes().replace(b"x", b"\0"))


def _ended(path: Path, at: int, number: int) -> None:
    """Write a zip with another number at a place of its end record."""
    content = bytearray(archive(path, {"x": b"1"}).read_bytes())
    start = content.index(b"PK\x05\x06") + at
    content[start : start + 4] = number.to_bytes(4, "little")
    path.write_bytes(content)


def _zip64(path: Path, comment: int) -> None:
    """Write a ZIP64 with a comment of so many bytes."""
    content = archive(path, {"x": b"1"}).read_bytes()
    at = content.index(b"PK\x05\x06")
    size, offset = struct.unpack("<2L", content[at + 12 : at + 20])
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, size, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    end = content[at : at + 20] + comment.to_bytes(2, "little")
    path.write_bytes(content[:at] + record + locator + end + bytes(comment))


BOUNDS = Bounds(files=20, size=1 << 20)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda path: archive(path, {"../../x": b"1"}), "leads out"),
        (lambda path: archive(path, {"/x": b"1"}), "leads out"),
        (lambda path: archive(path, {"a\\..\\..\\x": b"1"}), "leads out"),
        (_link, "leads out"),
        (lambda path: archive(path, {str(n): b"" for n in range(21)}), "holds 21 files"),
        (lambda path: archive(path, {"x" * 200 + str(n): b"" for n in range(120)}), "more than 20 files"),
        (lambda path: archive(path, {"x": bytes(2 << 20)}), "more than 1 MB"),
        (_lie, "damaged|more than 1 MB"),
        (_locked, "password"),
        (_broken, "damaged"),
        (lambda path: _packed(path, zipfile.ZIP_LZMA), "damaged"),
        (lambda path: _packed(path, zipfile.ZIP_BZIP2), "damaged"),
        (_nameless, "damaged"),
        (lambda path: _ended(path, 16, 1 << 30), "damaged"),
        (lambda path: _ended(path, 12, 20_000), "damaged"),
        (lambda path: _zip64(path, 0), "ZIP64"),
        (lambda path: _zip64(path, 0xFFFF), "ZIP64"),
        (lambda path: path.write_bytes(archive(path, {"x": b"1" * 999}).read_bytes()[:-10]), "cut off"),
        (lambda path: path.write_bytes(b"PK\x03\x04"), "cut off"),
    ],
    ids=[
        "slip",
        "absolute",
        "windows",
        "link",
        "many",
        "names",
        "bomb",
        "lie",
        "locked",
        "broken",
        "lzma",
        "bzip2",
        "nameless",
        "place",
        "size",
        "zip64",
        "zip64 far off",
        "cut",
        "empty",
    ],
)
def test_zips_are_unpacked_within_bounds(tmp_path: Path, make: Callable[[Path], object], named: str) -> None:
    """Nothing is written outside the folder, and no more of it than the bounds say, whatever the zip claims."""
    path, folder = tmp_path / "a.zip", tmp_path / "work"
    folder.mkdir()
    make(path)
    before = {one for one in tmp_path.rglob("*") if one.parent != folder}
    with pytest.raises(RefusedError, match=named):
        unpack(path, folder, BOUNDS)
    assert {one for one in tmp_path.rglob("*") if one.parent != folder} == before
    assert sum(one.stat().st_size for one in folder.iterdir()) <= BOUNDS.size


def test_a_zip_is_unpacked_under_names_of_ours(tmp_path: Path) -> None:
    """Folders, twice the same name, names in any letters: each file is there once."""
    folder = tmp_path / "work"
    folder.mkdir()
    files = {"a/b/ü.dcm": b"1", "a/c": b"2", "c\nd": b"3"}
    written = unpack(archive(tmp_path / "a.zip", files), folder, BOUNDS)
    assert [path.read_bytes() for path in written] == [b"1", b"2", b"3"]
    assert sorted(folder.iterdir()) == written
