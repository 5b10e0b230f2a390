"""What is done at the console, in the audit trail."""

from collections.abc import Iterable

from daemon.domain import audit
from daemon.domain.audit import ObjectRole, Participant, Reporter
from daemon.domain.codes import Concept
from daemon.ledger.holdings import Holdings
from daemon.web.console import Console
from daemon.web.guard import Visitor

# Study Root Query/Retrieve Information Model - FIND, whose levels QIDO-RS has (PS3.18 10.6).
_STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"


def login(console: Console, name: str, address: str, fault: str = "") -> None:
    """Record that somebody logged in, or that it failed."""
    _authenticated(console, _reporter(console, name, address), audit.LOGIN, fault)


def logout(console: Console, visitor: Visitor) -> None:
    """Record that somebody logged out."""
    _authenticated(console, _reporter(console, visitor.name, visitor.address), audit.LOGOUT)


def acted(console: Console, visitor: Visitor, what: str, resource: str) -> None:
    """Record that somebody changed what the daemon does; `resource` is such as `jobs/7`."""
    house = console.house
    uri = f"{house.settings.data.folder.as_uri()}#{resource}"
    subject = audit.resource(uri, ObjectRole.JOB, resource, f"console: {what}")
    reporter = _reporter(console, visitor.name, visitor.address)
    house.trail.record([audit.acted(reporter, house.clock.now(), audit.RESTRICTED_FUNCTION, subject)])


def log_used(console: Console, visitor: Visitor) -> None:
    """Record that somebody read the audit log."""
    house = console.house
    reporter = _reporter(console, visitor.name, visitor.address)
    house.trail.record([audit.log_used(reporter, house.clock.now(), house.trail.chain.path.as_uri())])


def accessed(console: Console, visitor: Visitor, study: str) -> None:
    """Record that somebody looked at a study; once for all that they ask of it within some minutes (A.5.3.6)."""
    house = console.house
    now = house.clock.now()
    if console.accesses.told((visitor.name, visitor.address, study), now):
        return
    reporter = _reporter(console, visitor.name, visitor.address)
    house.trail.record([audit.accessed(reporter, now, study, Holdings(house.engine).patient_key(study))])


def tried(console: Console, visitor: Visitor, digest: str, outcome: tuple[str, str]) -> None:
    """Record that somebody had an image read; `outcome` is the study that it is of, if any, and what was wrong."""
    house = console.house
    reporter = _reporter(console, visitor.name, visitor.address)
    house.trail.record([audit.brought(reporter, house.clock.now(), digest, *outcome)])


def queried(console: Console, visitor: Visitor, keys: Iterable[str]) -> None:
    """Record that somebody searched, and by which keys."""
    house = console.house
    reporter = _reporter(console, visitor.name, visitor.address)
    house.trail.record([audit.queried(reporter, house.clock.now(), _STUDY_ROOT, ", ".join(sorted(keys)))])


def user_id(name: str) -> str:
    """Return what a user of the console is called in audit messages and in the ledger."""
    return f"web:{name}"


def _authenticated(console: Console, reporter: Reporter, kind: Concept, fault: str = "") -> None:
    console.house.trail.record([audit.authenticated(reporter, console.house.clock.now(), kind, fault)])


def _reporter(console: Console, name: str, address: str) -> Reporter:
    process = console.house.reporter("web").process
    return Reporter(process=process, person=Participant(user_id=user_id(name), address=address))
