"""Associations that we ask for: opened, tuned, released; every failure becomes a RetryableError that says why."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_role
from pynetdicom.transport import AddressInformation

from daemon.dimse.contexts import VERIFICATION, requested_contexts
from daemon.dimse.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from daemon.dimse.sockets import MendedSocket
from daemon.dimse.tls import Client
from daemon.dimse.waking import WakingDul
from daemon.domain.delivery import Destination, Echo
from daemon.domain.statuses import in_words
from daemon.errors import FatalError, RefusedError, RetryableError, UnreachableError

LOGGER = logging.getLogger(__name__)

EventHandlers = Sequence[tuple[evt.EventType, Callable[[evt.Event], object]]]
_IMPLICIT_LITTLE = "1.2.840.10008.1.2"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long to wait, in seconds, and how much to take in one PDU, in bytes.

    `report_seconds` is how long an association stays open for a Storage Commitment report on it.
    """

    connect_seconds: float = 10.0
    association_seconds: float = 30.0
    answer_seconds: float = 120.0
    report_seconds: float = 0.5
    max_pdu: int = 131072


DEFAULT_LIMITS = Limits()


class RequestingEntity(ApplicationEntity):
    """An application entity whose associations use `MendedSocket` and `WakingDul`."""

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: tuple[Client, str] | None
    ) -> MendedSocket:
        assoc.dul = WakingDul(assoc)
        created = MendedSocket(assoc, address=address)
        created.tls_args = tls_args
        return created


class NotOfferedError(RefusedError):
    """The destination accepts none of the presentation contexts proposed: it lacks the service."""


@contextmanager
def association(
    destination: Destination,
    calling_ae: str,
    contexts: Sequence[PresentationContext],
    limits: Limits = DEFAULT_LIMITS,
    handlers: EventHandlers = (),
) -> Iterator[Association]:
    """Yield an established association with `destination`; release it at the end, or abort it on an error.

    Raises:
        UnreachableError: it cannot be reached, or rejects the association. A permanent rejection too is worth
            repeating: an AE title that the PACS does not know today may be entered there tomorrow.
        NotOfferedError: it accepts none of `contexts`.
    """
    established = _establish(destination, calling_ae, contexts, limits, handlers)
    try:
        yield established
    except BaseException:
        if established.is_established:
            established.abort()
        raise
    if established.is_established:
        established.release()


def echo(destination: Destination, calling_ae: str, limits: Limits = DEFAULT_LIMITS) -> Echo:
    """Verify that `destination` answers C-ECHO; whatever goes wrong is in the answer."""
    started = monotonic()
    try:
        with association(
            destination, calling_ae, requested_contexts([(VERIFICATION, _IMPLICIT_LITTLE)]), limits
        ) as established:
            status = _status(established.send_c_echo())
    except (RetryableError, NotOfferedError) as error:
        return Echo(ok=False, detail=str(error), seconds=monotonic() - started)
    detail = "no answer to C-ECHO" if status is None else f"C-ECHO answered with {in_words(status)}"
    return Echo(ok=status == 0, detail=detail, seconds=monotonic() - started)


def _status(dataset: object) -> int | None:
    value = getattr(dataset, "Status", None)
    return None if value is None else int(value)


def _establish(
    destination: Destination,
    calling_ae: str,
    contexts: Sequence[PresentationContext],
    limits: Limits,
    handlers: EventHandlers,
) -> Association:
    _keep_identifiers_out_of_the_log()
    rejections: list[A_ASSOCIATE_RJ] = []

    def remember(event: evt.Event) -> None:
        if isinstance(event.pdu, A_ASSOCIATE_RJ):
            rejections.append(event.pdu)

    with addressing(destination):
        tls = Client(destination.tls) if destination.tls else None
        established = _entity(calling_ae, limits).associate(
            destination.host,
            destination.port,
            contexts=list(contexts),
            ae_title=destination.ae_title,
            max_pdu=limits.max_pdu,
            ext_neg=_roles(contexts),
            evt_handlers=[*handlers, (evt.EVT_PDU_RECV, remember)],
            tls_args=(tls, destination.host) if tls else None,
        )
    if established.is_established:
        keep_answers(established)
        return established
    if established.acceptor.primitive is not None and not rejections:
        raise not_offered(destination)
    raise unreachable(destination, calling_ae, rejections, tls)


