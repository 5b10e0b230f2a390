"""Storage Commitment data sets: what is asked and what is reported (PS3.4 J.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import ImplicitVRLittleEndian

from daemon.domain.references import Reference
from daemon.errors import RefusedError

MOST_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a PACS says of one transaction: the SOP Instance UIDs that it keeps, and those it does not.

    These with the Failure Reason, if any; see `daemon.domain.commitment`.
    """

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int | None]


def request_dataset(transaction_uid: str, references: Sequence[Reference]) -> Dataset:
    """Return the Action Information of an N-ACTION request (PS3.4 Table J.3.1-1)."""
    dataset = Dataset()
    dataset.TransactionUID = transaction_uid
    dataset.ReferencedSOPSequence = [_item(reference) for reference in references]
    return dataset


def decode_report(encoded: bytes, transfer_syntax_uid: str) -> Report:
    """Read the Event Information of an N-EVENT-REPORT (PS3.4 Table J.3.2-1).

    Raises:
        RefusedError: it cannot be read or names no transaction.
    """
    implicit = transfer_syntax_uid == ImplicitVRLittleEndian
    try:
        return read_report(read_dataset(BytesIO(encoded), implicit, is_little_endian=True))
    except RefusedError:
        raise
    except Exception as error:
        # pydicom raises what its parsers raise, OSError too; to be told again would help nobody.
        raise RefusedError("storage commitment report: the event information cannot be read") from error


def read_report(dataset: Dataset) -> Report:
    """Return the report that `dataset` holds.

    Raises:
        RefusedError: it names no transaction.
    """
    transaction = str(dataset.get("TransactionUID", ""))
    if not transaction:
        raise RefusedError("storage commitment report: Transaction UID (0008,1195) is absent")
    return Report(
        transaction_uid=transaction,
        committed=frozenset(_uid(item) for item in dataset.get("ReferencedSOPSequence") or ()),
        failed={_uid(item): _reason(item) for item in dataset.get("FailedSOPSequence") or ()},
    )


def _item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return item


def _reason(item: Dataset) -> int | None:
    value = item.get("FailureReason")
    return value if isinstance(value, int) else None


def _uid(item: Dataset) -> str:
    return str(item.ReferencedSOPInstanceUID)
