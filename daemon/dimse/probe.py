"""What a destination takes, asked by negotiation alone: nothing is sent (PS3.8 9.3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom.presentation import build_context

from daemon.dimse.contexts import (
    STORAGE_COMMITMENT,
    STUDY_ROOT_FIND,
    UNCOMPRESSED,
    VERIFICATION,
)
from daemon.dimse.recode import lossless
from daemon.dimse.requestor import DEFAULT_LIMITS, Limits, NotOfferedError, association
from daemon.domain.delivery import Destination
from daemon.domain.output import SOP_CLASSES

WANTED = (
    VERIFICATION,
    *SOP_CLASSES.values(),
    STORAGE_COMMITMENT,
    STUDY_ROOT_FIND,
)
_RESULTS = frozenset(SOP_CLASSES.values())
# Every syntax in which one of them can be sent; see `daemon.dimse.recode`.
_SENT = (*UNCOMPRESSED[:2], *lossless(8))
_WITHOUT = {
    STORAGE_COMMITMENT: "results are read back by queries",
    STUDY_ROOT_FIND: "without storage commitment too, results end as UNCONFIRMED",
}


@dataclass(frozen=True, kw_only=True)
class Service:
    """A SOP class and the transfer syntaxes, by name, in which a destination accepts it; none where it does not.

    `needed` are results that go there; without the others a destination is asked in other ways, or not at all. `mend`
    says what an administrator can do about what is not accepted, empty where all is well.
    """

    sop_class: str
    uid: str
    transfer_syntaxes: tuple[str, ...]
    needed: bool
    mend: str = ""

    @property
    def offered(self) -> bool:
        """Return whether it is accepted at all."""
        return bool(self.transfer_syntaxes)


def probe(
    destination: Destination, calling_ae: str, wanted: Sequence[str] = WANTED, limits: Limits = DEFAULT_LIMITS
) -> tuple[Service, ...]:
    """Return which of the SOP classes `wanted` the destination accepts, one context for each transfer syntax.

    Raises:
        RetryableError: it cannot be reached, or rejects the association.
    """
    asked = {uid: _SENT if uid in _RESULTS else UNCOMPRESSED[:2] for uid in wanted}
    contexts = [build_context(uid, [syntax]) for uid, syntaxes in asked.items() for syntax in syntaxes]
    try:
        with association(destination, calling_ae, contexts, limits) as established:
            accepted = {(c.abstract_syntax, str(c.transfer_syntax[0])) for c in established.accepted_contexts}
    except NotOfferedError:
        accepted = set()
    needed = {SOP_CLASSES[kind] for kind in destination.outputs}
    found = {uid: [s for s in syntaxes if (uid, str(s)) in accepted] for uid, syntaxes in asked.items()}
    return tuple(
        Service(
            sop_class=UID(uid).name,
            uid=uid,
            transfer_syntaxes=tuple(syntax.name for syntax in syntaxes),
            needed=uid in needed,
            mend=_mend(destination, uid, syntaxes) if uid in needed or uid not in _RESULTS else "",
        )
        for uid, syntaxes in found.items()
    )


def _mend(destination: Destination, uid: str, accepted: Sequence[UID]) -> str:
    if uid not in _RESULTS:
        return "" if accepted else _WITHOUT.get(uid, "")
    if not accepted:
        return (
            "let it accept this SOP class, or name another kind in its fallback, then "
            f"`overread deliveries replay --destination {destination.name} --state DEAD`"
        )
    if all(syntax.is_encapsulated for syntax in accepted):
        return "let it accept an uncompressed or deflated transfer syntax: 1-bit pixels and reports cannot go otherwise"
    return ""
