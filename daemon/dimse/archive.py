"""An archive: asked what a study holds (C-FIND), and to send what lacks (C-MOVE, C-GET); PS3.4 C.4, Study Root."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from daemon.dimse.contexts import RECEIVED, STUDY_ROOT_FIND, STUDY_ROOT_MOVE, UNCOMPRESSED
from daemon.dimse.getting import Ended, Getter
from daemon.dimse.notices import MODALITIES
from daemon.dimse.requestor import Limits, association
from daemon.dimse.statuses import PENDING, SUCCESS
from daemon.domain.delivery import Destination
from daemon.domain.evidence import Fetched, SeriesListing, Source, Wanted
from daemon.domain.statuses import in_words
from daemon.errors import RetryableError
from daemon.uids import is_uid

# One question is not worth as long a wait as a delivery.
ASKING = Limits(connect_seconds=5, association_seconds=10, answer_seconds=30)
# An archive may say nothing before the last instance of a part has gone.
FETCHING = Limits(connect_seconds=5, association_seconds=10, answer_seconds=120)
MOST_UIDS = 100
_WARNING = 0xB000  # some sub-operations failed (PS3.4 Table C.4-2)
_FAULTS: Mapping[int, str] = {
    0xA701: "it is out of resources",
    0xA702: "it is out of resources",
    0xA801: "it does not know our AE title as a destination; enter it there with our address and port",
    0x0124: "it does not let us",
}


_MOVE_FAULT = "the retrieval failed; check the address and port that it has for our AE title"
_GET_FAULT = "the retrieval failed; see its log"


class Archive:
    """Asks under our AE title, to which what is retrieved is sent as well, but for what a `getter` fetches itself."""

    def __init__(
        self,
        calling_ae: str,
        asking: Limits = ASKING,
        fetching: Limits = FETCHING,
        getter: Getter | None = None,
    ) -> None:
        self._calling_ae = calling_ae
        self._asking = asking
        self._fetching = fetching
        self._getter = getter

    def listed(self, destination: Destination, wanted: Wanted) -> tuple[SeriesListing, ...]:
        """Return what `destination` lists of the wanted series, SOP classes that are not received here left out.

        Raises:
            RetryableError: it cannot be reached, a query fails, or lists fewer than the archive counts.
            NotOfferedError: it does not offer Study Root queries.
        """
        contexts = [build_context(STUDY_ROOT_FIND, list(UNCOMPRESSED[:2]))]
        with association(destination, self._calling_ae, contexts, self._asking) as established:
            series = [s for s in _find(established, _series_keys(wanted)) if _is_wanted(s, wanted)]
            return tuple(_listing(established, destination, wanted, found) for found in series)

    def fetch(self, destination: Destination, study: str, missing: Mapping[str, frozenset[str]]) -> Fetched:
        """Have `destination` send us instances of a study, by series; they are received as all others are.

        Raises:
            RetryableError: it cannot be reached.
            NotOfferedError: it does not offer Study Root retrieval.
        """
        wanted = list(_retrieval_keys(study, missing))
        if self._getter is not None:
            return _summed(self._getter.get(destination, wanted, self._fetching), _GET_FAULT)
        return _summed(self._moved(destination, wanted), _MOVE_FAULT)

    def _moved(self, destination: Destination, wanted: Sequence[Dataset]) -> Iterator[Ended]:
        """Yield how each retrieval ended; after an association that broke no more."""
        contexts = [build_context(STUDY_ROOT_MOVE, list(UNCOMPRESSED[:2]))]
        with association(destination, self._calling_ae, contexts, self._fetching) as established:
            for keys in wanted:
                last = Dataset()
                for status, _ in established.send_c_move(keys, self._calling_ae, STUDY_ROOT_MOVE):
                    last = status
                yield Ended(status=last)
                if not established.is_established:
                    return


def _summed(retrievals: Iterable[Ended], unknown: str) -> Fetched:
    sent, faults = 0, []
    for ended in retrievals:
        status = ended.status
        sent += int(status.get("NumberOfCompletedSuboperations") or 0)
        sent += int(status.get("NumberOfWarningSuboperations") or 0)
        fault = f"{ended.refused} could not be kept here; see the log" if ended.refused else _fault(status, unknown)
        faults += [fault] if fault else []
    return Fetched(sent=sent, fault=faults[0] if faults else "")


def _find(established: Association, keys: Dataset) -> Iterator[Dataset]:
    for status, identifier in established.send_c_find(keys, STUDY_ROOT_FIND):
        code = status.get("Status")
        if code == SUCCESS:
            continue
        if code not in PENDING:
            said = "no answer came" if code is None else in_words(code)
            raise RetryableError(f"the query for a study failed, {said}")
        if identifier is not None:
            yield identifier


def _series_keys(wanted: Wanted) -> Dataset:
    """Return a query for the series of a study, with nothing of the patient."""
    keys = Dataset()
    keys.QueryRetrieveLevel = "SERIES"
    keys.StudyInstanceUID = wanted.study_instance_uid
    keys.SeriesInstanceUID = keys.Modality = ""
    keys.NumberOfSeriesRelatedInstances = None
    return keys


def _is_wanted(series: Dataset, wanted: Wanted) -> bool:
    uid, modality = str(series.get("SeriesInstanceUID") or ""), str(series.get("Modality") or "")
    return uid in wanted.series or bool(is_uid(uid) and modality and modality == wanted.modality)


def _listing(established: Association, destination: Destination, wanted: Wanted, series: Dataset) -> SeriesListing:
    keys = Dataset()
    keys.QueryRetrieveLevel = "IMAGE"
    keys.StudyInstanceUID, keys.SeriesInstanceUID = wanted.study_instance_uid, series.SeriesInstanceUID
    keys.SOPInstanceUID = keys.SOPClassUID = ""
    found = list(_find(established, keys))
    counted = int(series.get("NumberOfSeriesRelatedInstances") or 0)
    if len(found) < counted:
        raise RetryableError(f"it counts {counted} instances in a series and lists {len(found)}")
    received = [i for i in found if str(i.get("SOPClassUID") or "") in {"", *RECEIVED}]
    modality = str(series.get("Modality") or "")
    return SeriesListing(
        series_instance_uid=str(series.SeriesInstanceUID),
        modality=modality if modality in MODALITIES else "",
        source=Source.ARCHIVE,
        sop_instance_uids=frozenset(uid for i in received if is_uid(uid := str(i.get("SOPInstanceUID")))),
        retrieve_ae=destination.ae_title,
    )


def _retrieval_keys(study: str, missing: Mapping[str, frozenset[str]]) -> Iterator[Dataset]:
    for series, uids in missing.items():
        for some in _parts(sorted(uids)):
            keys = Dataset()
            keys.QueryRetrieveLevel = "IMAGE"
            keys.StudyInstanceUID, keys.SeriesInstanceUID, keys.SOPInstanceUID = study, series, some
            yield keys


def _parts(uids: list[str]) -> Iterator[list[str]]:
    """Yield parts that fit one data element: UI has 16 bits for its length (PS3.5 7.1.2)."""
    return (uids[start : start + MOST_UIDS] for start in range(0, len(uids), MOST_UIDS))


def _fault(status: Dataset, unknown: str) -> str:
    code = status.get("Status")
    if code == SUCCESS:
        return ""
    if code is None:
        return "the association broke off, or no answer came in time"
    if code == _WARNING:
        return f"{status.get('NumberOfFailedSuboperations') or 'some'} could not be sent"
    return f"{_FAULTS.get(code, unknown)} (0x{code:04X})"
