"""PDF, maps, presentation states and key object selections: made alike twice, and held when spoiled."""

import base64
import re
import zlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from daemon.domain.finding import Estimate, RiskClass
from daemon.domain.output import OutputKind
from daemon.errors import UnprocessableError
from daemon.results import page
from daemon.results.make import BESIDE, make
from tests.matrix import MATRIX, brain, framewise, uneven
from tests.sources import Case, case

KINDS = tuple(kind for kind in BESIDE if kind is not OutputKind.KEY_IMAGES)
PDF, LINES, KEYS = OutputKind.SUMMARY, OutputKind.PRESENTATION, OutputKind.KEY_OBJECTS
DOUBT, HEAT, WHY = OutputKind.UNCERTAINTY, OutputKind.PROBABILITY, OutputKind.ACTIVATION


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A head with two lesions."""
    return case(brain(tmp_path_factory.mktemp("visible")), count=2)


def written(built: Case, kind: OutputKind) -> list[Dataset]:
    """Return the objects of a kind as they are written, past the gate."""
    made = make(built.context, built.reading, (kind,))
    return [pydicom.dcmread(BytesIO(one.content)) for one in made if one.kind is kind]


@pytest.mark.parametrize("name", ["oblique", "descending", "multi-frame backwards", "odd matrix", "petct", "no lesion"])
def test_the_gate_passes_and_a_repeat_is_equal(name: str, tmp_path: Path) -> None:
    """Every kind, whatever the source's order and orientation, and the same bytes again; the source is as it was."""
    built = MATRIX[name](tmp_path)
    before = deepcopy(built.context.source.headers)
    first, second = (make(built.context, built.reading, KINDS) for _ in range(2))
    assert [one.content for one in first] == [one.content for one in second]
    assert built.context.source.headers == before
    lines = {LINES} if built.labels.any() else set()
    assert {one.kind for one in first} & set(KINDS) == {PDF, DOUBT, HEAT, WHY, KEYS, *lines}


@pytest.mark.parametrize("source", [framewise, uneven])
def test_sources_as_scanners_write_them_pass(source: Callable[[Path], list[Path]], tmp_path: Path) -> None:
    """Neither a rescale in each frame's group nor slices that no even grid holds to the digit keep anything back."""
    built = case(source(tmp_path), count=2)
    made = make(built.context, built.reading, KINDS)
    assert {one.kind for one in made} == {OutputKind.SEGMENTATION, OutputKind.REPORT, *KINDS}


def other_value(made: Dataset) -> None:
    """Change one voxel."""
    values = np.frombuffer(made.FloatPixelData, dtype="<f4").copy()
    values[5] += 0.25
    made.FloatPixelData = values.tobytes()


def descending(made: Dataset) -> None:
    """Turn the frames' order round."""
    made.PerFrameFunctionalGroupsSequence = list(made.PerFrameFunctionalGroupsSequence)[::-1]


def mirrored(made: Dataset) -> None:
    """Turn a picture round."""
    made.PixelData = np.ascontiguousarray(made.pixel_array[:, ::-1]).tobytes()


def moved_line(made: Dataset) -> None:
    """Move one line by two pixels."""
    item = made.GraphicAnnotationSequence[0].GraphicObjectSequence[0]
    item.GraphicData = [float(v) + 2 for v in item.GraphicData]


def other_slice(made: Dataset) -> None:
    """Draw on another instance."""
    made.GraphicAnnotationSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def one_slice_less(made: Dataset) -> None:
    """Leave out the last reference."""
    made.ContentSequence = list(made.ContentSequence)[:-1]


def cut_short(made: Dataset) -> None:
    """Lose the end of the page."""
    made.EncapsulatedDocumentLength -= 9


def other_source(made: Dataset) -> None:
    """Name another source."""
    made.SourceInstanceSequence[0].ReferencedSOPInstanceUID = "1.2.3"


