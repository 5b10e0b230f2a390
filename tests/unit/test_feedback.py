"""What becomes of an outline that comes back: kept, linked, compared; nothing is read anew for it."""

import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import generate_uid

from daemon.dimse.contexts import SEGMENTATION_STORAGE
from daemon.domain.feedback import Candidate, Claims, Evidence, FeedbackKind, link
from daemon.domain.reception import Announced, Verdict
from daemon.errors import RefusedError
from daemon.inference.bundle import needed
from daemon.inference.reader import BundleReader
from daemon.ledger.feedback import Feedback
from daemon.ledger.opinions import FeedbackView, Opinions
from daemon.ledger.queries import Queries
from daemon.results.returned import compare
from daemon.services.assemble import Assemble
from daemon.services.process import Process, Stores, WorkRules
from daemon.services.receive import reconcile
from daemon.services.review import ATTEMPTS, LEASE, Review
from dicom_fixtures.planes import Layout
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.corrections import corrected, dice, lower_half, same, voxels
from tests.pushes import Site, site
from tests.sources import COARSE
from tests.tiny_bundle import make_tiny_bundle


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> BundleReader:
    """A model in which bright voxels are tumour."""
    folder = tmp_path_factory.mktemp("models")
    make_tiny_bundle(folder / "brain-mri" / "0.0.1")
    return BundleReader(needed(folder), threads=1, passes=2)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> list[FileDataset]:
    """A head with a tumour."""
    request = StudyRequest(seed=3, spacing=COARSE, layout=Layout(spacing=COARSE, matrix=(64, 64)))
    made = make_brain_mri(request, tmp_path_factory.mktemp("head"))
    slices = [pydicom.dcmread(path) for path in made.series["FLAIR"]]
    return sorted(slices, key=lambda d: float(d.ImagePositionPatient[2]))[:-4]


@pytest.fixture
def answered(tmp_path: Path, models: BundleReader, head: list[FileDataset]) -> Iterator[Site]:
    """A site that has read the head."""
    with site(tmp_path) as here:
        here.push(head)
        here.house.clock.at += here.patience.hopeful
        house = here.house
        assert Assemble(house.jobs, models.bundles, house.clock, here.patience).step() == 1
        stores = Stores(jobs=house.jobs, files=house.files, spool=house.spool)
        rules = WorkRules(worker="w", destinations=tuple, software_version="0")
        assert Process(stores, models, house.clock, rules).step()
        (job,) = Queries(house.engine).jobs()
        assert job.state == "COMPLETED", job.detail
        yield here


def outline(here: Site) -> Path:
    """Return the file of our SEG."""
    (made,) = [o for o in Queries(here.house.engine).outputs() if o.kind == "SEG"]
    return here.house.spool.path(made.digest)


def come_back(here: Site, seg: Dataset) -> Verdict:
    """Push a SEG as the listener would."""
    stream = io.BytesIO()
    seg.save_as(stream, enforce_file_format=True)
    announced = Announced(
        sop_class_uid=SEGMENTATION_STORAGE,
        sop_instance_uid=str(seg.SOPInstanceUID),
        transfer_syntax_uid=str(seg.file_meta.TransferSyntaxUID),
        calling_ae="MR1",
        called_ae="OVERREAD",
        association="a1",
    )
    incoming = here.house.reception.open(announced)
    incoming.write(stream.getvalue())
    return incoming.finish()


def review(here: Site) -> FeedbackView:
    """Look at what came back; return the newest."""
    house = here.house
    assert Review(Feedback(house.engine), house.spool, house.clock).step() == 1
    return Opinions(house.engine).listed()[0]


def study_row(here: Site) -> object:
    with here.house.engine.connect() as connection:
        return connection.exec_driver_sql("select * from studies").one()


@pytest.mark.parametrize(("tracked", "evidence"), [(True, Evidence.TRACKING), (False, Evidence.SERIES)])
def test_an_edited_outline_is_of_the_answer_it_edits(answered: Site, tracked: bool, evidence: Evidence) -> None:  # noqa: FBT001 - pytest's
    """Dice is that of the two masks, and the study stays as it was: no count, no news, no second job."""
    before, ours = study_row(answered), outline(answered)
    edited = corrected(ours, lower_half, tracked=tracked)
    assert come_back(answered, edited) is Verdict.STORED
    found = review(answered)
    expected = dice(voxels(pydicom.dcmread(ours)), voxels(edited))
    assert 0.2 < expected < 0.95
    assert (found.state, found.evidence, found.by) == ("LINKED", evidence.value, "MR1")
    assert found.dice == pytest.approx(expected)
    assert study_row(answered) == before
    assert here_jobs(answered) == 1
    assert answered.pass_time(3600) == 0


