"""What a STOW-RS answer says of one object (PS3.18 10.5.3)."""

import pytest
from pydicom.dataset import Dataset

from daemon.config.sections import DestinationSection
from daemon.dicomweb.stow import judge_answer
from daemon.domain.delivery import SendOutcome

UID = "1.2.3"
STORED, REFUSED, RETRY = SendOutcome.STORED, SendOutcome.REFUSED, SendOutcome.RETRY


def said(sequence: str, uid: str = UID, **reasons: int | list[int]) -> Dataset:
    """Return an answer that names one object."""
    answer, item = Dataset(), Dataset()
    item.ReferencedSOPInstanceUID = uid
    for keyword, value in reasons.items():
        setattr(item, keyword, value)
    setattr(answer, sequence, [item])
    return answer


@pytest.mark.parametrize(
    ("code", "content", "outcome"),
    [
        (200, Dataset(), STORED),
        (201, Dataset(), STORED),
        (204, Dataset(), STORED),
        (200, said("ReferencedSOPSequence"), STORED),
        (202, said("ReferencedSOPSequence", WarningReason=0xB000), STORED),
        (202, said("FailedSOPSequence", FailureReason=0xA700), RETRY),
        (409, said("FailedSOPSequence", FailureReason=0x0110), RETRY),
        (409, said("FailedSOPSequence", FailureReason=0x0122), REFUSED),
        (409, said("FailedSOPSequence", FailureReason=0xC000), REFUSED),
        (409, said("FailedSOPSequence", uid="1.2.4", FailureReason=0xC000), RETRY),
        (409, said("FailedSOPSequence", FailureReason=[1, 2]), RETRY),
        (409, Dataset(), RETRY),
        (400, Dataset(), REFUSED),
        (415, Dataset(), REFUSED),
    ],
)
def test_an_answer_decides_between_stored_retry_and_refused(code: int, content: Dataset, outcome: SendOutcome) -> None:
    """The object's own outcome first, the HTTP status where there is none."""
    judgement = judge_answer(code, content, UID)
    assert judgement.outcome is outcome
    assert judgement.detail


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({}, "or url alone"),
        ({"url": "https://pacs/dicom-web", "host": "pacs"}, "or url alone"),
        ({"ae_title": "PACS", "host": "pacs"}, "or url alone"),
        ({"url": "https://user:secret@pacs/dicom-web"}, "pattern"),
        ({"url": "http://pacs/dicom-web", "token_file": "token"}, "https"),
        ({"url": "https://pacs", "token_file": "token", "password_file": "password"}, "not both"),
    ],
)
def test_a_destination_goes_one_way_and_its_secrets_never_in_clear(wrong: dict[str, str], named: str) -> None:
    """A node or a service, not both nor half; credentials stand in files and go over https."""
    with pytest.raises(ValueError, match=named):
        DestinationSection.model_validate({"name": "web", **wrong})


def test_a_service_is_read_back() -> None:
    """A DICOMweb destination is asked for no Storage Commitment."""
    section = DestinationSection.model_validate({"name": "web", "url": "https://pacs/dicom-web", "token_file": "token"})
    assert not section.destination.commitment
    assert section.destination.token_file == "token"  # noqa: S105 - a file's name
