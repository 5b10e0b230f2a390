"""STOW-RS: one object a request, its own outcome from the answer (PS3.18 10.5)."""

import requests
from pydicom.dataset import Dataset

from daemon.dicomweb.client import Service, check
from daemon.domain.delivery import SendOutcome
from daemon.domain.statuses import Judgement, judge

_FAILED_SOP_SEQUENCE, _REFERENCED_SOP_SEQUENCE = "FailedSOPSequence", "ReferencedSOPSequence"
_SOME, _NONE = 202, 409  # PS3.18 Table 10.5.3-1


def store(service: Service, dataset: Dataset) -> Judgement:
    """Store one object and tell what became of it.

    Raises:
        RetryableError, requests.RequestException: as `daemon.dicomweb.client.service` says.
    """
    service.heard.clear()
    try:
        service.client.store_instances([dataset])
    except (requests.HTTPError, requests.exceptions.InvalidJSONError):
        # What the client takes for a fault may speak of the object: the answer itself is judged.
        pass
    except (AttributeError, KeyError, SyntaxError, TypeError, ValueError):
        # The client could not read the answer.
        if not service.heard:
            raise
    response = service.heard[-1]
    check(service.destination, response)
    return judge_answer(response.status_code, _content(response), str(dataset.SOPInstanceUID))


def judge_answer(code: int, content: Dataset, uid: str) -> Judgement:
    """Tell what an answer (HTTP status and data set) says of the object `uid`.

    A Failure Reason (0008,1197) is judged as a C-STORE status: PS3.18 Table 10.5.3-2 takes its values from there.
    What the answer does not name follows the HTTP status: 202 and 409 try again, another 2xx stored, 4xx refused.
    """
    for item in content.get(_FAILED_SOP_SEQUENCE) or ():
        reason = _code(item.get("FailureReason"))
        if item.get("ReferencedSOPInstanceUID") == uid and reason is not None:
            return judge(reason)
    for item in content.get(_REFERENCED_SOP_SEQUENCE) or ():
        if item.get("ReferencedSOPInstanceUID") == uid:
            return judge(_code(item.get("WarningReason")) or 0)
    if code in {_SOME, _NONE}:
        detail = f"the destination does not say what became of it: HTTP {code}"
        return Judgement(outcome=SendOutcome.RETRY, detail=detail)
    if code < 300:  # noqa: PLR2004 - RFC 9110 15.3
        return Judgement(outcome=SendOutcome.STORED, detail="stored")
    return Judgement(outcome=SendOutcome.REFUSED, detail=f"the destination refuses the request: HTTP {code}")


def _code(value: object) -> int | None:
    """Return a reason as a status; None where it is none."""
    return value if isinstance(value, int) and 0 <= value <= 0xFFFF else None  # noqa: PLR2004 - US has 16 bits


def _content(response: requests.Response) -> Dataset:
    """Return the answer's data set; empty where it is none."""
    try:
        document = response.json()
        return Dataset.from_json(document[0] if isinstance(document, list) else document)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return Dataset()
