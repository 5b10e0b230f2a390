"""Which SOP classes and transfer syntaxes are negotiated (PS3.8 9.3.2), as tables."""

from collections.abc import Iterable

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom.presentation import PresentationContext, build_context

from daemon.errors import RefusedError

VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
STORAGE_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
INSTANCE_AVAILABILITY = "1.2.840.10008.5.1.4.33"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
MOST_CONTEXTS = 128
SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
COMPREHENSIVE_3D_SR_STORAGE = "1.2.840.10008.5.1.4.1.1.88.34"

RECEIVED: dict[str, str] = {
    "1.2.840.10008.5.1.4.1.1.4": "MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.4.4": "Legacy Converted Enhanced MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.2": "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.128": "Positron Emission Tomography Image Storage",
    "1.2.840.10008.5.1.4.1.1.130": "Enhanced PET Image Storage",
    "1.2.840.10008.5.1.4.1.1.128.1": "Legacy Converted Enhanced PET Image Storage",
}
# Not input: outlines that people corrected and send back.
RETURNED: dict[str, str] = {SEGMENTATION_STORAGE: "Segmentation Storage"}

UNCOMPRESSED: tuple[UID, ...] = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)


def transfer_syntaxes() -> tuple[UID, ...]:
    """Return the transfer syntaxes whose pixels can be read here, the preferred first.

    The installed pydicom plug-ins are asked, so a syntax is accepted exactly when it can be decoded later.
    """
    return (*UNCOMPRESSED, *(uid for uid in AllTransferSyntaxes if uid.is_compressed and _decodable(uid)))


def supported_contexts() -> list[PresentationContext]:
    """Return what the listener accepts: Verification, images, corrected SEGs, availability notices, commitment reports.

    A PACS that reports a commitment proposes itself as SCP of Storage Commitment (PS3.4 J.3.3), so for that
    class both roles are accepted.
    """
    images = transfer_syntaxes()
    commitment = build_context(STORAGE_COMMITMENT, list(UNCOMPRESSED[:2]))
    commitment.scu_role = True
    commitment.scp_role = True
    return [
        build_context(VERIFICATION, list(UNCOMPRESSED[:2])),
        commitment,
        build_context(INSTANCE_AVAILABILITY, list(UNCOMPRESSED[:2])),
        *(build_context(uid, list(images)) for uid in (*RECEIVED, *RETURNED)),
    ]


def requested(wanted: Iterable[tuple[str, str]], spare: Iterable[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    """Return what to propose to send objects of `wanted`: (SOP class UID, transfer syntax UID), a context each.

    Each pair as the file has it; where that is uncompressed others offer Explicit and Implicit VR Little Endian, so
    that the peer's choice of one never costs us the other. Then those of `spare`, as far as they fit.

    Raises:
        RefusedError: more than fit one association (PS3.8 9.3.2.2 numbers them with the odd bytes).
    """
    pairs: dict[tuple[str, str], None] = {}
    for sop_class, syntax in sorted(set(wanted)):
        others = UNCOMPRESSED[:2] if syntax in UNCOMPRESSED else ()
        pairs |= dict.fromkeys((sop_class, str(uid)) for uid in (syntax, *others))
    if len(pairs) > MOST_CONTEXTS:
        raise RefusedError(f"{len(pairs)} presentation contexts needed; send fewer kinds of objects at a time")
    pairs |= dict.fromkeys(sorted(set(spare)))
    return list(pairs)[:MOST_CONTEXTS]


def requested_contexts(wanted: Iterable[tuple[str, str]]) -> list[PresentationContext]:
    """Return the same as pynetdicom takes it."""
    return [build_context(sop_class, [syntax]) for sop_class, syntax in requested(wanted)]


def _decodable(uid: UID) -> bool:
    try:
        return get_decoder(uid).is_available
    except NotImplementedError:
        return False
