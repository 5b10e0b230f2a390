"""The audit trail of a whole run with real processes and peers, and no patient anywhere in what the daemon tells."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo.ports import HOST, free_port
from dicom_fixtures.headers import Patient
from dicom_fixtures.studies import StudyRequest, make_petct
from tests.audit_schema import checked
from tests.certificates import Authority
from tests.daemons import counted, init, overread, serving
from tests.peers import echoscu, orthanc, storescu, wait_until
from tests.repositories import repository

DEADLINE = 240.0
PLANTED = ("plantedname", "planted-id", "19010203")


def events(config: Path) -> list[dict[str, Any]]:
    """Return the audit log, oldest first."""
    text = (config.parent / "data" / "audit.log").read_text()
    return [json.loads(line) for line in text.splitlines()]


def secured(config: Path, authority: Authority, port: int) -> None:
    """Name a repository, and the files of TLS."""
    ours = authority.issue("overread")
    text = config.read_text().replace('repository = ""', f'repository = "tls://{HOST}:{port}"')
    for key, file in (("certificate", ours.certificate), ("key", ours.key), ("authorities", authority.certificate)):
        text = text.replace(f"# {key} =", f'{key} = "{file}"')
    config.write_text(text)


def behind(config: Path) -> int:
    """Return how many messages wait for the repository, as `overread audit status` says."""
    return int(json.loads(overread("audit", "status", "--json", "--config", str(config)).stdout)["waiting"])


def test_a_run_leaves_its_trail_and_names_no_patient(tmp_path: Path) -> None:
    """Start, a stranger turned away, the study in, results out, stop; the chain holds; the repository has it all.

    No name, ID or birth date is in what a command prints, in the log, the audit trail, a syslog line or a file's name.
    """
    patient = Patient(name="Plantedname", patient_id="PLANTED-ID", birth_date="19010203")
    truth = make_petct(StudyRequest(seed=3, patient=patient), tmp_path / "study")
    count, port = len(list(truth.folder.rglob("*.dcm"))), free_port()
    authority = Authority(tmp_path / "tls")
    with (
        orthanc(tmp_path / "pacs", known={"OVERREAD": port}) as archive,
        repository(authority.issue("arr", f"IP:{HOST}"), authority) as server,
    ):
        config = init(tmp_path / "site", port, archive)
        secured(config, authority, server.port)
        with serving(tmp_path / "site", port, {"OVERREAD_INFERENCE__PASSES": "2"}):
            assert echoscu(port, calling_ae="STRANGER").returncode != 0
            assert storescu(port, [truth.folder]).returncode == 0
            wait_until(lambda: counted(config, "deliveries", "CONFIRMED") == 2, DEADLINE, "results to be confirmed")
            wait_until(lambda: behind(config) == 0, 60, "the repository to have it all")
        told = list(_everything_told(config, truth.study_instance_uid))
    log = events(config)
    _trail(log, truth.study_instance_uid, count)
    assert server.sequences() == [event["number"] for event in log][: len(server.messages)]
    assert all(message.endswith(event["message"]) for message, event in zip(server.messages, log, strict=False))
    assert any("DICOM Instances Transferred" in message for message in server.messages)
    verified = overread("audit", "verify", "--config", str(config))
    assert verified.returncode == 0, verified.stderr
    site = tmp_path / "site"
    told += [*server.messages, *(p.read_text() for p in (site / "serve.log", *(site / "data").glob("audit.*")))]
    named = " ".join([*told, *(str(p.relative_to(site)) for p in site.rglob("*"))]).lower()
    assert "dicom instances transferred" in named
    assert not any(planted in named for planted in PLANTED)


def _everything_told(config: Path, study: str) -> Iterator[str]:
    """Yield what the commands print that show what came and what became of it."""
    for command in (
        ("status",),
        ("studies", "list"),
        ("studies", "show", study),
        ("jobs", "list"),
        ("outputs", "list"),
        ("deliveries", "list"),
        ("destinations", "list"),
        ("audit", "list"),
        ("doctor",),
    ):
        ran = overread(*command, "--config", str(config), "--json")
        assert study in ran.stdout or command[0] not in {"studies", "jobs"}, ran.stderr
        yield ran.stdout + ran.stderr
    yield overread("jobs", "show", "1", "--config", str(config)).stdout


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
