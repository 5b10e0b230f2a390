"""The audit trail of a whole run with real processes and peers, and no patient anywhere in what the daemon tells."""

import json
from pathlib import Path
from typing import Any

from dicom_fixtures.headers import Patient
from dicom_fixtures.studies import StudyRequest, make_petct
from tests.audit_schema import checked
from tests.daemons import counted, init, overread, serving
from tests.peers import HOST, echoscu, free_port, orthanc, storescu, wait_until

DEADLINE = 240.0
PLANTED = ("plantedname", "planted-id", "19010203")


def events(config: Path) -> list[dict[str, Any]]:
    """Return the audit log, oldest first."""
    text = (config.parent / "data" / "audit.log").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_leaves_its_trail_and_names_no_patient(tmp_path: Path) -> None:
    """Start, a stranger turned away, the study in, results out, stop; the chain holds; no name, ID or birth date."""
    patient = Patient(name="Plantedname", patient_id="PLANTED-ID", birth_date="19010203")
    truth = make_petct(StudyRequest(seed=3, patient=patient), tmp_path / "study")
    count, port = len(list(truth.folder.rglob("*.dcm"))), free_port()
    with orthanc(tmp_path / "pacs", known={"OVERREAD": port}) as archive:
        config = init(tmp_path / "site", port, archive)
        with serving(tmp_path / "site", port, {"OVERREAD_INFERENCE__PASSES": "2"}):
            assert echoscu(port, calling_ae="STRANGER").returncode != 0
            assert storescu(port, [truth.folder]).returncode == 0
            wait_until(lambda: counted(config, "deliveries", "CONFIRMED") == 2, DEADLINE, "results to be confirmed")
    _trail(events(config), truth.study_instance_uid, count)
    verified = overread("audit", "verify", "--config", str(config))
    assert verified.returncode == 0, verified.stderr
    listed = overread("audit", "list", "--config", str(config), "--json").stdout
    site = tmp_path / "site"
    told = [listed, *(p.read_text() for p in (site / "serve.log", *(site / "data").glob("audit.*")))]
    named = " ".join([*told, *(str(p.relative_to(site)) for p in site.rglob("*"))]).lower()
    assert "dicom instances transferred" in named
    assert not any(planted in named for planted in PLANTED)


def _trail(log: list[dict[str, Any]], study: str, count: int) -> None:
    for event in log:
        checked(event["message"])
    activity = [(e["type"], e["message"].count("overread serve")) for e in log if e["event"] == "Application Activity"]
    assert activity[0] == ("Application Start", 1)
    assert activity[-1] == ("Application Stop", 1)
    assert sorted(kind for kind, _ in activity) == ["Application Start"] * 4 + ["Application Stop"] * 4
    (alert,) = [e for e in log if e["event"] == "Security Alert"]
    assert (alert["type"], alert["outcome"]) == ("Node Authentication", 4)
    assert alert["what"] == [HOST]
    transfers = [checked(e["message"]) for e in log if e["event"] == "DICOM Instances Transferred"]
    ends = [tuple(p.get("AlternativeUserID") for p in t.findall("ActiveParticipant")) for t in transfers]
    inward, outward = ("AETITLES=STORESCU", "AETITLES=OVERREAD"), ("AETITLES=OVERREAD", "AETITLES=ORTHANC")
    assert sorted(ends) == sorted([inward, outward, outward])
    stored = [int(s.attrib["NumberOfInstances"]) for s in transfers[ends.index(inward)].iter("SOPClass")]
    assert sum(stored) == count
    objects = [[o.attrib["ParticipantObjectID"] for o in t.iter("ParticipantObjectIdentification")] for t in transfers]
    assert {uid for uid, _ in objects} == {study}
    assert len({key for _, key in objects}) == 1
