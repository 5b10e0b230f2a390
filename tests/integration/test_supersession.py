"""A second answer to one study: made by the real verbs, told apart from the first by whoever reads it."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from sqlalchemy import text

from daemon.dimse.sender import send
from daemon.domain.delivery import Destination, SendOutcome
from daemon.inference.reader import BundleReader
from daemon.ledger.queries import Queries
from daemon.ledger.rows import IllegalTransitionError
from daemon.services.assemble import Assemble
from daemon.services.process import Process, Stores, WorkRules
from demo.ports import free_port
from tests.peers import need, orthanc
from tests.pushes import Site, site
from tests.sources import coarse_head
from tests.tiny_bundle import tiny_reader


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
    """A listener over a fresh ledger."""
    with site(tmp_path) as made:
        yield made


def answer(here: Site, models: BundleReader) -> tuple[Dataset, Dataset]:
    """Assemble and process what came; return the SEG and the SR that were made."""
    house = here.house
    assert Assemble(house.jobs, models.bundles, house.clock, here.patience).step() == 1
    stores = Stores(jobs=house.jobs, files=house.files, spool=house.spool)
    rules = WorkRules(worker="w", destinations=tuple, software_version="0")
    assert Process(stores, models, house.clock, rules).step()
    (newest, *_) = Queries(house.engine).jobs()
    assert newest.state == "COMPLETED", newest.detail
    made = {o.kind: house.spool.path(o.digest) for o in Queries(house.engine).outputs(job=newest.id)}
    return pydicom.dcmread(made["SEG"]), pydicom.dcmread(made["SR"])


def push(here: Site, slices: list[FileDataset]) -> None:
    here.push(slices)
    here.house.clock.at += here.patience.hopeful


def predecessors(report: Dataset) -> list[tuple[str, str, str, str]]:
    return [
        (study.StudyInstanceUID, series.SeriesInstanceUID, item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID)
        for study in report.get("PredecessorDocumentsSequence") or ()
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def named(report: Dataset) -> list[tuple[str, str, str, str]]:
    return [(report.StudyInstanceUID, report.SeriesInstanceUID, report.SOPClassUID, report.SOPInstanceUID)]


def test_each_answer_names_the_one_before_it_once(here: Site, models: BundleReader, head: list[FileDataset]) -> None:
    """Three answers to a growing study: a chain of predecessors (PS3.3 C.17.2), series that nobody can mix up."""
    answers = []
    for start, end in ((0, -4), (-4, -2), (-2, None)):
        push(here, head[start:end])
        answers.append(answer(here, models))
    reports = [report for _, report in answers]
    assert [predecessors(report) for report in reports] == [[], named(reports[0]), named(reports[1])]
    for number, (outline, report) in enumerate(answers):
        words = f", version {number + 1} " if number else " "
        assert outline.SeriesDescription == f"AI Brain tumour outline{words}(research use)"
        assert report.SeriesDescription == f"AI Brain tumour report{words}(research use)"
        assert (outline.SeriesNumber, report.SeriesNumber) == (9001 + 100 * number, 9002 + 100 * number)
    for attribute in ("SeriesInstanceUID", "SOPInstanceUID", "ContentTime"):
        assert len({getattr(dataset, attribute) for pair in answers for dataset in pair}) >= 3
    assert len({dataset.SeriesInstanceUID for pair in answers for dataset in pair}) == 6


@pytest.mark.peers
def test_a_second_answer_is_valid_and_a_text_viewer_shows_what_it_supersedes(
    here: Site, models: BundleReader, head: list[FileDataset], tmp_path: Path
) -> None:
    """The second answer has no error for dciodvfy, and DCMTK's dsrdump lists one predecessor."""
    need("dciodvfy", "dsrdump")
    push(here, head[:-2])
    answer(here, models)
    push(here, head[-2:])
    for dataset in answer(here, models):
        path = tmp_path / f"{dataset.Modality}.dcm"
        shutil.copy(str(dataset.filename), path)
        told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert not [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")]
    shown = subprocess.run(["dsrdump", str(tmp_path / "SR.dcm")], capture_output=True, text=True, check=True)
    told_once = {key.strip(): value.strip() for key, _, value in (n.partition(":") for n in shown.stdout.splitlines())}
    assert told_once["Predecessor Docs"] == "1"
    assert told_once["Series"] == "AI Brain tumour report, version 2 (research use) (#9102)"


@pytest.mark.peers
def test_a_pacs_lists_both_answers_side_by_side(
    here: Site, models: BundleReader, head: list[FileDataset], tmp_path: Path
) -> None:
    """Orthanc keeps four series of one study, each with a number and words of its own."""
    paths = []
    for part in (head[:-2], head[-2:]):
        push(here, part)
        paths += [Path(str(dataset.filename)) for dataset in answer(here, models)]
    with orthanc(tmp_path / "pacs", known={"OVERREAD": free_port()}, http=True) as peer:
        pacs = Destination(name="pacs", ae_title=peer.ae_title, host=peer.host, port=peer.port)
        assert {result.outcome for result in send(pacs, paths, "OVERREAD")} == {SendOutcome.STORED}
        listed = peer.rest("/series?expand")
    assert isinstance(listed, list)
    tags = [series["MainDicomTags"] for series in listed]
    assert sorted((tag["SeriesNumber"], tag["SeriesDescription"]) for tag in tags) == [
        ("9001", "AI Brain tumour outline (research use)"),
        ("9002", "AI Brain tumour report (research use)"),
        ("9101", "AI Brain tumour outline, version 2 (research use)"),
        ("9102", "AI Brain tumour report, version 2 (research use)"),
    ]


def test_a_job_given_back_is_not_worked_on_after_a_fuller_one_came(
    here: Site, models: BundleReader, head: list[FileDataset]
) -> None:
    """Where a worker gives up for the moment and more instances made a job meanwhile, only that one answers."""
    house = here.house
    push(here, head[:-2])
    assert Assemble(house.jobs, models.bundles, house.clock, here.patience).step() == 1
    claimed = house.jobs.claim("w", house.clock.at, here.patience.quiet)
    assert claimed is not None
    push(here, head[-2:])
    assert Assemble(house.jobs, models.bundles, house.clock, here.patience).step() == 1
    assert house.jobs.release(claimed.lease, "disk away", house.clock.at, house.clock.at)
    fuller = house.jobs.claim("w", house.clock.at, here.patience.quiet)
    assert fuller is not None
    assert len(fuller.input.instance_digests) == len(head)
    with house.engine.connect() as connection:
        states = connection.execute(text("select state from jobs order by id")).scalars().all()
    assert states == ["CANCELED", "IN PROGRESS"]
    with pytest.raises(IllegalTransitionError, match="superseded by job 2"):
        house.jobs.retry(claimed.lease.job_id, house.clock.at)
