"""Every audit message fits the standard's schema and says what its table in PS3.15 A.5.3 asks for."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts

from daemon.audit.message import render
from daemon.domain import audit
from daemon.domain.audit import Action, AuditMessage, AuditObject, Outcome, Participant, Reporter, Transfer
from daemon.domain.codes import Concept
from tests.audit_schema import checked

AT = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
US = Reporter(
    process=Participant(user_id="host-7", user_name="overread listen", ae_title="OVERREAD", address="host"),
    person=Participant(user_id="operator@host"),
)
SCANNER = Participant(user_id="MR1", ae_title="MR1", address="10.0.0.9")
JOB = AuditObject(
    id="file:///data#jobs/7",
    id_type=audit.URI,
    kind=audit.ObjectKind.SYSTEM,
    role=audit.ObjectRole.JOB,
    name="jobs/7",
    details=((audit.ALERT_DESCRIPTION, "overread jobs retry"),),
)
TRANSFER = Transfer(
    source=SCANNER,
    destination=US.process,
    study_instance_uid="1.2.3",
    patient_key="ab12",
    sop_classes={"1.2.840.10008.5.1.4.1.1.4": 3},
    action=Action.CREATE,
)
EVENTS = {
    "start": (audit.started(US, AT), "110100", "110120", "E"),
    "stop": (audit.stopped(US, AT), "110100", "110121", "E"),
    "log used": (audit.log_used(US, AT, "file:///data/audit.log"), "110101", None, "R"),
    "transfer": (audit.transferred(TRANSFER, AT), "110104", None, "C"),
    "rejected": (audit.rejected(US, SCANNER, AT, "not known"), "110113", "110126", "E"),
    "acted": (audit.acted(US, AT, audit.RESTRICTED_FUNCTION, JOB), "110113", "110132", "E"),
}


@pytest.mark.parametrize(("message", "event", "kind", "action"), EVENTS.values(), ids=EVENTS)
def test_each_event_fits_the_schema(message: AuditMessage, event: str, kind: str | None, action: str) -> None:
    """Elements, attributes and their order are those of A.5.1.1; codes and action those of A.5.3."""
    root = checked(render(message, "OVERREAD@host"))
    assert [code.attrib["csd-code"] for code in root[0].findall("EventID")] == [event]
    assert [code.attrib["csd-code"] for code in root[0].findall("EventTypeCode")] == ([kind] if kind else [])
    assert root[0].attrib["EventActionCode"] == action
    source = root.find("AuditSourceIdentification")
    assert source is not None
    assert source.attrib["AuditSourceID"] == "OVERREAD@host"


def test_a_transfer_names_both_ends_the_study_and_a_pseudonym() -> None:
    """One source, one destination, the study with its SOP classes, the patient by keyed hash (A.5.3.7)."""
    root = checked(render(audit.transferred(TRANSFER, AT), "s"))
    ends = [(p.attrib["UserID"], p[0].attrib["csd-code"]) for p in root.findall("ActiveParticipant")]
    assert ends == [("MR1", "110153"), ("host-7", "110152")]
    assert root[1].attrib["AlternativeUserID"] == "AETITLES=MR1"
    assert (root[1].attrib["NetworkAccessPointID"], root[1].attrib["NetworkAccessPointTypeCode"]) == ("10.0.0.9", "2")
    assert root[2].attrib["NetworkAccessPointTypeCode"] == "1"
    study, patient = root.findall("ParticipantObjectIdentification")
    assert (study.attrib["ParticipantObjectID"], study[0].attrib["csd-code"]) == ("1.2.3", "110180")
    assert study.attrib["ParticipantObjectTypeCodeRole"] == "3"
    sop_class = study[-1][0]
    assert sop_class.attrib == {"UID": "1.2.840.10008.5.1.4.1.1.4", "NumberOfInstances": "3"}
    assert (patient.attrib["ParticipantObjectID"], patient[0].attrib["csd-code"]) == ("ab12", "2")
    assert (patient.attrib["ParticipantObjectTypeCode"], patient.attrib["ParticipantObjectTypeCodeRole"]) == ("1", "1")
    assert patient[1].text == "pseudonym"


def test_an_alert_describes_itself() -> None:
    """The free text is base64 in an Alert Description; the node that called is not the requestor (A.5.3.11)."""
    root = checked(render(audit.rejected(US, SCANNER, AT, "calling AE title not recognised"), "s"))
    assert root[0].attrib["EventOutcomeIndicator"] == str(Outcome.MINOR.value)
    assert [p.attrib["UserIsRequestor"] for p in root.findall("ActiveParticipant")] == ["false", "false"]
    detail = root.find(".//ParticipantObjectDetail")
    assert detail is not None
    assert detail.attrib["type"] == "Alert Description"
    assert base64.b64decode(detail.attrib["value"]) == b"calling AE title not recognised"


def test_a_process_that_dies_of_a_fault_says_so() -> None:
    """Stopped against its will is a major failure: it is unavailable."""
    root = checked(render(audit.stopped(US, AT, "ended by FatalError"), "s"))
    assert root[0].attrib["EventOutcomeIndicator"] == "12"
    assert root[0].findtext("EventOutcomeDescription") == "ended by FatalError"


def test_a_hostile_ae_title_cannot_break_the_message() -> None:
    """What XML cannot hold is replaced, markup is escaped, and a line stays one line."""
    caller = Participant(user_id='<x a="\0\n&', ae_title='<x a="\0\n&', address="10.0.0.9")
    xml = render(audit.rejected(US, caller, AT, "a\x0bb"), "s")
    root = checked(xml)
    assert "\n" not in xml
    assert root[2].attrib["UserID"] == '<x a="\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}&'


def test_codes_are_the_standards() -> None:
    """Each code of ours has the value and meaning of PS3.16 CID 400 to 404, as pydicom's dictionary has them."""
    dictionary: Any = concepts["DCM"]
    known = {
        (value, meaning)
        for cid in (400, 401, 402, 403, 404)
        for keyword in cid_concepts[cid]["DCM"]
        for value, (meaning, _) in dictionary[keyword].items()
    }
    ours = {(c.value, c.meaning) for c in vars(audit).values() if isinstance(c, Concept) and c.scheme == "DCM"}
    assert len(ours) > 10
    assert ours <= known
