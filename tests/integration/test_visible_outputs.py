"""What stands beside SEG and SR before real peers: validators, an archive that draws, a destination without SEG."""

import io
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image

from daemon.dicomweb.client import Limits
from daemon.dicomweb.courier import WebCourier
from daemon.domain.delivery import Destination, SendOutcome
from daemon.domain.output import ALWAYS, SOP_CLASSES, OutputKind
from daemon.results.make import BESIDE, Made, make
from demo.ports import HOST, free_port
from dicom_fixtures.studies import StudyRequest, make_petct
from tests.daemons import counted, init, overread, serving
from tests.matrix import MATRIX
from tests.peers import need, orthanc, storescp, storescu, wait_until
from tests.sources import Case
from tests.validators import dciodvfy, pixelmed

pytestmark = pytest.mark.peers
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
CASES = ("axial", "odd oblique", "no lesion", "multi-frame backwards", "no type 2", "korean", "petct")
KINDS = tuple(BESIDE)
# An answer without an outline has nothing to draw a line around.
OUTLINED = frozenset({OutputKind.PRESENTATION})

Build = Callable[[str], tuple[Case, Path, tuple[Made, ...]]]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return what makes a case of the matrix once, with every kind of result on disk."""

    @cache
    def built(name: str) -> tuple[Case, Path, tuple[Made, ...]]:
        folder = tmp_path_factory.mktemp("case")
        case = MATRIX[name](folder)
        made = make(case.context, case.reading, KINDS)
        for number, one in enumerate(made):
            (folder / f"{number:02}-{one.kind.value}.dcm").write_bytes(one.content)
        return case, folder, made

    return built


@pytest.mark.parametrize("name", CASES)
def test_every_kind_is_made_and_dciodvfy_finds_no_error(name: str, build: Build) -> None:
    """David Clunie's validator finds no error in any kind of result; each is of the class that is negotiated for it."""
    case, folder, made = build(name)
    due = {*KINDS, *ALWAYS} - (set() if case.labels.any() else {*OUTLINED, OutputKind.SEGMENTATION})
    assert {one.kind for one in made} == due
    assert all(str(one.dataset.SOPClassUID) == SOP_CLASSES[one.kind] for one in made)
    numbers = {one.kind: int(one.dataset.SeriesNumber) for one in made}
    assert len(set(numbers.values())) == len(numbers)
    for path in sorted(folder.glob("*.dcm")):
        assert dciodvfy(path) == [], path.name


def test_pixelmed_finds_no_error(build: Build) -> None:
    """Nor does Pixelmed in the selections; of the other kinds it knows none."""
    folders = [build(name)[1] for name in ("axial", "multi-frame backwards", "no type 2", "petct")]
    assert pixelmed([path for folder in folders for path in folder.glob("*-kos.dcm")]) == []


