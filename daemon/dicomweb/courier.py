"""The network toward DICOMweb destinations: what the services ask of HTTP."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError

from daemon.dicomweb.client import Limits, Service, service
from daemon.dicomweb.stow import store
from daemon.domain.delivery import Destination, Echo, SendOutcome, SendResult
from daemon.domain.references import Reference
from daemon.errors import RefusedError, RetryableError, UnreachableError

# A study that is nowhere, asked for to see whether queries are answered: nothing about a patient comes back.
_NO_STUDY = "2.25.1"
_SOP_INSTANCE_UID = "00080018"
_HEAD = ("SOPInstanceUID",)


class WebCourier:
    """Sends by STOW-RS, reads back by QIDO-RS; DICOMweb's own storage commitment is not asked for."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()

    def echo(self, destination: Destination) -> Echo:
        """Verify that a destination answers a query."""
        started = monotonic()
        try:
            with service(destination, self._limits) as found:
                found.client.search_for_studies(search_filters={"StudyInstanceUID": _NO_STUDY}, limit=1)
        except RetryableError as error:
            return Echo(ok=False, detail=str(error), seconds=monotonic() - started)
        return Echo(ok=True, detail="answered a query (QIDO-RS)", seconds=monotonic() - started)

    def send(self, destination: Destination, paths: Sequence[Path]) -> Iterator[SendResult]:
        """Send files one by one, a result each, in order; what fails on the way is a result.

        Raises:
            RefusedError: a path is no Part 10 file; nothing was sent.
        """
        uids = [str(_read(path, head=True).SOPInstanceUID) for path in paths]
        done = 0
        try:
            with service(destination, self._limits) as found:
                for path, uid in zip(paths, uids, strict=True):
                    yield _sent(found, path, uid)
                    done += 1
        except RetryableError as error:
            # A service that lets nobody in was tried with no object.
            reached = not isinstance(error, UnreachableError)
            for number, uid in enumerate(uids[done:]):
                result = SendResult(sop_instance_uid=uid, outcome=SendOutcome.RETRY, status=None, detail=str(error))
                yield replace(result, tried=reached and number == 0)

    def ask_commitment(self, destination: Destination, transaction_uid: str, references: Sequence[Reference]) -> bool:
        """Return False: objects are read back."""
        del destination, transaction_uid, references
        return False

    def present(self, destination: Destination, references: Sequence[Reference]) -> frozenset[str]:
        """Return the SOP Instance UIDs that the destination lists (QIDO-RS, PS3.18 10.6), asked one by one.

        Raises:
            UnreachableError: it is not reached.
            RetryableError: it cannot be asked now.
        """
        with service(destination, self._limits) as found:
            return frozenset(r.sop_instance_uid for r in references if _listed(found, r))


def _sent(found: Service, path: Path, uid: str) -> SendResult:
    judgement = store(found, _read(path))
    return SendResult(sop_instance_uid=uid, outcome=judgement.outcome, status=judgement.status, detail=judgement.detail)


def _listed(found: Service, reference: Reference) -> bool:
    # All instances are searched: a study that is not there may be 404, which would not tell it from a wrong url.
    keys = {
        "StudyInstanceUID": reference.study_instance_uid,
        "SeriesInstanceUID": reference.series_instance_uid,
        "SOPInstanceUID": reference.sop_instance_uid,
    }
    matches = found.client.search_for_instances(search_filters=keys)
    return any(reference.sop_instance_uid in match.get(_SOP_INSTANCE_UID, {}).get("Value", ()) for match in matches)


def _read(path: Path, *, head: bool = False) -> FileDataset:
    try:
        return dcmread(path, specific_tags=list(_HEAD) if head else None, stop_before_pixels=head)
    except (OSError, InvalidDicomError, EOFError, ValueError) as error:
        raise RefusedError(f"{path.name}: not a DICOM Part 10 file ({error}); nothing was sent") from error
