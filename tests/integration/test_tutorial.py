"""docs/tutorial.md followed word by word to a result in Orthanc, and OHIF held against the objects that it shows.

Its pictures in docs/images are kept by `pytest tests/integration/test_tutorial.py --pictures docs/images`.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicomweb_client.api import DICOMwebClient
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from daemon.domain.output import SOP_CLASSES, OutputKind
from demo.pictures import dice, outline
from demo.ports import HOST, free_port
from dicom_fixtures.planes import Layout, Orientation
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.ohif import OHIF, Viewer, need_ohif, viewing
from tests.pages import QUICK, ROOT, blocks, ended, place, run
from tests.peers import need, storescu, wait_until

pytestmark = [pytest.mark.peers, pytest.mark.slow]
PORTS = ("11112", "4242", "8042", "3000")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
# What stands at the head of the page.
BANNER = (230, 159, 0)
CT, FUSION = (0, "ctAXIAL"), (6, "fusionAXIAL")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A study in the trial's archive, with the truth about it."""

    client: DICOMwebClient
    study: str
    truth: Path
    series: int

    def of(self, kind: OutputKind) -> Dataset:
        """Return the result of a kind, as the archive gives it by DICOMweb."""
        (found,) = (one for one in self.instances if one["00080016"]["Value"] == [SOP_CLASSES[kind]])
        return self.client.retrieve_instance(self.study, *(found[tag]["Value"][0] for tag in ("0020000E", "00080018")))

    @cached_property
    def instances(self) -> list[dict[str, Any]]:
        """Return what the archive has of the study."""
        return self.client.search_for_instances(self.study)

    @cached_property
    def image(self) -> sitk.Image:
        """Return the true mask."""
        return sitk.ReadImage(str(self.truth))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What the tutorial has left running; `ports` are in place of the page's."""

    folder: Path
    environment: dict[str, str]
    ports: dict[str, str]
    told: str

    def follow(self, page: str, title: str) -> str:
        """Run the commands below a title, where the ones before ended."""
        return run(self.folder / "trial", self.moved("".join(blocks(page, title))), self.environment)

    def moved(self, text: str) -> str:
        """Return text with these ports."""
        for port, free in self.ports.items():
            text = text.replace(port, free)
        return text


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Trial]:
    """The tutorial up to the result in Orthanc."""
    need("Orthanc", "echoscu", "storescu", "curl")
    if not PLUGIN.is_file():
        pytest.skip("Orthanc's DICOMweb plugin is not installed; install Debian's orthanc-dicomweb")
    folder = tmp_path_factory.mktemp("tutorial")
    environment = place(folder)
    if pytestconfig.getoption("pictures"):
        environment = {key: value for key, value in environment.items() if key not in QUICK}
    made = Trial(folder=folder, environment=environment, ports={port: str(free_port()) for port in PORTS}, told="")
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    for file in ("orthanc.json", "ohif/nginx.conf"):
        path = folder / "deploy" / file
        path.write_text(made.moved(path.read_text()))
    commands = "".join(
        blocks("tutorial.md", "Two that know each other") + blocks("tutorial.md", "A study in, a result out")
    )
    try:
        told = run(folder, made.moved(commands), environment)
        yield Trial(folder=folder, environment=environment, ports=made.ports, told=told)
    finally:
        ended(folder)


@pytest.fixture(scope="module")
def viewer(trial: Trial, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Viewer]:
    """A browser, and what the tutorial says of OHIF done."""
    need("nginx", "chromium")
    need_ohif()
    (trial.folder / "trial/viewer/ohif").symlink_to(OHIF)
    trial.follow("tutorial.md", "Look at it in OHIF")
    pictures = pytestconfig.getoption("pictures") or tmp_path_factory.mktemp("pictures")
    with viewing(f"http://{HOST}:{trial.ports['3000']}", pictures) as found:
        yield found


