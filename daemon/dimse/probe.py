"""What a destination takes, asked by negotiation alone: nothing is sent (PS3.8 9.3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom.presentation import build_context

from daemon.dimse.contexts import (
    COMPREHENSIVE_3D_SR_STORAGE,
    SEGMENTATION_STORAGE,
    STORAGE_COMMITMENT,
    STUDY_ROOT_FIND,
    UNCOMPRESSED,
    VERIFICATION,
)
from daemon.dimse.requestor import DEFAULT_LIMITS, Limits, NotOfferedError, association
from daemon.domain.delivery import Destination

WANTED = (
    VERIFICATION,
    SEGMENTATION_STORAGE,
    COMPREHENSIVE_3D_SR_STORAGE,
    STORAGE_COMMITMENT,
    STUDY_ROOT_FIND,
)


@dataclass(frozen=True, kw_only=True)
class Service:
    """A SOP class and the transfer syntaxes, by name, in which a destination accepts it; none where it does not.

    `needed` are our results; without the others a destination is asked in other ways, or not at all.
    """

    sop_class: str
    uid: str
    transfer_syntaxes: tuple[str, ...]
    needed: bool

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
    syntaxes = UNCOMPRESSED[:2]
    contexts = [build_context(uid, [syntax]) for uid in wanted for syntax in syntaxes]
    try:
        with association(destination, calling_ae, contexts, limits) as established:
            accepted = {(c.abstract_syntax, str(c.transfer_syntax[0])) for c in established.accepted_contexts}
    except NotOfferedError:
        accepted = set()
    return tuple(
        Service(
            sop_class=UID(uid).name,
            uid=uid,
            transfer_syntaxes=tuple(syntax.name for syntax in syntaxes if (uid, str(syntax)) in accepted),
            needed=uid in {SEGMENTATION_STORAGE, COMPREHENSIVE_3D_SR_STORAGE},
        )
        for uid in wanted
    )
