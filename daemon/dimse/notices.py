"""Instance Availability Notifications as they come: the attribute list of an N-CREATE (PS3.4 R.3)."""

from collections.abc import Iterator
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import ImplicitVRLittleEndian

from daemon.dimse.contexts import RECEIVED
from daemon.domain.evidence import Notice, SeriesNotice
from daemon.errors import RefusedError
from daemon.uids import is_uid

ONLINE = "ONLINE"
_MODALITIES = {"MR": "MR", "CT": "CT", "PET": "PT", "Positron": "PT"}
MODALITIES = frozenset(_MODALITIES.values())


class MissingAttributeError(RefusedError):
    """A notification lacks what it must hold."""


def modality_of(sop_class_uid: str) -> str:
    """Return the Modality (0008,0060) of a SOP class that is received here; empty for others."""
    words = RECEIVED.get(sop_class_uid, "").split()
    return next((_MODALITIES[word] for word in words if word in _MODALITIES), "")


def decode_notice(encoded: bytes, transfer_syntax_uid: str) -> Notice:
    """Read the attribute list of a notification; instances of SOP classes that are not received here are left out.

    Raises:
        MissingAttributeError: it names no study.
        RefusedError: it cannot be read, or something in it is no UID.
    """
    implicit = transfer_syntax_uid == ImplicitVRLittleEndian
    try:
        dataset = read_dataset(BytesIO(encoded), implicit, is_little_endian=True)
        study, series = str(dataset.get("StudyInstanceUID") or ""), tuple(_series(dataset))
    except RefusedError:
        raise
    except Exception as error:
        # pydicom raises what its parsers raise, OSError too; to be told again would help nobody.
        raise RefusedError("notification: the attribute list cannot be read") from error
    if not study:
        raise MissingAttributeError("notification: Study Instance UID (0020,000D) is absent")
    return Notice(study_instance_uid=_check(study), series=series)


def _series(dataset: Dataset) -> Iterator[SeriesNotice]:
    for series in dataset.get("ReferencedSeriesSequence") or ():
        items = [item for item in series.ReferencedSOPSequence if modality_of(str(item.ReferencedSOPClassUID))]
        if not items:
            continue
        uids = {_check(item.ReferencedSOPInstanceUID): item for item in items}
        online = frozenset(uid for uid, item in uids.items() if item.get("InstanceAvailability") == ONLINE)
        titles = {_title(item) for uid, item in uids.items() if uid in online}
        yield SeriesNotice(
            series_instance_uid=_check(series.SeriesInstanceUID),
            modality=modality_of(str(items[0].ReferencedSOPClassUID)),
            online=online,
            elsewhere=frozenset(uids) - online,
            retrieve_ae=titles.pop() if len(titles) == 1 else "",
        )


def _title(item: Dataset) -> str:
    """Return Retrieve AE Title (0008,0054); the first where there are several."""
    title = item.get("RetrieveAETitle") or ""
    return (title if isinstance(title, str) else str(title[0])).strip()[:16]


def _check(uid: object) -> str:
    if not is_uid(str(uid)):
        raise RefusedError("notification: a UID has not the form of one")
    return str(uid)
