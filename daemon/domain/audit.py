"""Audit messages (PS3.15 A.5) as values: who did what to which study; how they are written and kept is elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum, StrEnum

from daemon.domain.codes import Concept

# Event IDs, PS3.16 CID 400
APPLICATION_ACTIVITY = Concept("110100", "DCM", "Application Activity")
AUDIT_LOG_USED = Concept("110101", "DCM", "Audit Log Used")
INSTANCES_ACCESSED = Concept("110103", "DCM", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED = Concept("110104", "DCM", "DICOM Instances Transferred")
QUERY = Concept("110112", "DCM", "Query")
SECURITY_ALERT = Concept("110113", "DCM", "Security Alert")
USER_AUTHENTICATION = Concept("110114", "DCM", "User Authentication")

# Event type codes, CID 401; those of alerts are in CID 403 too
APPLICATION_START = Concept("110120", "DCM", "Application Start")
APPLICATION_STOP = Concept("110121", "DCM", "Application Stop")
LOGIN = Concept("110122", "DCM", "Login")
LOGOUT = Concept("110123", "DCM", "Logout")
NODE_AUTHENTICATION = Concept("110126", "DCM", "Node Authentication")
NETWORK_CONFIGURATION = Concept("110128", "DCM", "Network Configuration")
SECURITY_CONFIGURATION = Concept("110129", "DCM", "Security Configuration")
RESTRICTED_FUNCTION = Concept("110132", "DCM", "Use of Restricted Function")

# Roles of participants, CID 402
APPLICATION = Concept("110150", "DCM", "Application")
LAUNCHER = Concept("110151", "DCM", "Application Launcher")
DESTINATION = Concept("110152", "DCM", "Destination Role ID")
SOURCE = Concept("110153", "DCM", "Source Role ID")

# Types of object identifiers, CID 404 and PS3.15 A.5.1.2.4
STUDY_INSTANCE_UID = Concept("110180", "DCM", "Study Instance UID")
SOP_CLASS_UID = Concept("110181", "DCM", "SOP Class UID")
NODE_ID = Concept("110182", "DCM", "Node ID")
PATIENT_NUMBER = Concept("2", "RFC-3881", "Patient Number")
URI = Concept("12", "RFC-3881", "URI")

PSEUDONYM = "pseudonym"
ALERT_DESCRIPTION = "Alert Description"


class Outcome(IntEnum):
    """Event Outcome Indicator (PS3.15 A.5.2); of an alert, how grave it is (A.5.3.11)."""

    SUCCESS = 0
    MINOR = 4
    SERIOUS = 8
    MAJOR = 12


class Action(StrEnum):
    """Event Action Code (PS3.15 A.5.2)."""

    CREATE = "C"
    READ = "R"
    EXECUTE = "E"


class ObjectKind(IntEnum):
    """Participant Object Type Code (PS3.15 A.5.1.1)."""

    PERSON = 1
    SYSTEM = 2


class ObjectRole(IntEnum):
    """Participant Object Type Code Role (PS3.15 A.5.1.2.2)."""

    PATIENT = 1
    REPORT = 3
    MASTER_FILE = 5
    SECURITY_RESOURCE = 13
    JOB = 20


@dataclass(frozen=True, kw_only=True)
class Participant:
    """An active participant: a process, a person or a node; `address` is an IP address or a machine's name."""

    user_id: str
    user_name: str = ""
    ae_title: str = ""
    address: str = ""
    requestor: bool = False
    role: Concept | None = None


