"""Audit messages as XML after the schema of PS3.15 A.5.1.1."""

import base64
import ipaddress
import re
from xml.etree import ElementTree as ET

from daemon.domain.audit import AuditMessage, AuditObject, Participant
from daemon.domain.codes import Concept

# What XML 1.0 cannot hold, and what would break a line; a calling AE title comes from the network and may be anything.
_UNWRITABLE = re.compile("[^\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# "Application server process" (PS3.15 A.5.1.2.1)
_SOURCE_TYPE = "4"
_MACHINE_NAME, _IP_ADDRESS = "1", "2"


def render(message: AuditMessage, source: str) -> str:
    """Return a message as one line of XML; `source` is who reports it (AuditSourceID)."""
    root = ET.Element("AuditMessage")
    event = _child(
        root,
        "EventIdentification",
        EventActionCode=message.action.value,
        EventDateTime=message.at.isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=str(message.outcome.value),
    )
    _coded(event, "EventID", message.event)
    if message.type is not None:
        _coded(event, "EventTypeCode", message.type)
    if message.description:
        _child(event, "EventOutcomeDescription").text = _writable(message.description)
    for participant in message.participants:
        _participant(root, participant)
    reporter = _child(root, "AuditSourceIdentification", AuditSourceID=source)
    _child(reporter, "AuditSourceTypeCode", **{"csd-code": _SOURCE_TYPE})
    for subject in message.objects:
        _object(root, subject)
    return ET.tostring(root, encoding="unicode")


def _participant(root: ET.Element, participant: Participant) -> None:
    attributes = {"UserID": participant.user_id, "UserIsRequestor": str(participant.requestor).lower()}
    if participant.ae_title:
        attributes["AlternativeUserID"] = f"AETITLES={participant.ae_title}"
    if participant.user_name:
        attributes["UserName"] = participant.user_name
    if participant.address:
        attributes["NetworkAccessPointID"] = participant.address
        attributes["NetworkAccessPointTypeCode"] = _access_point(participant.address)
    element = _child(root, "ActiveParticipant", **attributes)
    if participant.role is not None:
        _coded(element, "RoleIDCode", participant.role)


def _access_point(address: str) -> str:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return _MACHINE_NAME
    return _IP_ADDRESS


def _object(root: ET.Element, subject: AuditObject) -> None:
    element = _child(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=subject.id,
        ParticipantObjectTypeCode=str(subject.kind.value),
        ParticipantObjectTypeCodeRole=str(subject.role.value),
    )
    _coded(element, "ParticipantObjectIDTypeCode", subject.id_type)
    _child(element, "ParticipantObjectName").text = _writable(subject.name)
    for kind, value in subject.details:
        _child(element, "ParticipantObjectDetail", type=kind, value=base64.b64encode(value.encode()).decode())
    if subject.sop_classes:
        description = _child(element, "ParticipantObjectDescription")
        for uid, count in subject.sop_classes:
            _child(description, "SOPClass", UID=uid, NumberOfInstances=str(count))


def _coded(parent: ET.Element, name: str, concept: Concept) -> None:
    _child(
        parent,
        name,
        **{"csd-code": concept.value, "codeSystemName": concept.scheme, "originalText": concept.meaning},
    )


def _child(parent: ET.Element, name: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, name, {key: _writable(value) for key, value in attributes.items()})


def _writable(text: str) -> str:
    return _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)
