"""Read-back by C-FIND, for a PACS without Storage Commitment (PS3.4 C.4.1, Study Root, IMAGE level)."""

from collections.abc import Iterable, Sequence

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from daemon.dimse.contexts import STUDY_ROOT_FIND, UNCOMPRESSED
from daemon.dimse.requestor import DEFAULT_LIMITS, Limits, association
from daemon.dimse.statuses import PENDING, SUCCESS
from daemon.domain.delivery import Destination
from daemon.domain.references import Reference
from daemon.domain.statuses import in_words
from daemon.errors import RetryableError


def present(
    destination: Destination,
    references: Sequence[Reference],
    calling_ae: str,
    limits: Limits = DEFAULT_LIMITS,
) -> frozenset[str]:
    """Return the SOP Instance UIDs out of `references` that `destination` lists; asked one by one.

    That a PACS lists an object is weaker than commitment: it says that it has it, not that it will keep it.

    Raises:
        RetryableError: it cannot be reached, or a query fails.
        NotOfferedError: it does not offer Study Root queries.
    """
    if not references:
        return frozenset()
    contexts = [build_context(STUDY_ROOT_FIND, list(UNCOMPRESSED[:2]))]
    with association(destination, calling_ae, contexts, limits) as established:
        return frozenset(_listed(established, references))


def _listed(established: Association, references: Iterable[Reference]) -> Iterable[str]:
    for reference in references:
        found = False
        for status, identifier in established.send_c_find(_identifier(reference), STUDY_ROOT_FIND):
            found = _is_match(status, identifier, reference) or found
        if found:
            yield reference.sop_instance_uid


def _is_match(status: Dataset, identifier: Dataset | None, reference: Reference) -> bool:
    code = status.get("Status")
    if code == SUCCESS:
        return False
    if code not in PENDING:
        said = "no answer came" if code is None else in_words(code)
        raise RetryableError(f"read-back of {reference.sop_instance_uid}: the query failed, {said}")
    return identifier is not None and identifier.get("SOPInstanceUID") == reference.sop_instance_uid


def _identifier(reference: Reference) -> Dataset:
    """Return a query by unique keys only: nothing about the patient is asked or comes back."""
    dataset = Dataset()
    dataset.QueryRetrieveLevel = "IMAGE"
    dataset.StudyInstanceUID = reference.study_instance_uid
    dataset.SeriesInstanceUID = reference.series_instance_uid
    dataset.SOPInstanceUID = reference.sop_instance_uid
    return dataset