@pytest.fixture(scope="module")
def subjects(trial: Trial) -> dict[str, Subject]:
    """The tutorial's PET/CT, and two heads that went the same way, one of them oblique and of an odd number of rows."""
    client = DICOMwebClient(f"http://{HOST}:{trial.ports['8042']}/dicom-web")
    folder = trial.folder / "trial/study"
    uid = str(pydicom.dcmread(next(folder.rglob("*.dcm")), stop_before_pixels=True).StudyInstanceUID)
    found = {"petct": Subject(client=client, study=uid, truth=folder / "truth/mask.nii.gz", series=9)}
    for name, seed, orientation in (("brain-mri", 11, Orientation.AXIAL), ("oblique", 12, Orientation.OBLIQUE)):
        made = make_brain_mri(StudyRequest(seed=seed, layout=Layout(orientation=orientation)), trial.folder / name)
        for port, calling, called in (("11112", "MODALITY", "OVERREAD"), ("4242", "OVERREAD", "ORTHANC")):
            sent = storescu(int(trial.ports[port]), [made.folder], calling_ae=calling, called_ae=called)
            assert sent.returncode == 0, sent.stderr
        found[name] = Subject(client=client, study=made.study_instance_uid, truth=made.mask, series=8)
    for subject in found.values():
        listed = partial(client.search_for_series, subject.study)
        wait_until(lambda found=listed, n=subject.series: len(found()) == n, 240, "all results to be in Orthanc")  # type: ignore[misc]
    return found


def on_truth(points: NDArray[np.float64], image: sitk.Image) -> NDArray[np.bool_]:
    """Return points of the patient on the truth's grid."""
    found = np.zeros(image.GetSize()[::-1], dtype=bool)
    for point in points:
        found[image.TransformPhysicalPointToIndex(point.tolist())[::-1]] = True
    return found


def numbers(item: Dataset) -> Iterator[tuple[str, float]]:
    """Yield name and value of each number below an item of a report, but for what hangs below a number."""
    for one in item.get("ContentSequence", []):
        if one.ValueType == "NUM":
            yield one.ConceptNameCodeSequence[0].CodeMeaning, float(one.MeasuredValueSequence[0].NumericValue)
        else:
            yield from numbers(one)


def test_the_tutorial_leads_to_a_result_in_orthanc(trial: Trial) -> None:
    """Every line up to there but pip's: the archive says that it has the SEG, and the outline is drawn."""
    assert '"Modality" : "SEG"' in trial.told
    assert (trial.folder / "trial/outline.png").stat().st_size > 10_000
    for port in PORTS:
        text = "".join(block for title in ("Two that know each other", "A study in, a result out", "Look at it in OHIF")
                       for block in blocks("tutorial.md", title))  # fmt: skip
        assert port in text, port


@pytest.mark.parametrize("name", ["brain-mri", "oblique", "petct"])
def test_ohif_draws_the_outline_where_the_tumour_is(
    name: str, viewer: Viewer, subjects: dict[str, Subject], tmp_path: Path
) -> None:
    """A double-click on the SEG: OHIF holds all its voxels, the truth's but for a few, and draws just them."""
    subject = subjects[name]
    viewer.open(subject.study, subject.series)
    viewer.choose("SEG")
    slices = viewer.outlined()
    found = on_truth(np.concatenate(slices), subject.image)
    subject.of(OutputKind.SEGMENTATION).save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    assert np.array_equal(found, outline(tmp_path / "seg.dcm", subject.image))
    assert found.sum() == sum(map(len, slices))
    assert dice(found, sitk.GetArrayFromImage(subject.image) > 0) > 0.7
    key = max(slices, key=len)
    wait_until(lambda: viewer.drawn(key, "default"), 120, "the outline to be drawn on the voxels of the SEG")
    viewer.picture(f"{name}-outline")


def test_ohif_shows_every_number_of_the_report(viewer: Viewer, subjects: dict[str, Subject]) -> None:
    """A double-click on the SR: the conclusion, and each number with its name, as text."""
    subject = subjects["petct"]
    viewer.open(subject.study, subject.series)
    viewer.choose("SR")
    shown = viewer.text("Conclusion")
    report = subject.of(OutputKind.REPORT)
    said = next(one.TextValue for one in report.ContentSequence if one.ValueType == "TEXT")
    assert said in shown
    wanted = list(numbers(report))
    assert len(wanted) > 10
    lines = shown.splitlines()
    assert [one for one in wanted if not any(one[0] in line and f"{one[1]:g}" in line for line in lines)] == []
    viewer.picture("report")


