"""A study that is not read gets a report that says why: made by the real verbs, taken by a real PACS."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import generate_uid

from daemon.domain import codes
from daemon.domain.reasons import Reason
from daemon.inference.reader import BundleReader
from daemon.ledger.jobs import Jobs
from daemon.ledger.queries import JobView, Queries
from daemon.services.assemble import Assemble
from daemon.services.faults import VARIABLE, Point
from daemon.services.process import Process, Stores, WorkRules
from demo.ports import free_port
from dicom_fixtures.studies import StudyRequest, make_petct
from tests.daemons import counted, init, results, serving
from tests.peers import orthanc, storescu, wait_until
from tests.pushes import Site, site, stack
from tests.sources import coarse_head
from tests.tiny_bundle import tiny_reader

BEFORE_DELIVERY = (Point.STUDY_SETTLED, Point.JOB_CLAIMED, Point.OUTPUTS_KEPT, Point.JOB_COMPLETED)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> BundleReader:
    """A model in which bright voxels are tumour."""
    return tiny_reader(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> list[FileDataset]:
    """A head with a tumour, by slice from below."""
    return coarse_head(tmp_path_factory.mktemp("head"))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    """A listener over a fresh ledger that reports refusals."""
    with site(tmp_path) as made:
        made.house.jobs = Jobs(made.house.engine, reports=True)
        yield made


def work(here: Site, models: BundleReader) -> list[JobView]:
    """Settle what came, work until nothing is due; return all jobs, oldest first."""
    house = here.house
    house.clock.at += here.patience.hopeful
    assert Assemble(house.jobs, models.bundles, house.clock, here.patience).step() == 1
    toil(here, models)
    return Queries(house.engine).jobs()[::-1]


def toil(here: Site, models: BundleReader) -> None:
    house = here.house
    stores = Stores(jobs=house.jobs, files=house.files, spool=house.spool)
    process = Process(stores, models, house.clock, WorkRules(worker="w", destinations=tuple, software_version="0"))
    while process.step():
        pass


def reports(here: Site, job: JobView) -> list[FileDataset]:
    found = Queries(here.house.engine).outputs(job=job.id)
    return [pydicom.dcmread(here.house.spool.path(o.digest)) for o in found if o.kind == "SR"]


def lines(report: Dataset) -> list[tuple[str, str]]:
    """Return name and value of the document's texts and codes, in reading order, from the first text on."""

    def walk(item: Dataset) -> Iterator[tuple[str, str, str]]:
        for child in item.get("ContentSequence") or ():
            name = child.ConceptNameCodeSequence[0].CodeMeaning
            if child.ValueType in ("TEXT", "CODE"):
                value = child.TextValue if child.ValueType == "TEXT" else child.ConceptCodeSequence[0].CodeMeaning
                yield child.ValueType, str(name), str(value)
            yield from walk(child)

    found = list(walk(report))
    start = next(index for index, (kind, name, _) in enumerate(found) if (kind, name) == ("TEXT", "Conclusion"))
    return [(name, value) for _, name, value in found[start:]]


