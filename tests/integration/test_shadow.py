"""Shadow mode in a running daemon: every answer goes out as ever, and what the second bundle finds stays at home."""

import json
from dataclasses import replace
from pathlib import Path

from demo.ports import free_port
from dicom_fixtures.planes import Layout
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.daemons import compared, counted, init, overread, results, serving
from tests.manifests import BRAIN
from tests.peers import orthanc, storescu, wait_until
from tests.sources import COARSE
from tests.tiny_bundle import make_tiny_bundle

STUDIES = 3


def test_a_second_bundle_reads_after_every_answer_and_sends_nothing(tmp_path: Path) -> None:
    """Three studies pushed at once: each has its SEG and SR in the archive, no more, before any second read ended."""
    make_tiny_bundle(tmp_path / "models" / BRAIN.name / "1.0.0", replace(BRAIN, version="1.0.0"))
    make_tiny_bundle(tmp_path / "shadow" / BRAIN.name / "2.0.0", replace(BRAIN, version="2.0.0"))
    port = free_port()
    with orthanc(tmp_path / "pacs", known={"OVERREAD": port}, http=True) as archive:
        config = init(tmp_path / "site", port, archive)
        text = config.read_text()
        for key, value in (("models", '"../models"'), ("shadow", '"../shadow"'), ("passes", "4")):
            assert f"\n# {key} =\n" in text
            text = text.replace(f"\n# {key} =\n", f"\n{key} = {value}\n", 1)
        config.write_text(text)
        layout = Layout(spacing=COARSE, matrix=(64, 64))
        studies = [
            make_brain_mri(StudyRequest(seed=3, spacing=COARSE, layout=layout, salt=str(n)), tmp_path / f"s{n}")
            for n in range(STUDIES)
        ]
        with serving(tmp_path / "site", port):
            storescu(port, [study.folder for study in studies])
            wait_until(lambda: counted(config, "deliveries", "CONFIRMED") >= 2 * STUDIES, 240, "every answer")
            wait_until(lambda: compared(config)["compared"] == STUDIES, 240, "every second read")
        assert compared(config) == {"waiting": 0, "failed": 0, "compared": STUDIES}
        told = overread("models", "shadow", "--json", "--config", str(config))
        assert sum(row["compared"] for row in json.loads(told.stdout)) == STUDIES
        assert counted(config, "deliveries", "CONFIRMED") == 2 * STUDIES
        for study in studies:
            found = results(archive, study.study_instance_uid)
            assert {kind: len(ids) for kind, ids in found.items()} == {"SEG": 1, "SR": 1}
    shown = [
        json.loads(overread("jobs", "show", str(number), "--config", str(config)).stdout)
        for number in range(1, STUDIES + 1)
    ]
    ended = [one["second_reads"][0]["finished_at"] for one in shown]
    assert max(one["job"]["finished_at"] for one in shown) < min(ended)