@dataclass(frozen=True, kw_only=True)
class AuditObject:
    """A participant object; `details` are texts by type, `sop_classes` numbers of instances by SOP Class UID."""

    id: str
    id_type: Concept
    kind: ObjectKind
    role: ObjectRole
    name: str
    details: tuple[tuple[str, str], ...] = ()
    sop_classes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class AuditMessage:
    """One event; `type` is the code within its family."""

    event: Concept
    action: Action
    at: datetime
    outcome: Outcome
    participants: tuple[Participant, ...]
    type: Concept | None = None
    objects: tuple[AuditObject, ...] = ()
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Reporter:
    """The process that reports, and the machine's user who runs it."""

    process: Participant
    person: Participant


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Instances of one study that went from one node to another.

    `patient_key` is the ledger's keyed hash, never the Patient ID; empty where the ledger knows none. `others` are
    third parties, such as a person who asked for the transfer.
    """

    source: Participant
    destination: Participant
    study_instance_uid: str
    patient_key: str
    sop_classes: Mapping[str, int]
    action: Action
    outcome: Outcome = Outcome.SUCCESS
    description: str = ""
    others: tuple[Participant, ...] = ()


def resource(uri: str, role: ObjectRole, name: str, text: str = "") -> AuditObject:
    """Return a part of the system that a person used; `text` is an Alert Description."""
    details = ((ALERT_DESCRIPTION, text),) if text else ()
    return AuditObject(id=uri, id_type=URI, kind=ObjectKind.SYSTEM, role=role, name=name, details=details)


def started(reporter: Reporter, at: datetime) -> AuditMessage:
    """Return that the reporting process began (A.5.3.1)."""
    return _activity(reporter, at, APPLICATION_START)


def stopped(reporter: Reporter, at: datetime, fault: str = "") -> AuditMessage:
    """Return that it ended; `fault` names what ended it against its will."""
    message = _activity(reporter, at, APPLICATION_STOP)
    return replace(message, outcome=Outcome.MAJOR, description=fault) if fault else message


def _activity(reporter: Reporter, at: datetime, kind: Concept) -> AuditMessage:
    return AuditMessage(
        event=APPLICATION_ACTIVITY,
        type=kind,
        action=Action.EXECUTE,
        at=at,
        outcome=Outcome.SUCCESS,
        participants=(
            replace(reporter.process, role=APPLICATION),
            replace(reporter.person, role=LAUNCHER, requestor=True),
        ),
    )


def log_used(reporter: Reporter, at: datetime, uri: str) -> AuditMessage:
    """Return that a person read the audit log (A.5.3.2)."""
    return AuditMessage(
        event=AUDIT_LOG_USED,
        action=Action.READ,
        at=at,
        outcome=Outcome.SUCCESS,
        participants=(replace(reporter.person, requestor=True), reporter.process),
        objects=(resource(uri, ObjectRole.SECURITY_RESOURCE, "Security Audit Log"),),
    )


def transferred(transfer: Transfer, at: datetime) -> AuditMessage:
    """Return that instances were transferred, or that it failed (A.5.3.7)."""
    objects = _study(transfer.study_instance_uid, transfer.patient_key, transfer.sop_classes)
    return AuditMessage(
        event=INSTANCES_TRANSFERRED,
        action=transfer.action,
        at=at,
        outcome=transfer.outcome,
        participants=(
            replace(transfer.source, role=SOURCE),
            replace(transfer.destination, role=DESTINATION),
            *transfer.others,
        ),
        objects=objects,
        description=transfer.description,
    )


def accessed(reporter: Reporter, at: datetime, study_instance_uid: str, patient_key: str) -> AuditMessage:
    """Return that a person or program looked at instances of a study (A.5.3.6); one stands for all of some minutes."""
    return AuditMessage(
        event=INSTANCES_ACCESSED,
        action=Action.READ,
        at=at,
        outcome=Outcome.SUCCESS,
        participants=(replace(reporter.person, requestor=True), reporter.process),
        objects=_study(study_instance_uid, patient_key, {}),
    )


def brought(
    reporter: Reporter, at: datetime, digest: str, study_instance_uid: str = "", fault: str = ""
) -> AuditMessage:
    """Return that somebody had an image of theirs read, which is kept nowhere (A.5.3.6).

    `digest` is its SHA-256; DICOM is of a study, pictures and NIfTI are of none. `fault` says that it was not read.
    """
    image = AuditObject(
        id=f"urn:sha256:{digest}", id_type=URI, kind=ObjectKind.SYSTEM, role=ObjectRole.REPORT, name="uploaded image"
    )
    study = _study(study_instance_uid, "", {}) if study_instance_uid else ()
    return AuditMessage(
        event=INSTANCES_ACCESSED,
        action=Action.READ,
        at=at,
        outcome=Outcome.MINOR if fault else Outcome.SUCCESS,
        participants=(replace(reporter.person, requestor=True), reporter.process),
        objects=(*study, image),
        description=fault,
    )


def queried(reporter: Reporter, at: datetime, model: str, keys: str) -> AuditMessage:
    """Return that somebody asked what there is (A.5.3.10).

    `model` is the SOP Class UID of the information model; `keys` are the names of the matching keys, never the values,
    which may name a patient.
    """
    subject = AuditObject(
        id=model,
        id_type=SOP_CLASS_UID,
        kind=ObjectKind.SYSTEM,
        role=ObjectRole.REPORT,
        name="query",
        details=(("keys", keys),) if keys else (),
    )
    return AuditMessage(
        event=QUERY,
        action=Action.EXECUTE,
        at=at,
        outcome=Outcome.SUCCESS,
        participants=(
            replace(reporter.person, requestor=True, role=SOURCE),
            replace(reporter.process, role=DESTINATION),
        ),
        objects=(subject,),
    )


def _study(uid: str, patient_key: str, sop_classes: Mapping[str, int]) -> tuple[AuditObject, ...]:
    study = AuditObject(
        id=uid,
        id_type=STUDY_INSTANCE_UID,
        kind=ObjectKind.SYSTEM,
        role=ObjectRole.REPORT,
        name="study",
        sop_classes=tuple(sorted(sop_classes.items())),
    )
    patient = AuditObject(
        id=patient_key,
        id_type=PATIENT_NUMBER,
        kind=ObjectKind.PERSON,
        role=ObjectRole.PATIENT,
        name=PSEUDONYM,
    )
    return (study, patient) if patient_key else (study,)


def rejected(reporter: Reporter, caller: Participant, at: datetime, reason: str) -> AuditMessage:
    """Return that a node was turned away (A.5.3.11); it did not get in, so the alert is a minor one."""
    subject = AuditObject(
        id=caller.address or "unknown",
        id_type=NODE_ID,
        kind=ObjectKind.SYSTEM,
        role=ObjectRole.SECURITY_RESOURCE,
        name=caller.ae_title or "unknown",
        details=((ALERT_DESCRIPTION, reason),),
    )
    return AuditMessage(
        event=SECURITY_ALERT,
        type=NODE_AUTHENTICATION,
        action=Action.EXECUTE,
        at=at,
        outcome=Outcome.MINOR,
        participants=(reporter.process, caller),
        objects=(subject,),
        description=reason,
    )


def authenticated(reporter: Reporter, at: datetime, kind: Concept, fault: str = "") -> AuditMessage:
    """Return that a person logged in or out (A.5.3.12); `fault` says why that failed, a minor matter."""
    return AuditMessage(
        event=USER_AUTHENTICATION,
        type=kind,
        action=Action.EXECUTE,
        at=at,
        outcome=Outcome.MINOR if fault else Outcome.SUCCESS,
        participants=(replace(reporter.person, requestor=True), reporter.process),
        description=fault,
    )


def acted(reporter: Reporter, at: datetime, kind: Concept, subject: AuditObject) -> AuditMessage:
    """Return that a person changed something: an alert for information only (A.5.3.11).

    `kind` is NETWORK_CONFIGURATION, SECURITY_CONFIGURATION or RESTRICTED_FUNCTION; `subject` has an Alert Description.
    """
    return AuditMessage(
        event=SECURITY_ALERT,
        type=kind,
        action=Action.EXECUTE,
        at=at,
        outcome=Outcome.SUCCESS,
        participants=(replace(reporter.person, requestor=True), reporter.process),
        objects=(subject,),
    )