def test_ohif_shows_the_page(viewer: Viewer, subjects: dict[str, Subject]) -> None:
    """A double-click on the DOC: the document is the one that was made, and its banner is on the screen."""
    subject = subjects["petct"]
    viewer.open(subject.study, subject.series)
    viewer.choose("DOC")
    document = subject.of(OutputKind.SUMMARY)
    content = document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]
    assert viewer.pdf() == hashlib.sha256(content).hexdigest()
    wait_until(lambda: viewer.shows(BANNER) > 1000, 120, "the page to be drawn")
    viewer.picture("page")


def test_ohif_shows_the_key_image(viewer: Viewer, subjects: dict[str, Subject]) -> None:
    """A double-click on the OT: the picture's pixels are the object's."""
    subject = subjects["petct"]
    image = subject.of(OutputKind.KEY_IMAGES)
    viewer.open(subject.study, subject.series)
    viewer.choose("OT")
    assert viewer.pixels(image.Rows) == hashlib.sha256(image.pixel_array.tobytes()).hexdigest()
    viewer.picture("key-image")


def test_ohif_keeps_the_values_of_the_map(viewer: Viewer, subjects: dict[str, Subject]) -> None:
    """A double-click on the PMAP: a hundred times the object's values, frame by frame."""
    subject = subjects["petct"]
    viewer.open(subject.study, subject.series)
    viewer.choose("PMAP")
    kind, found = viewer.map()
    wanted = subject.of(OutputKind.UNCERTAINTY).pixel_array.ravel() * 100
    assert kind == "Float32Array"
    assert np.allclose(found, wanted, atol=1e-4)


def test_what_ohif_cannot_open_is_what_the_page_says(viewer: Viewer, subjects: dict[str, Subject]) -> None:
    """It lists presentation states and selections, with a sign that it cannot open them; the rest it can."""
    subject = subjects["petct"]
    viewer.open(subject.study, subject.series)
    assert {kind for kind, opens in viewer.sets().items() if not opens} == {"PR", "KO"}


def test_ohif_fuses_pet_and_ct_under_the_outline(viewer: Viewer, subjects: dict[str, Subject]) -> None:
    """In the PET/CT layout the SEG is drawn where it is, on CT and fusion, and its volume is told."""
    subject = subjects["petct"]
    viewer.open(subject.study, subject.series, "tmtv")
    viewer.overlay(*FUSION)
    slices = viewer.outlined()
    key = max(slices, key=len)
    for _, name in (CT, FUSION):
        wait_until(lambda name=name: viewer.drawn(key, name), 180, f"the outline to be drawn in {name}")  # type: ignore[misc]
    spacing = np.prod(subject.image.GetSpacing())
    viewer.page.get_by_text(f"{sum(map(len, slices)) * spacing / 1000:.3f} mL").wait_for()
    viewer.picture("petct")


def test_the_study_list_leads_to_the_study(viewer: Viewer, subjects: dict[str, Subject]) -> None:
    """The tutorial's clicks: the patient, `Basic Viewer`; the study is open."""
    page = viewer.page
    page.goto(viewer.url)
    page.get_by_text("FIXTURE, PETCT 7").click()
    page.get_by_text("Basic Viewer").first.click()
    page.wait_for_url(f"**/viewer?StudyInstanceUIDs={subjects['petct'].study}*")


def test_the_end_and_another_release_and_the_way_back(trial: Trial) -> None:
    """Last here, as it ends the trial: an older ledger and back, and the results are in it still."""
    if (trial.folder / "trial/nginx.pid").exists():
        trial.follow("tutorial.md", "The end")
    else:
        ended(trial.folder)
    before = confirmed(trial)
    told = trial.follow("install.md", "Another release, and the way back")
    assert "the ledger is at 0008" in told
    assert told.count("copied to ") == 3
    assert confirmed(trial) == before > 0


def confirmed(trial: Trial) -> int:
    """Return how many results the ledger holds to be confirmed."""
    shown = subprocess.run(
        ["overread", "status", "--config", "site", "--json"],
        cwd=trial.folder / "trial",
        env=trial.environment,
        capture_output=True,
        check=True,
    )
    return int(json.loads(shown.stdout)["deliveries"]["CONFIRMED"])
