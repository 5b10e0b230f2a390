"""A bucket of an S3 service; what it refuses is said with its mend, and in words that hold no secret."""

import configparser
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import FileIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from daemon.domain.bucket import BucketPlace
from daemon.errors import FatalError, RetryableError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

# A sender waits meanwhile: two more tries at what fails at once, none after so long.
_RETRIES: "RetryConfig" = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
# Without a byte for so long a request is over; with them it may take until the largest object has come by a slow line.
_SILENCE, _LONGEST = timedelta(seconds=30), timedelta(hours=1)
_PART = 8 << 20


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An object: its key, its size in bytes, and when it was written by the clock of the service."""

    key: str
    size: int
    at: datetime


class Bucket:
    """Objects by key, below the prefix. Every method raises RetryableError where the service does not do it now."""

    def __init__(self, place: BucketPlace) -> None:
        """Read the files that it names; nothing is asked yet.

        Raises:
            FatalError: one of them cannot be used.
        """
        self.place = place
        options: ClientConfig = {
            "allow_http": place.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=5),
            "read_timeout": _SILENCE,
            "timeout": _LONGEST,
        }
        if place.ca_file:
            options["root_certificate"] = _read("ca_file", place.ca_file)
        config: S3Config = {"region": place.region, **_credentials(place.credentials_file)}
        if place.endpoint:
            config["endpoint"] = place.endpoint
        try:
            self._store = S3Store(
                place.name,
                prefix=place.prefix or None,
                config=config,
                client_options=options,
                retry_config=_RETRIES,
            )
        except (BaseError, ValueError) as error:
            raise FatalError(f"{place}: cannot be used ({type(error).__name__}); correct the table [bucket]") from None

    def put(self, key: str, content: IO[bytes] | bytes) -> None:
        """Write an object, of which others see all or nothing."""
        with self._answering():
            obstore.put(self._store, key, content, chunk_size=_PART)

    def create(self, key: str, content: bytes) -> None:
        """Write an object unless there is one."""
        with self._answering(), suppress(AlreadyExistsError):
            obstore.put(self._store, key, content, mode="create")

    def read(self, key: str) -> bytes | None:
        """Return a small object; None where there is none."""
        with self._answering():
            try:
                return bytes(obstore.get(self._store, key).bytes())
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None

    def download(self, key: str, file: FileIO) -> str:
        """Write an object's bytes to a file; return their SHA-256, in hex."""
        found = hashlib.sha256()
        with self._answering():
            for chunk in obstore.get(self._store, key):
                view = memoryview(chunk)
                found.update(view)
                while view:
                    view = view[file.write(view) :]
        return found.hexdigest()

    def listed(self, prefix: str) -> Iterator[Entry]:
        """Yield what lies below `prefix`, a path of whole parts."""
        with self._answering():
            for chunk in obstore.list(self._store, prefix):
                for one in chunk:
                    yield Entry(key=one["path"], size=one["size"], at=one["last_modified"])

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is gone already is no error."""
        given: Sequence[str] = list(keys)
        with self._answering(), suppress(FileNotFoundError):
            if given:
                obstore.delete(self._store, given)

    def now(self) -> datetime:
        """Return the time by which the service dates its objects."""
        self.put("probe", b"")
        with self._answering():
            return obstore.head(self._store, "probe")["last_modified"]

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (BaseError, FileNotFoundError, ValueError) as error:
            # Not chained: what the library says quotes requests and answers at length.
            raise RetryableError(f"{self.place}: {self._said(str(error))}") from None

    def _said(self, error: str) -> str:
        """Return what an error of the library comes to, and the mend."""
        if "NoSuchBucket" in error:
            return "no such bucket; make it, or correct bucket.url"
        found = re.search(r"status code: (\d{3})", error)
        status = found[1] if found else ""
        if status in {"401", "403"}:
            return "it refuses us, or what we ask; see bucket.credentials_file, or AWS_*, and what its policy allows"
        where = self.place.endpoint or f"Amazon in {self.place.region}"
        said = f"answers HTTP {status}" if status else "is not reached"
        return f"{where} {said}; see its log, and bucket.endpoint and ca_file"


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FatalError(
            f"bucket.{key}: {path} cannot be read ({error.strerror}); make it, or correct the key"
        ) from error


def _credentials(path: Path | None) -> "S3Config":
    """Return what [default] of a file such as ~/.aws/credentials says."""
    if path is None:
        return {}
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(_read("credentials_file", path).decode())
        found = parser["default"]
        made: S3Config = {
            "access_key_id": found["aws_access_key_id"],
            "secret_access_key": found["aws_secret_access_key"],
        }
    except (configparser.Error, KeyError, UnicodeDecodeError):
        wanted = "a section [default] with aws_access_key_id and aws_secret_access_key"
        # Not chained: the parser quotes the line that it stumbles over.
        raise FatalError(f"bucket.credentials_file: {path} has not {wanted}; write them there") from None
    if "aws_session_token" in found:
        made["session_token"] = found["aws_session_token"]
    return made
