"""A DICOMweb destination that means ill: it leads nowhere, and its answers cost little."""

import gzip
import io
import json
import logging
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from daemon.dicomweb.client import MOST_ANSWER, Limits
from daemon.dicomweb.courier import WebCourier
from daemon.domain.delivery import Destination, SendOutcome
from daemon.domain.references import Reference
from daemon.errors import UnreachableError
from demo.ports import HOST
from tests.dicom_files import CT, SERIES, STUDY, ct_file

COURIER = WebCourier(Limits(connect_seconds=5, answer_seconds=20))
ONE = Reference(study_instance_uid=STUDY, series_instance_uid=SERIES, sop_class_uid=CT, sop_instance_uid="1.2.3")
# Sequences in sequences, deeper than a parser's stack.
DEPTH = 3000
OPEN, END = b'<DicomAttribute keyword="FailedSOPSequence" vr="SQ"><Item>', b"</Item></DicomAttribute>"
DEEP = b"<NativeDicomModel>" + OPEN * DEPTH + END * DEPTH + b"</NativeDicomModel>"


class Web(ThreadingHTTPServer):
    """Answers everything with `status`, `headers` and `content`, and counts the requests."""

    daemon_threads = True
    status = 200
    headers: dict[str, str]
    content = b""
    requests = 0


class Answers(BaseHTTPRequestHandler):
    """What a `Web` answers with."""

    def answer(self) -> None:
        """Read the request and answer."""
        assert isinstance(self.server, Web)
        self.server.requests += 1
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(self.server.content)
        except ConnectionError:
            self.close_connection = True

    do_GET = do_POST = answer  # noqa: N815 - the names are the library's

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def running() -> Iterator[Web]:
    """Run a server."""
    with Web((HOST, 0), Answers) as server:
        server.headers = {}
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


web = pytest.fixture(running)
elsewhere = pytest.fixture(running)


def destination(web: Web) -> Destination:
    """Return the server as a destination."""
    return Destination(name="web", url=f"http://{HOST}:{web.server_port}/dicom-web")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirection_is_followed(web: Web, elsewhere: Web, status: int, tmp_path: Path) -> None:
    """Neither a query nor an object goes to another host, nor to another address of the same."""
    for target in (f"http://{HOST}:{elsewhere.server_port}/", f"http://{HOST}:{web.server_port}/inside"):
        web.status, web.headers, web.requests = status, {"Location": target}, 0
        with pytest.raises(UnreachableError, match="it redirects; give the url"):
            COURIER.present(destination(web), [ONE])
        (result,) = COURIER.send(destination(web), [ct_file(tmp_path / "ct.dcm")])
        assert (result.outcome, "it redirects" in result.detail) == (SendOutcome.RETRY, True)
        assert (web.requests, elsewhere.requests) == (2, 0)


class Narrow(Web):
    """Breaks the connection amid whatever is larger than `most` octets, as a proxy may."""

    most = 20_000


class Breaks(Answers):
    """How a `Narrow` does."""

    def do_POST(self) -> None:
        """Answer what is small."""
        assert isinstance(self.server, Narrow)
        if int(self.headers.get("Content-Length") or self.server.most + 1) <= self.server.most:
            self.answer()
            return
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.rfile = io.BytesIO()
        self.close_connection = True


def test_an_object_that_breaks_the_connection_was_tried(tmp_path: Path) -> None:
    """And it alone, so that it stands behind the others the next time; those pass."""
    large, small = ct_file(tmp_path / "large.dcm", "1.2.3.1", size=200), ct_file(tmp_path / "small.dcm", "1.2.3.2")
    with Narrow((HOST, 0), Breaks) as server:
        server.headers = {}
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        found = [list(COURIER.send(destination(server), files)) for files in ([large, small], [small, large])]
        server.shutdown()
        thread.join()
    assert [[(one.outcome, one.tried) for one in results] for results in found] == [
        [(SendOutcome.RETRY, True), (SendOutcome.RETRY, False)],
        [(SendOutcome.STORED, True), (SendOutcome.RETRY, True)],
    ]
    assert "hung up amid the exchange" in found[0][0].detail


@pytest.mark.parametrize(("kind", "content"), [("token_file", "z\u0142oty"), ("password_file", b"overread:\xfc")])
def test_a_secret_that_is_no_text_names_its_key(web: Web, kind: str, content: str | bytes, tmp_path: Path) -> None:
    """Neither is it sent, nor is it an error that nobody foresaw."""
    path = tmp_path / "secret"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    there = replace(destination(web), **{kind: str(path)})  # type: ignore[arg-type]
    told = COURIER.echo(there)
    assert (told.ok, kind in told.detail, web.requests) == (False, True, 0)


def test_a_password_may_have_any_letter(web: Web, tmp_path: Path) -> None:
    """It goes out in UTF-8 (RFC 7617)."""
    path = tmp_path / "secret"
    path.write_text("overread:z\u0142oty\n", encoding="utf-8")
    web.content, web.headers = b"[]", {"Content-Type": "application/dicom+json"}
    assert COURIER.echo(replace(destination(web), password_file=str(path))).ok


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"Content-Type": "application/dicom+json"}, b"[" + b" " * (MOST_ANSWER + 1) + b"]"),
        ({"Content-Type": "application/dicom+json", "Content-Encoding": "gzip"}, gzip.compress(bytes(1 << 20))),
    ],
    ids=["long", "compressed"],
)
def test_an_answer_is_read_no_further_than_it_may_be_long(web: Web, headers: dict[str, str], content: bytes) -> None:
    """Too long, or a bomb: the destination is not well, and says so."""
    web.headers, web.content = headers, content
    with pytest.raises(UnreachableError, match="compressed, or longer than an answer can be"):
        COURIER.present(destination(web), [ONE])


PLANTED = "Plantedname^Maria"


@pytest.mark.parametrize("status", [202, 400, 401, 409, 500])
def test_what_it_says_in_its_own_words_is_kept_nowhere(
    web: Web, status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A name in a comment, in the body or in a header is neither in what became of the object nor in the log."""
    item = {"00081155": {"vr": "UI", "Value": ["1.2.3"]}, "00081197": {"vr": "US", "Value": [0xC000]}}
    answer = {
        "00081198": {"vr": "SQ", "Value": [{**item, "00000902": {"vr": "LO", "Value": [PLANTED]}}]},
        "00000902": {"vr": "LO", "Value": [PLANTED]},
    }
    # as `daemon.log.hush` does
    caplog.set_level(logging.CRITICAL, "dicomweb_client")
    web.status, web.content = status, json.dumps(answer).encode()
    web.headers = {"Content-Type": "application/dicom+json", "Warning": f'299 pacs "{PLANTED}"'}
    (result,) = COURIER.send(destination(web), [ct_file(tmp_path / "ct.dcm", "1.2.3")])
    assert result.outcome is not SendOutcome.STORED
    assert PLANTED not in f"{result.detail} {COURIER.echo(destination(web)).detail} {caplog.text}"


@pytest.mark.parametrize("kind", ["application/dicom+xml", "application/xml"])
def test_xml_is_not_parsed(web: Web, kind: str, tmp_path: Path) -> None:
    """Nesting that would break a parser breaks nothing; what became of the object is taken from the HTTP status."""
    web.headers, web.content = {"Content-Type": kind}, DEEP
    (result,) = COURIER.send(destination(web), [ct_file(tmp_path / "ct.dcm")])
    assert result.outcome is SendOutcome.STORED
