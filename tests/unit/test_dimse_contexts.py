"""What is negotiated."""

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless

from daemon.dimse.contexts import (
    COMPREHENSIVE_3D_SR_STORAGE,
    INSTANCE_AVAILABILITY,
    RECEIVED,
    RETURNED,
    SEGMENTATION_STORAGE,
    STORAGE_COMMITMENT,
    VERIFICATION,
    requested_contexts,
    supported_contexts,
    transfer_syntaxes,
)
from daemon.errors import RefusedError


def test_every_supported_class_is_offered_once() -> None:
    """Verification, commitment, availability notices, each image class, and SEG, which comes back; reports do not."""
    offered = [context.abstract_syntax for context in supported_contexts()]
    assert sorted(offered) == sorted([VERIFICATION, STORAGE_COMMITMENT, INSTANCE_AVAILABILITY, *RECEIVED, *RETURNED])
    assert SEGMENTATION_STORAGE in offered
    assert COMPREHENSIVE_3D_SR_STORAGE not in offered


def test_names_of_received_classes_are_pydicoms() -> None:
    """The table's UIDs are the classes it says they are."""
    offered = {str(context.abstract_syntax): context.abstract_syntax.name for context in supported_contexts()}
    assert all(offered[uid] == name for uid, name in {**RECEIVED, **RETURNED}.items())


def test_compressed_syntaxes_follow_the_installed_decoders() -> None:
    """The plug-ins that are installed with the daemon decode what scanners send; video is not taken."""
    names = {uid.keyword for uid in transfer_syntaxes()}
    assert {"RLELossless", "JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000Lossless", "HTJ2KLossless"} <= names
    assert not [name for name in names if "MPEG" in name or "HEVC" in name]


def test_uncompressed_objects_are_proposed_in_both_little_endian_syntaxes() -> None:
    """Each syntax has a context of its own, so that the peer may take either."""
    contexts = requested_contexts([(COMPREHENSIVE_3D_SR_STORAGE, ExplicitVRLittleEndian)])
    assert [context.transfer_syntax for context in contexts] == [[ExplicitVRLittleEndian], [ImplicitVRLittleEndian]]


def test_compressed_objects_are_proposed_as_they_are() -> None:
    """Nothing is decompressed on the way out."""
    (context,) = requested_contexts([(SEGMENTATION_STORAGE, JPEG2000Lossless)] * 2)
    assert context.transfer_syntax == [JPEG2000Lossless]


def test_more_than_fit_one_association_are_refused() -> None:
    """128 presentation contexts is the protocol's limit."""
    with pytest.raises(RefusedError):
        requested_contexts((f"1.2.{number}", ExplicitVRLittleEndian) for number in range(100))
