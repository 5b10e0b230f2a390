"""What a sender proposes and what it understands of the answer, held against pynetdicom's own."""

import pytest
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context
from pynetdicom.transport import AddressInformation

from daemon.dimse.contexts import SEGMENTATION_STORAGE
from daemon.dimse.negotiation import Acceptance, proposal
from daemon.dimse.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from daemon.errors import RefusedError
from tests.dicom_files import CT

PROPOSED = [
    (CT, str(ExplicitVRLittleEndian)),
    (CT, str(ImplicitVRLittleEndian)),
    (SEGMENTATION_STORAGE, str(ExplicitVRLittleEndian)),
]


def primitive(longest: int) -> A_ASSOCIATE:
    """Return the primitive of the same proposal, or of an answer to it."""
    made = A_ASSOCIATE()
    made.application_context_name = UID("1.2.840.10008.3.1.1.1")
    made.calling_ae_title, made.called_ae_title = "OVERREAD", "PACS"
    made.calling_presentation_address = made.called_presentation_address = AddressInformation("127.0.0.1", 104)
    contexts = [build_context(sop_class, [syntax]) for sop_class, syntax in PROPOSED]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    made.presentation_context_definition_list = contexts
    length, uid, version = (
        MaximumLengthNotification(),
        ImplementationClassUIDNotification(),
        ImplementationVersionNameNotification(),
    )
    length.maximum_length_received = longest
    uid.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    made.user_information = [length, uid, version]
    return made


def answer(results: tuple[int, int, int], longest: int) -> bytes:
    """Return the A-ASSOCIATE-AC, without its first six bytes, with a result for each context."""
    made = primitive(longest)
    for context, result in zip(made.presentation_context_definition_list, results, strict=True):
        context.result = result
    made.presentation_context_definition_results_list = made.presentation_context_definition_list
    made.result = 0
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(made)
    encoded: bytes = pdu.encode()
    return encoded[6:]


def test_a_proposal_is_what_pynetdicom_would_say() -> None:
    """Octet by octet."""
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive(131072))
    assert proposal("PACS", "OVERREAD", PROPOSED, 131072) == pdu.encode()


@pytest.mark.parametrize("longest", [0, 4, 16384, (1 << 32) - 1])
def test_an_answer_says_what_is_accepted_and_why_the_rest_is_not(longest: int) -> None:
    """By pair, with the context's number; and how long a PDU may be."""
    told = Acceptance.parse(answer((0, 4, 3), longest), PROPOSED)
    assert told.contexts == {PROPOSED[0]: 1}
    assert told.rejected == [(CT, 4), (SEGMENTATION_STORAGE, 3)]
    assert told.longest == longest


def test_what_was_not_proposed_is_not_accepted() -> None:
    """An answer to a number that nobody gave is passed over."""
    told = Acceptance.parse(answer((0, 0, 0), 0), PROPOSED[:1])
    assert told.contexts == {PROPOSED[0]: 1}
    assert told.rejected == []


def test_an_answer_that_is_cut_off_is_refused_or_says_less() -> None:
    """Wherever it ends."""
    whole = answer((0, 0, 0), 0)
    full = Acceptance.parse(whole, PROPOSED)
    refused = 0
    for end in range(len(whole)):
        try:
            told = Acceptance.parse(whole[:end], PROPOSED)
        except RefusedError:
            refused += 1
        else:
            assert told.contexts.items() <= full.contexts.items()
    assert refused > len(whole) // 2


@pytest.mark.parametrize("at", range(68, 200, 3))
def test_an_answer_with_a_wrong_octet_breaks_nothing(at: int) -> None:
    """It is refused, or understood in some way."""
    broken = bytearray(answer((0, 0, 0), 0))
    broken[at] ^= 0xFF
    try:
        Acceptance.parse(bytes(broken), PROPOSED)
    except RefusedError as error:
        assert "malformed" in str(error)  # noqa: PT017 - either may come