def test_an_archive_stores_and_draws_key_images(build: Build, tmp_path: Path) -> None:
    """Orthanc takes every kind by STOW-RS, and draws a key image as it was made: `/rendered` shows the same pixels."""
    if not PLUGIN.is_file():
        pytest.skip("Orthanc's DICOMweb plugin is not installed; install Debian's orthanc-dicomweb")
    _, folder, made = build("axial")
    options = {"Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    with orthanc(tmp_path / "pacs", http=True, options=options) as archive:
        url = f"http://{HOST}:{archive.http_port}/dicom-web"
        web = Destination(name="web", url=url)
        sent = list(WebCourier(Limits(answer_seconds=60)).send(web, sorted(folder.glob("*.dcm"))))
        assert {one.outcome for one in sent} == {SendOutcome.STORED}
        image = next(one.dataset for one in made if one.kind is OutputKind.KEY_IMAGES)
        place = f"studies/{image.StudyInstanceUID}/series/{image.SeriesInstanceUID}/instances/{image.SOPInstanceUID}"
        request = urllib.request.Request(f"{url}/{place}/rendered", headers={"Accept": "image/png"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - a loopback address
            drawn = Image.open(io.BytesIO(answer.read()))
    assert np.array_equal(np.asarray(drawn.convert("RGB")), image.pixel_array)


@pytest.mark.parametrize("name", ["oblique", "multi-frame backwards", "petct"])
def test_dcmqi_reads_the_same_map(name: str, build: Build, tmp_path: Path) -> None:
    """Another library places every voxel of the uncertainty map where the source has it."""
    case, folder, _ = build(name)
    program = Path(sys.executable).parent / "paramap2itkimage"
    written = next(folder.glob("*-uncertainty.dcm"))
    command = [str(program), "--inputDICOM", str(written), "--outputDirectory", str(tmp_path), "--outputType", "nrrd"]
    subprocess.run(command, check=True, capture_output=True)
    image = sitk.ReadImage(str(next(tmp_path.glob("*.nrrd"))))
    at = np.argwhere(case.labels > 0)
    points = case.context.source.volume.grid.points(at)
    found = [image.GetPixel(image.TransformPhysicalPointToIndex(point.tolist())) for point in points]
    assert found == pytest.approx(case.reading.entropy[tuple(at.T)] / np.log(2), abs=1e-6)


def test_every_kind_is_stored_and_committed(tmp_path: Path) -> None:
    """From push to Storage Commitment: Orthanc takes what the destination asked for, and nothing is left or dead."""
    folder, port, pacs_port = make_petct(StudyRequest(seed=3), tmp_path / "study").folder, free_port(), free_port()
    with orthanc(tmp_path / "pacs", known={"OVERREAD": port}, port=pacs_port) as archive:
        every = ", ".join(f'"{kind.value}"' for kind in OutputKind)
        config = init(tmp_path / "site", port, archive, outputs=f"[{every}]")
        with serving(tmp_path / "site", port):
            assert storescu(port, [folder]).returncode == 0
            wait_until(lambda: counted(config, "deliveries", "CONFIRMED") >= len(OutputKind), 240, "commitment")
            states = ("PENDING", "SENT", "DEAD", "UNCONFIRMED", "REPLACED")
            wait_until(lambda: not any(counted(config, "deliveries", state) for state in states), 240, "the rest")
        shown = json.loads(overread("deliveries", "list", "--config", str(config), "--json").stdout)
    assert {row["kind"] for row in shown} == {kind.value for kind in OutputKind}


def test_a_destination_without_seg_gets_key_images(tmp_path: Path) -> None:
    """What it refuses by presentation context is REPLACED, what goes instead arrives, and nothing is dead."""
    need("storescp")
    folder, port = make_petct(StudyRequest(seed=3), tmp_path / "study").folder, free_port()
    profile = tmp_path / "plain.cfg"
    profile.write_text(
        "[[TransferSyntaxes]]\n[Plain]\nTransferSyntax1 = LittleEndianImplicit\n"
        "TransferSyntax2 = LittleEndianExplicit\n[[PresentationContexts]]\n[Plain]\n"
        "PresentationContext1 = Comprehensive3DSRStorage\\Plain\n"
        "PresentationContext2 = SecondaryCaptureImageStorage\\Plain\n[[Profiles]]\n[Plain]\n"
        "PresentationContexts = Plain\n"
    )
    with storescp(tmp_path / "pacs", "-xf", str(profile), "Plain") as archive:
        config = init(tmp_path / "site", port, archive, commitment="false", fallback='["SEG=key-images"]')
        with serving(tmp_path / "site", port):
            assert storescu(port, [folder]).returncode == 0
            wait_until(lambda: counted(config, "deliveries", "REPLACED") == 1, 240, "the refusal")
            wait_until(lambda: len(list(archive.folder.iterdir())) >= 2, 240, "the report and a key image")
            assert counted(config, "deliveries", "DEAD") == 0
        shown = json.loads(
            overread("deliveries", "list", "--state", "REPLACED", "--config", str(config), "--json").stdout
        )
        classes = [str(pydicom.dcmread(path).SOPClassUID) for path in archive.folder.iterdir()]
    assert shown[0]["kind"] == "SEG"
    assert shown[0]["detail"].endswith("key-images goes instead")
    assert set(classes) == {SOP_CLASSES[OutputKind.REPORT], SOP_CLASSES[OutputKind.KEY_IMAGES]}
