"""A real console for tests: the application behind a real HTTP server on loopback, and browsers of its own."""

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from daemon.bootstrap import House
from daemon.config import load
from daemon.domain.console import Role
from daemon.web.passwords import new_user
from daemon.web.server import serve
from demo.ports import HOST, free_port, listens
from tests.peers import wait_until

PASSWORD = "correct horse battery"  # noqa: S105 - of these tests alone
USERS = {"vera": Role.VIEWER, "otto": Role.OPERATOR, "ada": Role.ADMIN}
_CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


@cache
def entries() -> tuple[str, ...]:
    """Return an entry of each role for `web.logins`."""
    return tuple(str(new_user(name, role, PASSWORD)) for name, role in USERS.items())


@dataclass(frozen=True, kw_only=True)
class Site:
    """A running console, and the house behind it."""

    house: House
    url: str
    browsers: ExitStack

    def browser(self, name: str | None = None) -> httpx.Client:
        """Return a browser; logged in where `name` is given."""
        client = self.browsers.enter_context(httpx.Client(base_url=self.url, timeout=30, trust_env=False))
        if name:
            answer = client.post("/login", data={"name": name, "password": PASSWORD, "to": "/"})
            assert answer.status_code == 303, answer.text
        return client

    def events(self) -> list[dict[str, Any]]:
        """Return the audit log, oldest first."""
        return [line.document or {} for line in self.house.trail.chain.lines()]


def csrf(client: httpx.Client) -> str:
    """Return the token of a session's forms."""
    found = _CSRF.search(client.get("/").text)
    assert found
    return found[1]


def post(browser: httpx.Client, path: str, **fields: str) -> httpx.Response:
    """Send a form of the session."""
    return browser.post(path, data={"csrf": csrf(browser), **fields})


def configured(folder: Path, more: str = "", **keys: str) -> House:
    """Return a house in `folder` with a migrated ledger; `keys` are more lines of [web], `more` other tables."""
    port = free_port()
    lines = [f"port = {port}", f"logins = {list(entries())!r}", *(f"{key} = {value}" for key, value in keys.items())]
    path = folder / "overread.toml"
    path.write_text("\n".join(["[web]", "enabled = true", *lines, more]) + "\n")
    (folder / "data").mkdir(exist_ok=True)
    house = House(load(path))
    house.migrate()
    return house


@contextmanager
def console(house: House, scheme: str = "http") -> Iterator[Site]:
    """Run a house's console until the block ends; it answers when the block begins."""
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(house, stop))
    thread.start()
    section = house.settings.web
    url = f"{scheme}://{HOST}:{section.port}"
    try:
        wait_until(lambda: listens(section.port), 30, "the console to listen")
        # It listens before it is whole, and answers after.
        httpx.get(f"{url}/healthz", timeout=30, trust_env=False, verify=False)  # noqa: S501 - of no certificate's test
        with ExitStack() as browsers:
            yield Site(house=house, url=url, browsers=browsers)
    finally:
        stop.set()
        thread.join()
        house.engine.dispose()
