"""The audit message schema of PS3.15 A.5.1.1, by hand: what each element must have, may have and holds, in order."""

import base64
import re
from dataclasses import dataclass
from datetime import datetime
from xml.etree import ElementTree as ET

CODED = frozenset({"csd-code", "codeSystemName", "originalText"})
ANY = r"[\s\S]*"
NUMBERS = {
    "EventActionCode": "[CRUDE]",
    "EventOutcomeIndicator": "0|4|8|12",
    "UserIsRequestor": "true|false",
    "NetworkAccessPointTypeCode": "[1-5]",
    "ParticipantObjectTypeCode": "[1-4]",
    "ParticipantObjectTypeCodeRole": "[1-9]|1[0-9]|2[0-6]",
    "NumberOfInstances": "[0-9]+",
    "UID": r"[0-9.]{1,64}",
}


@dataclass(frozen=True)
class Rule:
    """Attributes that must and may be there, and the children's tags as a pattern over `tag,tag,`."""

    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    children: str = ""


RULES = {
    "AuditMessage": Rule(
        children="EventIdentification,(ActiveParticipant,)+AuditSourceIdentification,(ParticipantObjectIdentification,)*"
    ),
    "EventIdentification": Rule(
        frozenset({"EventDateTime", "EventOutcomeIndicator"}),
        frozenset({"EventActionCode"}),
        "EventID,(EventTypeCode,)*(EventOutcomeDescription,)?",
    ),
    "EventID": Rule(CODED),
    "EventTypeCode": Rule(CODED),
    "EventOutcomeDescription": Rule(),
    "ActiveParticipant": Rule(
        frozenset({"UserID", "UserIsRequestor"}),
        frozenset({"AlternativeUserID", "UserName", "NetworkAccessPointID", "NetworkAccessPointTypeCode"}),
        "(RoleIDCode,)*",
    ),
    "RoleIDCode": Rule(CODED),
    "AuditSourceIdentification": Rule(
        frozenset({"AuditSourceID"}), frozenset({"AuditEnterpriseSiteID"}), "(AuditSourceTypeCode,)*"
    ),
    "AuditSourceTypeCode": Rule(frozenset({"csd-code"}), CODED),
    "ParticipantObjectIdentification": Rule(
        frozenset({"ParticipantObjectID"}),
        frozenset({"ParticipantObjectTypeCode", "ParticipantObjectTypeCodeRole", "ParticipantObjectDataLifeCycle"}),
        "ParticipantObjectIDTypeCode,ParticipantObjectName,(ParticipantObjectDetail,)*(ParticipantObjectDescription,)*",
    ),
    "ParticipantObjectIDTypeCode": Rule(CODED),
    "ParticipantObjectName": Rule(),
    "ParticipantObjectDetail": Rule(frozenset({"type", "value"})),
    "ParticipantObjectDescription": Rule(children="(SOPClass,)*"),
    "SOPClass": Rule(frozenset({"NumberOfInstances"}), frozenset({"UID"})),
}


def checked(xml: str) -> ET.Element:
    """Return the parsed message; fail where it does not fit the schema."""
    root = ET.fromstring(xml)  # noqa: S314 - our own words
    assert root.tag == "AuditMessage"
    for element in root.iter():
        _check(element)
    when = datetime.fromisoformat(root[0].attrib["EventDateTime"])
    assert when.tzinfo is not None
    return root


def _check(element: ET.Element) -> None:
    rule = RULES[element.tag]
    names = frozenset(element.attrib)
    assert rule.required <= names <= rule.required | rule.optional, element.tag
    assert re.fullmatch(rule.children, "".join(f"{child.tag}," for child in element)), element.tag
    for name, value in element.attrib.items():
        assert re.fullmatch(NUMBERS.get(name, ANY), value), (element.tag, name, value)
    if element.tag == "ParticipantObjectDetail":
        base64.b64decode(element.attrib["value"], validate=True)
    if element.tag == "ActiveParticipant":
        assert ("NetworkAccessPointID" in names) == ("NetworkAccessPointTypeCode" in names)