@pytest.mark.parametrize(
    ("kind", "spoil", "said"),
    [
        (DOUBT, other_value, "values"),
        (HEAT, other_value, "probability.*values"),
        (DOUBT, descending, "from the low end on"),
        (WHY, mirrored, "not that of its slice"),
        (LINES, moved_line, "enclose"),
        (LINES, other_slice, "slices of the outline"),
        (KEYS, one_slice_less, "slices to look at"),
        (PDF, cut_short, "whole page"),
        (PDF, other_source, "other slices"),
    ],
)
def test_what_was_spoiled_is_held(sound: Case, kind: OutputKind, spoil: Callable[[Dataset], None], said: str) -> None:
    """One wrong voxel, place, line or reference keeps the object here."""
    objects = written(sound, kind)
    spoil(objects[0])
    with pytest.raises(UnprocessableError, match=said):
        BESIDE[kind][1](objects, sound.context, sound.reading)


@pytest.mark.parametrize("kind", [DOUBT, HEAT])
def test_a_map_reads_as_a_volume(sound: Case, kind: OutputKind) -> None:
    """An independent reader finds the values where they are in the patient."""
    made = make(sound.context, sound.reading, (kind,))
    volume = hd.imread(BytesIO(next(one.content for one in made if one.kind is kind))).get_volume()
    grid = sound.context.source.volume.grid
    at = (int(sound.reading.labels.any(axis=(1, 2)).argmax()), 30, 30)
    expected = sound.reading.probability[at] if kind is HEAT else sound.reading.entropy[at] / np.log(2)
    point = grid.points(np.array([at]))
    found = np.rint(np.linalg.inv(volume.affine) @ np.array([*point[0], 1]))[:3].astype(int)
    assert volume.array[tuple(found)] == pytest.approx(expected, abs=1e-6)


def test_a_pet_whose_slices_are_rescaled_apart_has_few_states(tmp_path: Path) -> None:
    """A state for each rescale slope, dark on white by SUV 0 to 7, and never more than a person clicks through."""
    built = MATRIX["petct"](tmp_path)
    states = written(built, LINES)
    assert 1 <= len(states) <= 5
    assert {state.PresentationLUTShape for state in states} == {"INVERSE"}
    assert len({state.SeriesInstanceUID for state in states}) == 1


def test_the_page_stays_one_page(sound: Case) -> None:
    """Twenty lesions and no survival fit as well, and a probability below 0.01 is no markup."""
    lesion = sound.context.findings.lesions[0]
    many = tuple(replace(lesion, number=number) for number in range(1, 21))
    findings = replace(sound.context.findings, lesions=many, survival={}, tumour_probability=Estimate(mean=0.001, sd=0))
    content = page.render(replace(sound.context, findings=findings), replace(sound.reading, findings=findings))
    assert b"/Count 1 " in content
    assert content.startswith(b"%PDF-")


def words(content: bytes) -> str:
    """Return the text of a page that was drawn with the fonts' ASCII as it is."""
    streams = re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL)
    packed = [one.strip().removesuffix(b"~>") for one in streams if one.strip().endswith(b"~>")]
    drawn = b"".join(zlib.decompress(base64.a85decode(one)) for one in packed)
    return " ".join(piece.decode("latin-1") for piece in re.findall(rb"\(((?:[^()\\]|\\.)*)\) Tj", drawn))


def test_a_page_without_fitted_survival_says_so(sound: Case) -> None:
    """Score, class, chart and limit are gone; one sentence says why, another where follow-up was too short."""
    known = words(page.render(sound.context, sound.reading))
    assert "Survival risk score" in known
    assert "Survival is an estimate" in known
    findings = replace(sound.context.findings, survival_risk=None, risk_class=None, survival={})
    told = words(page.render(replace(sound.context, findings=findings), replace(sound.reading, findings=findings)))
    assert "Survival: not fitted." in told
    assert not [said for said in ("risk", "Alive", "Survival is") if said in told]
    short = replace(findings, survival_risk=Estimate(mean=0.4, sd=0.1), risk_class=RiskClass.MODERATE)
    told = words(page.render(replace(sound.context, findings=short), sound.reading))
    assert "0.40 \\(moderate\\)" in told
    assert "Survival at no year" in told