def test_a_tumour_where_we_outlined_none_is_a_dice_of_nothing(answered: Site, tmp_path: Path) -> None:
    """Our answer without an outline agrees with an empty one alone; the volume is that of the outlined voxels."""
    edited = corrected(outline(answered), lower_half)
    edited.save_as(tmp_path / "edited.dcm")
    found = compare(tmp_path / "edited.dcm", None)
    assert found.dice == 0.0
    assert found.ml == pytest.approx(int(voxels(edited).sum()) * float(np.prod(COARSE)) / 1000)
    corrected(outline(answered), np.zeros_like).save_as(tmp_path / "empty.dcm")
    assert compare(tmp_path / "empty.dcm", None).dice == 1.0


def here_jobs(here: Site) -> int:
    return len(Queries(here.house.engine).jobs())


def test_our_own_outline_is_no_correction(answered: Site) -> None:
    """An auto-forwarding PACS sends our SEG back, as it was or with another header: a success, and nothing is kept."""
    ours = pydicom.dcmread(outline(answered))
    files = answered.house.kept()
    assert come_back(answered, ours) is Verdict.OURS
    ours.InstitutionName = "coerced"
    assert come_back(answered, ours) is Verdict.OURS
    assert Opinions(answered.house.engine).listed() == []
    assert answered.house.kept() == files
    assert answered.house.spool.sound(outline(answered).name)


def test_the_same_correction_twice_is_one(answered: Site) -> None:
    """Sent again it is a success that changes nothing; with other bytes it stands beside the first."""
    edited = corrected(outline(answered), lower_half)
    assert [come_back(answered, edited) for _ in range(2)] == [Verdict.STORED, Verdict.DUPLICATE]
    edited.SeriesDescription = "again"
    assert come_back(answered, edited) is Verdict.CONFLICT
    assert len(Opinions(answered.house.engine).listed()) == 2


def flipped(seg: Dataset) -> Dataset:
    """Store the same outline as other tools do: rows from below, columns from the left, frames the other way round."""
    frames = voxels(seg)[::-1, ::-1, ::-1]
    groups = list(seg.PerFrameFunctionalGroupsSequence)[::-1]
    shared = seg.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    down, right = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    for group in groups:
        place = group.PlanePositionSequence[0]
        first = np.array(place.ImagePositionPatient, dtype=float)
        last = first + cosines[:3] * right * (seg.Columns - 1) + cosines[3:] * down * (seg.Rows - 1)
        place.ImagePositionPatient = [f"{v:.6f}" for v in last]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [f"{-v:g}" for v in cosines]
    seg.PerFrameFunctionalGroupsSequence = groups
    return repacked(seg, frames)


def repacked(seg: Dataset, frames: np.ndarray) -> Dataset:
    seg.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()
    return seg


def finer(seg: Dataset) -> Dataset:
    seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [1.5, 1.5]
    return seg


def shifted(seg: Dataset) -> Dataset:
    for group in seg.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSequence[0]
        place.ImagePositionPatient = [float(place.ImagePositionPatient[0]) + 0.7, *place.ImagePositionPatient[1:]]
    return seg


def test_an_outline_on_a_turned_grid_is_the_same_outline(answered: Site) -> None:
    """Voxels are compared where they lie in the patient, not where they stand in the file."""
    assert come_back(answered, flipped(corrected(outline(answered)))) is Verdict.STORED
    found = review(answered)
    assert (found.dice, found.detail) == (1.0, "")
    assert Opinions(answered.house.engine).stats()[0].acceptance == 1.0


@pytest.mark.parametrize("move", [finer, shifted])
def test_another_grid_is_kept_and_not_compared(answered: Site, move: Callable[[Dataset], Dataset]) -> None:
    """Nothing is resampled: the correction is linked, without a Dice, and says why."""
    come_back(answered, move(corrected(outline(answered))))
    found = review(answered)
    assert (found.state, found.dice) == ("LINKED", None)
    assert "its grid is another" in found.detail


def test_what_is_of_no_result_is_kept_with_the_reason(answered: Site) -> None:
    """Another study, another algorithm, another series, a broken object: each says why, in words of our own."""
    stranger = corrected(outline(answered))
    stranger.StudyInstanceUID = generate_uid()
    machine = corrected(outline(answered), tracked=False)
    machine.SegmentSequence[0].SegmentAlgorithmType = "AUTOMATIC"
    elsewhere = corrected(outline(answered), tracked=False)
    elsewhere.ReferencedSeriesSequence[0].SeriesInstanceUID = generate_uid()
    for element in elsewhere.iterall():
        if element.keyword == "ReferencedSOPInstanceUID":
            element.value = generate_uid()
    broken = corrected(outline(answered))
    del broken.SegmentSequence
    told = []
    for seg in (stranger, machine, elsewhere, broken):
        assert come_back(answered, seg) is Verdict.STORED
        found = review(answered)
        assert (found.state, found.job_id) == ("UNLINKED", None)
        told.append(found.detail)
    assert [words.split(",")[0] for words in told] == [
        "no result of ours is known for its study",
        "another algorithm's outline of a series that we read",
        "it outlines no series that we read",
        "it is no SEG with segments",
    ]