@contextmanager
def addressing(destination: Destination) -> Iterator[None]:
    """Say of which destination credentials cannot be read, or the host name cannot be found.

    Raises:
        UnreachableError: one of both.
    """
    try:
        yield
    except FatalError as error:
        raise UnreachableError(f"{_named(destination)}: {error}") from error
    except OSError as error:
        raise UnreachableError(f"{_named(destination)}: {error}; check host and port") from error


def not_offered(destination: Destination) -> NotOfferedError:
    """Return that nothing of what was proposed is accepted."""
    return NotOfferedError(f"{_named(destination)}: it accepts none of the presentation contexts proposed")


def unreachable(
    destination: Destination, calling_ae: str, rejections: Sequence[A_ASSOCIATE_RJ], tls: Client | None
) -> UnreachableError:
    """Return why no association came about."""
    if tls is not None and tls.fault:
        return UnreachableError(f"{_named(destination)}: no TLS with it: {tls.fault}; see docs/security.md")
    return UnreachableError(f"{_named(destination)}: {_why(rejections, calling_ae, destination)}")


def _roles(contexts: Sequence[PresentationContext]) -> list[SCP_SCU_RoleSelectionNegotiation]:
    """Return what asks for the role of SCP, once for each SOP class of which a context wants it (PS3.7 D.3.3.4)."""
    return [build_role(uid, scp_role=True) for uid in dict.fromkeys(c.abstract_syntax for c in contexts if c.scp_role)]


def keep_answers(established: Association) -> None:
    """Leave every answer to whoever asked.

    pynetdicom 3.0.4 says that its own loop over messages is paused a moment before it is; under load it then takes an
    answer off the queue and drops it. Nothing is served on our associations: reports are heard elsewhere.
    """
    take = established.dimse.get_msg
    established.dimse.get_msg = lambda block=False: take(block=True) if block else (None, None)


def _entity(calling_ae: str, limits: Limits) -> RequestingEntity:
    entity = RequestingEntity(ae_title=calling_ae)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout = limits.connect_seconds
    entity.acse_timeout = limits.association_seconds
    entity.dimse_timeout = limits.answer_seconds
    entity.network_timeout = limits.answer_seconds
    return entity


def _keep_identifiers_out_of_the_log() -> None:
    """Silence pynetdicom below WARNING: at INFO it logs query identifiers, which may name patients."""
    logger = logging.getLogger("pynetdicom")
    if logger.getEffectiveLevel() < logging.WARNING:
        logger.setLevel(logging.WARNING)


def _why(rejections: Sequence[A_ASSOCIATE_RJ], calling_ae: str, destination: Destination) -> str:
    """Say why no association came about.

    The rejection PDU itself is asked: pynetdicom 3.0.4 reports a rejection that comes at once as a lost connection.
    """
    for rejection in rejections:
        return (
            f"association {_rejected(rejection)}; check that it knows AE {calling_ae} and is called "
            f"{destination.ae_title}"
        )
    return "no association: nothing listens there, or it hangs up; check host, port and that it runs"


def _rejected(rejection: A_ASSOCIATE_RJ) -> str:
    try:
        return f"{rejection.result_str.lower()}: {rejection.reason_str.lower()}"
    except ValueError:
        codes = rejection.result, rejection.source, rejection.reason_diagnostic
        return f"rejected with codes that PS3.8 Table 9-21 does not know {codes}"


def _named(destination: Destination) -> str:
    """Return a destination in words."""
    return f"destination {destination.name} ({destination.ae_title}@{destination.host}:{destination.port})"
