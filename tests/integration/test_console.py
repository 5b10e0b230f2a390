"""The console as a part of the daemon: beside the listener, started again when it dies, and only when it is wanted."""

import json
import os
import signal
import subprocess
from pathlib import Path

import httpx
import psutil
from typer.testing import CliRunner

from daemon.cli.main import app
from daemon.config import load
from daemon.domain.console import Role
from demo.ports import HOST, free_port
from tests.consoles import PASSWORD, USERS, entries
from tests.daemons import alive, init, overread, serving
from tests.peers import Peer, wait_until

RUNNER = CliRunner()


def nowhere() -> Peer:
    """Return a destination where nobody listens."""
    return Peer(ae_title="PACS", port=free_port(), folder=Path(), process=subprocess.Popen(["true"]))


def ready(url: str) -> bool:
    """Return whether the console says that all parts are."""
    try:
        return httpx.get(f"{url}/readyz", trust_env=False, timeout=60).status_code == 200
    except httpx.TransportError:
        return False


def test_serve_runs_the_console_and_starts_it_again(tmp_path: Path) -> None:
    """`serve` with web.enabled is ready with its listener, lets a user in, and a killed console is back by itself."""
    port, web = free_port(), free_port()
    archive = nowhere()
    archive.process.wait()
    users = json.dumps(entries())
    init(tmp_path, port, archive, logins=users)
    config = tmp_path / "overread.toml"
    before, _, table = config.read_text().partition("[web]")
    table = table.replace("enabled = false", "enabled = true").replace("port = 11180", f"port = {web}")
    config.write_text(f"{before}[web]{table}")
    url = f"http://{HOST}:{web}"
    with serving(tmp_path, port) as daemon:
        wait_until(lambda: ready(url), 200, "the console to say that the daemon is ready")
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as browser:
            browser.post("/login", data={"name": next(iter(USERS)), "password": PASSWORD})
            assert "All is well" in browser.get("/").text
        (console,) = [p for p in psutil.Process(daemon.process.pid).children() if "web" in p.cmdline()]
        os.kill(console.pid, signal.SIGKILL)
        wait_until(lambda: not alive(console), 200, "the console to be gone")
        wait_until(lambda: ready(url), 200, "the console to be back")
    told = overread("audit", "list", "--json", "--limit", "1000", "--config", str(config)).stdout
    assert sum("overread web" in line for line in told.splitlines()) >= 3
    assert "Traceback" not in (tmp_path / "serve.log").read_text()


def test_the_command_makes_an_entry(tmp_path: Path) -> None:
    """`web-user` prints what `web.logins` takes; a short password is wrong usage."""
    arguments = ["web-user", "ada", "--role", "admin"]
    made = RUNNER.invoke(app, arguments, input=f"{PASSWORD}\n{PASSWORD}\n")
    assert made.exit_code == 0, made.output
    path = tmp_path / "overread.toml"
    path.write_text(f"[web]\n{made.stdout}")
    (user,) = load(path).web.user_list
    assert (user.name, user.role) == ("ada", Role.ADMIN)
    short = RUNNER.invoke(app, arguments, input="short\nshort\n")
    assert (short.exit_code, "12 to 1024 characters" in short.output) == (2, True)
    assert RUNNER.invoke(app, ["web-user", "ada", "--role", "king"]).exit_code == 2


def test_the_command_makes_a_token(tmp_path: Path) -> None:
    """`web-token` shows a token beside the entry that `web.tokens` takes, which holds its digest alone; it fits."""
    made = RUNNER.invoke(app, ["web-token", "ohif", "--role", "viewer"])
    assert made.exit_code == 0, made.output
    token = made.stderr.rpartition(" ")[2].strip()
    assert token not in made.stdout
    path = tmp_path / "overread.toml"
    path.write_text(f"[web]\n{made.stdout}")
    (entry,) = load(path).web.token_list
    assert (entry.name, entry.role, entry.fits(token), entry.fits(token + "x")) == ("ohif", Role.VIEWER, True, False)
    assert RUNNER.invoke(app, ["web-token", "a b"]).exit_code == 2