@pytest.mark.parametrize("keyword", ["Rows", "NumberOfFrames", "PixelData", "SharedFunctionalGroupsSequence"])
def test_a_hostile_outline_is_linked_and_not_compared(answered: Site, keyword: str) -> None:
    """A SEG that claims giant frames, or lacks what places it, ends nobody."""
    hostile = corrected(outline(answered))
    if keyword == "Rows":
        hostile.Rows = hostile.Columns = 65535
    else:
        delattr(hostile, keyword)
    come_back(answered, hostile)
    found = review(answered)
    assert (found.state, found.dice) == ("LINKED", None)
    assert found.detail.startswith("not compared: ")


def test_a_look_that_kills_its_worker_is_not_taken_for_ever(answered: Site) -> None:
    """Each claim counts; after some it is settled unread. Meanwhile no other worker is given it."""
    come_back(answered, corrected(outline(answered)))
    ledger, clock = Feedback(answered.house.engine), answered.house.clock
    for number in range(ATTEMPTS):
        taken = ledger.claim(clock.at, LEASE)
        assert taken is not None
        assert taken.attempts == number + 1
        assert ledger.claim(clock.at, LEASE) is None
        clock.at += LEASE
    assert "died" in review(answered).detail


def test_the_newest_word_on_an_answer_counts(answered: Site) -> None:
    """Of acceptance each answer has one voice; a job without an answer has none."""
    house, (job,) = answered.house, Queries(answered.house.engine).jobs()
    ledger = Feedback(house.engine)
    for kind in (FeedbackKind.ACCEPTED, FeedbackKind.REJECTED):
        house.clock.at += timedelta(seconds=1)
        ledger.say(job.id, kind, "otto", house.clock.at)
    (found,) = Opinions(house.engine).stats()
    assert (found.answers, found.accepted, found.rejected, found.acceptance) == (1, 0, 1, 0.0)
    house.clock.at += timedelta(seconds=1)
    come_back(answered, corrected(outline(answered), same))
    review(answered)
    (found,) = Opinions(house.engine).stats()
    assert (found.answers, found.accepted, found.corrected, found.dice) == (1, 1, 1, 1.0)
    with pytest.raises(RefusedError, match="no answer to accept"):
        ledger.say(99, FeedbackKind.ACCEPTED, "otto", house.clock.at)


def test_a_correction_stays_until_it_was_handed_over(answered: Site) -> None:
    """The spool is told to keep it, over a restart too; what is of no result may go, the rest once exported."""
    house, ledger = answered.house, Feedback(answered.house.engine)
    stray = corrected(outline(answered))
    stray.StudyInstanceUID = generate_uid()
    for seg in (stray, corrected(outline(answered))):
        come_back(answered, seg)
        review(answered)
    kept, lost = (view.digest for view in Opinions(house.engine).listed())
    assert kept
    assert reconcile(house.spool, house.files, house.intake, house.clock) == []
    assert {kept, lost} <= house.spool.sizes().keys()
    later = house.clock.at + timedelta(days=9)
    assert house.files.release(later) == [lost]
    ledger.exported([Opinions(house.engine).listed()[0].id], house.clock.at)
    assert house.files.release(later) == [kept]
    freed: list[str] = []
    house.files.while_free([kept], freed.extend)
    assert freed == [kept]


def test_a_study_takes_only_so_many_back(answered: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends without end is told that it is enough; what was taken stays."""
    monkeypatch.setattr("daemon.ledger.feedback.MOST_OF_STUDY", 2)
    told = [come_back(answered, corrected(outline(answered))) for _ in range(3)]
    assert told == [Verdict.STORED, Verdict.STORED, Verdict.TOO_MANY]


def candidate(job: int, model: str = "brain", *, outputs: str = "9", series: str = "1") -> Candidate:
    return Candidate(
        job_id=job,
        model=model,
        tracking_uid=f"8.{job}",
        outputs=frozenset({f"{outputs}.{job}"}),
        series=frozenset({series}),
    )


def claim(*, tracking: str = "", instance: str = "", series: str = "1", automatic: bool = False) -> Claims:
    return Claims(
        trackings=frozenset({tracking}),
        instances=frozenset({instance}),
        series=frozenset({series}),
        automatic=automatic,
    )


@pytest.mark.parametrize(
    ("claims", "job", "evidence"),
    [
        (claim(tracking="8.1", instance="9.2"), 1, Evidence.TRACKING),
        (claim(instance="9.1", automatic=True), 1, Evidence.REFERENCE),
        (claim(), 2, Evidence.SERIES),
        (claim(automatic=True), None, None),
        (claim(series="7"), None, None),
    ],
)
def test_the_surest_evidence_names_the_answer(claims: Claims, job: int | None, evidence: Evidence | None) -> None:
    """Tracking UID before references before the series; of several answers of one model the newest."""
    found = link(claims, [candidate(1), candidate(2)])
    assert (found.job_id, found.evidence) == (job, evidence)
    assert bool(found.detail) == (job is None)


def test_two_models_of_one_series_are_not_guessed_between() -> None:
    """What names neither is of neither."""
    found = link(claim(), [candidate(1), candidate(2, "other")])
    assert (found.job_id, "several models" in found.detail) == (None, True)