def predecessors(report: Dataset) -> list[str]:
    return [
        str(item.ReferencedSOPInstanceUID)
        for study in report.get("PredecessorDocumentsSequence") or ()
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def test_a_study_with_a_gap_is_told_so_once_and_read_when_the_slice_comes(
    here: Site, models: BundleReader, head: list[FileDataset]
) -> None:
    """Cause, mend and what came, in the study itself; the answer that follows names it and is the second."""
    gone = len(head) // 2
    here.push([*head[:gone], *head[gone + 1 :]])
    (refused,) = work(here, models)
    assert (refused.refusal, refused.state, refused.bundle) == (Reason.MISSING_SLICES, "COMPLETED", "")
    (report,) = reports(here, refused)
    assert (report.StudyInstanceUID, report.PatientID) == (head[0].StudyInstanceUID, head[0].PatientID)
    assert report.SeriesDescription == "AI report: not processed (research use)"
    assert lines(report) == [
        ("Conclusion", "Not processed. At least one slice is missing from the series. Send the missing slices."),
        ("Result", "Not processed"),
        ("Not processed because", "Missing slices"),
        ("Received", f"MR series {head[0].SeriesNumber}, {len(head) - 1} images"),
    ]
    here.push([head[gone]])
    _, read = work(here, models)
    assert (read.refusal, read.state) == ("", "COMPLETED")
    (answer,) = reports(here, read)
    assert predecessors(answer) == [report.SOPInstanceUID]
    assert answer.SeriesDescription.startswith("AI Brain tumour report, version 2")
    assert answer.SeriesNumber != report.SeriesNumber


def test_the_same_cause_is_told_once_and_another_names_it(
    here: Site, models: BundleReader, head: list[FileDataset]
) -> None:
    """More of a study that still has a gap changes nothing; another cause is another report."""
    here.push([*head[:5], *head[7:-2]])
    (first,) = work(here, models)
    here.push(head[-2:])
    assert [job.id for job in work(here, models)] == [first.id]
    again = [deepcopy(dataset) for dataset in head[5:7]]
    for dataset in again:
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    here.push(again)
    _, second = work(here, models)
    assert second.refusal not in ("", first.refusal)
    assert predecessors(reports(here, second)[0]) == [reports(here, first)[0].SOPInstanceUID]


def test_a_job_that_fails_is_told_and_its_retry_follows(
    here: Site, models: BundleReader, head: list[FileDataset]
) -> None:
    """Damaged after receipt: the report names the model; sent again and retried, the answer names the report."""
    here.push(head)
    house = here.house
    victim = house.spool.path(next(iter(house.files.kept())))
    whole = victim.read_bytes()
    victim.chmod(0o600)
    victim.write_bytes(b"spoiled" + whole[7:])
    failed, refused = work(here, models)
    assert (failed.state, failed.reason) == ("FAILED", Reason.DAMAGED)
    assert (refused.refusal, refused.bundle, refused.state) == (Reason.DAMAGED, "brain-mri", "COMPLETED")
    (report,) = reports(here, refused)
    assert lines(report)[2] == ("Not processed because", "Damaged after receipt")
    victim.write_bytes(whole)
    house.jobs.retry(failed.id, house.clock.at)
    toil(here, models)
    (answered, _) = Queries(house.engine).jobs()[::-1]
    assert answered.state == "COMPLETED"
    assert predecessors(reports(here, answered)[0]) == [report.SOPInstanceUID]


@pytest.mark.parametrize("modality", ["CT", "PT"])
def test_a_ct_alone_gets_no_report_and_a_pet_alone_does(here: Site, modality: str) -> None:
    """Nobody sent the CT to be read: a PACS that forwards every CT is not flooded."""
    here.push(stack(modality))
    assert here.pass_time(here.patience.hopeful.total_seconds()) == 1
    assert [(job.refusal, job.state) for job in here.jobs] == (
        [(Reason.NO_CT, "SCHEDULED")] if modality == "PT" else []
    )


def test_what_is_off_makes_no_report(here: Site, models: BundleReader, head: list[FileDataset]) -> None:
    """Without the setting a refusal stands in the ledger alone."""
    here.house.jobs = Jobs(here.house.engine)
    here.push([*head[:5], *head[6:]])
    assert work(here, models) == []


def test_a_study_that_has_its_answer_keeps_it(here: Site, models: BundleReader, head: list[FileDataset]) -> None:
    """Late instances that spoil the study make no report that it was not read: it was."""
    here.push(head)
    (read,) = work(here, models)
    late = deepcopy(head[0])
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    here.push([late])
    assert [job.id for job in work(here, models)] == [read.id]


@pytest.mark.peers
@pytest.mark.parametrize("point", BEFORE_DELIVERY, ids=lambda p: p.value)
def test_killed_at_each_point_the_report_arrives_once(point: Point, tmp_path: Path) -> None:
    """SIGKILL after a commit, then a restart: one SR in the PACS, confirmed."""
    study, port, marker = make_petct(StudyRequest(seed=7), tmp_path / "study"), free_port(), tmp_path / "reached"
    with orthanc(tmp_path / "pacs", known={"OVERREAD": port}, http=True) as archive:
        config = init(tmp_path / "site", port, archive, report_wait_seconds="3", not_processed="true")
        with serving(tmp_path / "site", port, {VARIABLE: f"{point.value}={marker}"}):
            paths = study.series["PET"]
            wait_until(lambda: storescu(port, paths).returncode == 0, 240, "the PET to be taken")
            wait_until(lambda: counted(config, "deliveries", "CONFIRMED") == 1, 240, "the report to be confirmed")
        assert marker.exists(), "the fault point was never reached"
        found = results(archive, study.study_instance_uid)
        assert {kind: len(ids) for kind, ids in found.items()} == {"SEG": 0, "SR": 1}
        assert counted(config, "jobs", "COMPLETED") == 1


def test_every_reason_that_is_told_has_a_code_that_fits() -> None:
    """Code Value is SH, Code Meaning LO (PS3.5 6.2); no code stands for two things."""
    concepts = [*codes.REASONS.values(), *codes.ANSWERS.values()]
    assert max(len(concept.value) for concept in concepts) <= 16
    assert max(len(concept.meaning) for concept in concepts) <= 64
    assert len({concept.value for concept in concepts}) == len(concepts)
