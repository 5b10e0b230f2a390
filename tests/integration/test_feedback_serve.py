"""A corrected outline pushed into a running daemon by DCMTK, as a workstation does."""

import json
from pathlib import Path
from typing import Any

import pydicom
import pytest

from demo.ports import free_port
from tests.corrections import corrected, dice, lower_half, voxels
from tests.daemons import Daemon, counted, init, overread, serving
from tests.manifests import BRAIN
from tests.peers import need, storescp, storescu, wait_until
from tests.sources import coarse_head
from tests.tiny_bundle import make_tiny_bundle
from training.field.harvest import Wanted, harvest

pytestmark = pytest.mark.peers


def asked(daemon: Daemon, *words: str) -> Any:  # noqa: ANN401 - whatever the command shows
    """Return what a command shows, as JSON."""
    shown = overread(*words, "--config", str(daemon.config))
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


def linked(daemon: Daemon) -> list[dict[str, Any]]:
    return [one for one in asked(daemon, "feedback", "list", "--json") if one["state"] != "RECEIVED"]


def test_a_corrected_outline_is_linked_to_its_answer_and_read_by_nobody(tmp_path: Path) -> None:
    """DCMTK pushes a study, then our SEG back, then an edited one: one correction with its Dice, still one job."""
    need("storescu", "storescp")
    make_tiny_bundle(tmp_path / "models" / "brain-mri" / "0.0.1")
    slices = [Path(str(one.filename)) for one in coarse_head(tmp_path / "head")[:-4]]
    site, port = tmp_path / "site", free_port()
    with storescp(tmp_path) as archive:
        init(site, port, archive, models=f'"{tmp_path / "models"}"', workers="1")
        with serving(site, port) as daemon:
            assert storescu(port, slices).returncode == 0
            wait_until(lambda: counted(daemon.config, "jobs", "COMPLETED") == 1, 120, "the answer")
            (ours,) = [one for one in asked(daemon, "outputs", "list", "--json") if one["kind"] == "SEG"]
            digest = ours["digest"]
            own = next(site.rglob(f"{digest[:2]}/{digest}"))
            edited = corrected(own, lower_half)
            edited.save_as(tmp_path / "edited.dcm", enforce_file_format=True)
            (tmp_path / "own.dcm").write_bytes(own.read_bytes())
            for name in ("own.dcm", "edited.dcm"):
                assert storescu(port, [tmp_path / name]).returncode == 0
            wait_until(lambda: bool(linked(daemon)), 60, "the correction to be linked")
            (found,) = linked(daemon)
            assert (found["state"], found["by"], found["job_id"]) == ("LINKED", "STORESCU", 1)
            assert found["dice"] == pytest.approx(dice(voxels(pydicom.dcmread(own)), voxels(edited)))
            assert sum(asked(daemon, "status", "--json")["jobs"].values()) == 1
            accepted = overread("feedback", "accept", "1", "--config", str(daemon.config))
            assert accepted.returncode == 0, accepted.stderr
            (stats,) = asked(daemon, "feedback", "stats", "--json")
            assert (stats["answers"], stats["acceptance"]) == (1, 1.0)
            for name, code, said in (("out", 0, ""), ("out", 1, ""), ("none", 0, "0 corrections")):
                told = overread("feedback", "export", "--out", str(tmp_path / name), "--config", str(daemon.config))
                assert (told.returncode, told.stdout.startswith(said)) == (code, True)
    check_handover(tmp_path / "out", tmp_path / "harvest", found["dice"])


def check_handover(folder: Path, samples: Path, expected: float) -> None:
    """Training makes one sample of what was handed over, with the same Dice; nobody else may read the folder."""
    index = json.loads((folder / "feedback.json").read_text())
    assert [(one["folder"], one["lacking"]) for one in index["corrections"]] == [("feedback-1", 0)]
    assert [one["kind"] for one in index["words"]] == ["accepted"]
    assert {path.stat().st_mode & 0o077 for path in (folder, *folder.rglob("*"))} == {0}
    gathered = harvest(folder, Wanted(manifest=BRAIN, salt=b"sixteen bytes of secret"), samples)
    assert (dict(gathered.refused), len(gathered.samples)) == ({}, 1)
    assert gathered.samples[0].dice == pytest.approx(expected, abs=0.01)
