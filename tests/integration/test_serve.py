"""The whole main job with real processes: push by DCMTK, results in a real Orthanc."""

from pathlib import Path

from demo.ports import free_port
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_brain_mri, make_petct
from tests.daemons import counted, init, results, serving
from tests.outlines import dice
from tests.peers import Peer, orthanc, storescu, wait_until

DEADLINE = 120.0


def _push_and_wait(truth: StudyTruth, archive: Peer, folder: Path, port: int) -> dict[str, list[str]]:
    with serving(folder, port) as daemon:
        pushed = storescu(daemon.port, [truth.folder])
        assert pushed.returncode == 0, pushed.stdout
        expected = {"SEG": 1, "SR": 1}
        wait_until(
            lambda: {k: len(v) for k, v in results(archive, truth.study_instance_uid).items()} == expected,
            DEADLINE,
            "SEG and SR in the PACS",
        )
        wait_until(lambda: counted(daemon.config, "deliveries", "CONFIRMED") == 2, DEADLINE, "the PACS to commit both")
    return results(archive, truth.study_instance_uid)


def test_pushed_petct_comes_back_as_outline_and_report(tmp_path: Path) -> None:
    """A PET/CT pushed by storescu leaves one SEG on the lesion and one SR in Orthanc, both committed."""
    truth = make_petct(StudyRequest(seed=7, lesions=1), tmp_path / "study")
    port = free_port()
    with orthanc(tmp_path / "pacs", known={"OVERREAD": port}, http=True) as archive:
        init(tmp_path / "site", port, archive)
        found = _push_and_wait(truth, archive, tmp_path / "site", port)
        seg = archive.rest_bytes(f"/instances/{found['SEG'][0]}/file")
    (tmp_path / "seg.dcm").write_bytes(seg)
    assert dice(tmp_path / "seg.dcm", truth.mask) > 0.7


def test_pushed_head_mri_comes_back_as_outline_and_report(tmp_path: Path) -> None:
    """A FLAIR head pushed by storescu leaves one SEG on the lesion and one SR in Orthanc, both committed."""
    truth = make_brain_mri(StudyRequest(seed=11, lesions=1), tmp_path / "study")
    port = free_port()
    with orthanc(tmp_path / "pacs", known={"OVERREAD": port}, http=True) as archive:
        init(tmp_path / "site", port, archive)
        found = _push_and_wait(truth, archive, tmp_path / "site", port)
        seg = archive.rest_bytes(f"/instances/{found['SEG'][0]}/file")
    (tmp_path / "seg.dcm").write_bytes(seg)
    assert dice(tmp_path / "seg.dcm", truth.mask) > 0.7
