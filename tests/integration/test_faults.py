"""Killed after any commit, the daemon goes on: nothing acknowledged is lost, every study is answered exactly once."""

import os
from pathlib import Path

import pytest

from daemon.services.faults import VARIABLE, Point
from daemon.services.receive import ABANDONED
from demo.ports import free_port
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_petct
from tests.daemons import counted, init, results, serving
from tests.peers import orthanc, storescu, wait_until

UNTIL_CONFIRMED = [point for point in Point if point is not Point.FREED_RECORDED]


def _commitment(point: Point) -> str:
    """Without Storage Commitment results are read back, which is the other way to CONFIRMED."""
    return "false" if point is Point.CONFIRMED else "true"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyTruth:
    """One PET/CT."""
    return make_petct(StudyRequest(seed=7), tmp_path_factory.mktemp("study"))


@pytest.mark.parametrize("point", UNTIL_CONFIRMED, ids=lambda p: p.value)
def test_killed_at_each_fault_point(point: Point, study: StudyTruth, tmp_path: Path) -> None:
    """SIGKILL after a commit, then a restart and the sender's retry: one SEG and one SR, both confirmed."""
    port, marker = free_port(), tmp_path / "reached"
    with orthanc(tmp_path / "pacs", known={"OVERREAD": port}, http=True) as archive:
        config = init(tmp_path / "site", port, archive, report_wait_seconds="3", commitment=_commitment(point))
        with serving(tmp_path / "site", port, {VARIABLE: f"{point.value}={marker}"}):
            wait_until(lambda: storescu(port, [study.folder]).returncode == 0, 120, "the whole study to be taken")
            wait_until(lambda: counted(config, "deliveries", "CONFIRMED") == 2, 180, "both results to be confirmed")
        assert marker.exists(), "the fault point was never reached"
        found = results(archive, study.study_instance_uid)
        assert {kind: len(ids) for kind, ids in found.items()} == {"SEG": 1, "SR": 1}
        assert counted(config, "instances", "stored") == sum(len(paths) for paths in study.series.values())
        assert counted(config, "jobs", "COMPLETED") == 1


def test_killed_before_what_it_freed_is_deleted(study: StudyTruth, tmp_path: Path) -> None:
    """Files that the ledger no longer names are swept up at a later start; nothing is sent again."""
    port, marker = free_port(), tmp_path / "reached"
    fault = {VARIABLE: f"{Point.FREED_RECORDED.value}={marker}", "OVERREAD_DATA__KEEP_DAYS": "0"}
    objects = tmp_path / "site/data/spool/objects"
    with orthanc(tmp_path / "pacs", known={"OVERREAD": port}, http=True) as archive:
        config = init(tmp_path / "site", port, archive, report_wait_seconds="3")
        with serving(tmp_path / "site", port, fault):
            assert storescu(port, [study.folder]).returncode == 0
            wait_until(marker.exists, 180, "the study to be freed")
        left = [path for path in objects.glob("*/*") if path.is_file()]
        assert left
        for path in left:
            old = path.stat().st_mtime - ABANDONED.total_seconds() - 1
            os.utime(path, (old, old))
        with serving(tmp_path / "site", port):
            assert not any(path.exists() for path in left)
            assert counted(config, "deliveries", "CONFIRMED") == 2
        found = results(archive, study.study_instance_uid)
    assert {kind: len(ids) for kind, ids in found.items()} == {"SEG": 1, "SR": 1}
