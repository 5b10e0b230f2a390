"""A DICOMweb service, reached with time limits and credentials from files; every fault gets its class and its mend."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests
from dicomweb_client import DICOMwebClient
from urllib3.exceptions import MaxRetryError

from daemon.domain.delivery import Destination
from daemon.errors import RetryableError, UnreachableError

_JSON = "application/dicom+json"
# Octets of an answer; of a query for one instance some 10 KB.
MOST_ANSWER = 16 << 20


class _OddAnswerError(requests.RequestException):
    """An answer that is compressed though we take none so, or too long."""


# What an administrator can mend there or here: as a rejected association, worth repeating.
_MENDABLE = {
    401: "it does not know us: check token_file or password_file",
    404: "there is no such service: check the url",
    407: "a proxy wants to know us: reach the service without one",
}
# Of everything, or by a proxy of one object that it does not like: the others are to have their turn.
_FORBIDDEN = 403
# The first that fits; what is left is a file of the configuration that cannot be read, and names itself.
_FAULTS = (
    (requests.exceptions.InvalidJSONError, "its answer is no DICOM JSON; check the url"),
    (_OddAnswerError, "its answer is compressed, or longer than an answer can be; check the url"),
    (requests.ConnectTimeout, "no connection in time; check the url"),
    (requests.TooManyRedirects, "it redirects; give the url that it redirects to"),
    (requests.exceptions.SSLError, "its certificate is not trusted; check ca_file"),
    (requests.RequestException, "nothing listens there, or it hangs up; check the url and that it runs"),
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long to wait, in seconds."""

    connect_seconds: float = 10.0
    answer_seconds: float = 120.0


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service in hand: its client, and the answers as they came, which the client does not hand out."""

    destination: Destination
    client: DICOMwebClient
    heard: list[requests.Response] = field(default_factory=list)


@contextmanager
def service(destination: Destination, limits: Limits) -> Iterator[Service]:
    """Yield a client of `destination`.

    Nothing of the environment (proxies, .netrc) is heeded, and no redirection followed: results go where the
    configuration says. Answers are bounded, and XML is not parsed.

    Raises:
        UnreachableError: it is not there, does not let us in, or a file named in the configuration cannot be read.
        RetryableError: it answers that it cannot now, or not in time.
    """
    with requests.Session() as session:
        session.trust_env = False
        session.max_redirects = 0
        session.verify = destination.ca_file or True
        session.headers["Accept"] = _JSON
        session.headers["Accept-Encoding"] = "identity"
        session.auth = _Credentials(destination)
        timeout = (limits.connect_seconds, limits.answer_seconds)
        client = DICOMwebClient(destination.url.rstrip("/"), session=session, timeout=timeout)
        # The ledger knows when to try again.
        client.set_http_retry_params(retry=False)
        found = Service(destination=destination, client=client)
        session.hooks["response"] += [_take, lambda response, *_, **__: found.heard.append(response)]
        try:
            yield found
        except (requests.RequestException, OSError) as error:
            raise _fault(destination, error, limits) from error


def check(destination: Destination, response: requests.Response) -> None:
    """Pass what says something of the objects; raise what says something of the service.

    Raises:
        UnreachableError: it does not let us in.
        RetryableError: it cannot now.
    """
    code, name = response.status_code, f"destination {destination.name}"
    if code == _FORBIDDEN:
        raise RetryableError(f"{name}: HTTP 403, it does not let us: ask for the right to store and query")
    if code in _MENDABLE:
        raise UnreachableError(f"{name}: HTTP {code}, {_MENDABLE[code]}")
    if code in {408, 429} or code >= 500:  # noqa: PLR2004 - RFC 9110 15.6
        raise RetryableError(f"{name}: HTTP {code}, it cannot take this now")


def _take(response: requests.Response, *_: object, **__: object) -> None:
    """Read an answer before anything else does, no further than it may be long; one in XML becomes none.

    Raises:
        _OddAnswerError: it is longer, or compressed.
    """
    if response.headers.get("Content-Encoding", "identity") != "identity":
        response.close()
        raise _OddAnswerError(response=response)
    content = bytearray()
    for chunk in response.iter_content(1 << 16):
        content += chunk
        if len(content) > MOST_ANSWER:
            response.close()
            raise _OddAnswerError(response=response)
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    # requests has no other way to bound what it reads
    response._content = b"" if kind.endswith("xml") else bytes(content)  # noqa: SLF001


class _Credentials(requests.auth.AuthBase):
    """Says who we are, by what the files hold now."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._destination.token_file:
            token = self._secret("token_file", self._destination.token_file, "ascii")
            request.headers["Authorization"] = f"Bearer {token}"
        elif self._destination.password_file:
            said = self._secret("password_file", self._destination.password_file, "utf-8")
            user, _, password = said.partition(":")
            # RFC 7617: as octets, or letters beyond Latin-1 would be refused here.
            return requests.auth.HTTPBasicAuth(user.encode(), password.encode())(request)
        return request

    def _secret(self, key: str, path: str, encoding: str) -> str:
        try:
            return Path(path).read_text(encoding=encoding).strip()
        except UnicodeDecodeError as error:
            name = self._destination.name
            raise UnreachableError(f"destination {name}: its {key} is no text ({encoding}); write it anew") from error


def _fault(destination: Destination, error: Exception, limits: Limits) -> RetryableError:
    name = f"destination {destination.name}"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        try:
            check(destination, error.response)
        except RetryableError as fault:
            return fault
        return RetryableError(f"{name}: HTTP {error.response.status_code}")
    if isinstance(error, requests.Timeout) and not isinstance(error, requests.ConnectTimeout):
        return RetryableError(f"{name}: no answer within {limits.answer_seconds:g} s")
    if isinstance(error, requests.ConnectionError) and _was_connected(error):
        return RetryableError(f"{name}: it hung up amid the exchange; what stands between may not let the object pass")
    return UnreachableError(f"{name}: {next((said for kind, said in _FAULTS if isinstance(error, kind)), error)}")


def _was_connected(error: requests.ConnectionError) -> bool:
    """Return whether the connection stood before it broke: what it broke at may have been the object."""
    attempts_failed = error.args and isinstance(error.args[0], MaxRetryError)
    return not attempts_failed and not isinstance(error, requests.ConnectTimeout | requests.exceptions.SSLError)
