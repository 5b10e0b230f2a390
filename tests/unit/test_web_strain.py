"""The console where it is strained: errors that nobody foresaw, numbers that are none, who asks and says nothing."""

import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from daemon.ledger.overview import Overview
from daemon.log import JsonLines
from daemon.web import insight, prompt
from demo.ports import HOST
from tests.consoles import Site, configured, console, post


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A running console over an empty ledger."""
    with console(configured(tmp_path)) as running:
        yield running


def test_what_nobody_foresaw_is_told_by_class_and_place(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A page of its own for who asked, a line for the log, and in neither what the error was about."""

    def failing(*_: object) -> object:
        raise ValueError("Doe^Jane")

    monkeypatch.setattr(Overview, "dead_letters", failing)
    answer = site.browser("ada").get("/deliveries")
    assert (answer.status_code, "the log says where" in answer.text, "Doe" in answer.text) == (500, True, False)
    (told,) = [record for record in caplog.records if record.name == "daemon.web.app"]
    line = JsonLines().format(told)
    assert "ValueError" in line
    assert "test_web_strain.py" in line
    assert "Doe" not in line


def test_numbers_beyond_the_ledgers_are_none(site: Site) -> None:
    """A key or a number of more digits than a row has is refused in words, not by an error."""
    browser = site.browser("otto")
    assert browser.get(f"/studies?state=COMPLETED&after=1{'0' * 20}").status_code == 400
    assert post(browser, f"/jobs/1{'0' * 20}/retry").status_code == 400


def test_one_model_is_verified_at_a_time(site: Site) -> None:
    """A second click while a model is loaded is told to wait; the first one's end lets the next begin."""
    operator = site.browser("otto")
    with insight._VERIFYING:
        assert post(operator, "/models/petct/verify").status_code == 503
    assert post(operator, "/models/petct/verify").status_code == 200


def test_a_connection_that_asks_nothing_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither silence nor half a head of a request holds a place; one that asks again and again stays."""
    monkeypatch.setattr(prompt, "SECONDS", 5.0)
    address = (HOST, site.house.settings.web.port)
    with socket.create_connection(address, 20) as silent, socket.create_connection(address, 20) as half:
        half.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
        busy = HTTPConnection(*address, timeout=20)
        busy.auto_open = 0
        busy.connect()
        for _ in range(40):
            busy.request("GET", "/healthz")
            with busy.getresponse() as answer:
                assert answer.read()
            time.sleep(0.2)
        busy.close()
        assert (silent.recv(1), half.recv(1)) == (b"", b"")
