"""doctor on this machine: the listener's port, and what the CPU has for INT8."""

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.bootstrap import House
from daemon.cli.doctor import _INT8, _callers, _cpu, _port
from daemon.cli.main import app
from daemon.config import CONFIG_NAME, load
from daemon.domain.identity import User
from daemon.errors import OverreadError
from daemon.runtime import LISTENING, mark, marked
from tests.peers import HOST, free_port


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Return the house of a new site."""
    assert CliRunner().invoke(app, ["init", str(tmp_path), "--port", str(free_port())]).exit_code == 0
    return House(load(tmp_path))


def test_a_port_is_free_ours_or_another_s(house: House) -> None:
    """Another's is an ailment that names address, cause and mend; ours is well only where it listens as configured."""
    address, listening = house.settings.listener.address, house.settings.data.folder / LISTENING
    assert _port(house) == f"{address} is free"
    with socket.create_server((HOST, house.settings.listener.port)):
        with pytest.raises(OverreadError, match=rf"{address}: Address already in use; .* listener\.port"):
            _port(house)
        with marked(listening, address):
            assert _port(house) == f"our listener holds {address}"
    with marked(listening, f"{HOST}:1"):
        assert "still holds 127.0.0.1:1: restart it" in _port(house)
    assert mark(listening) == ""


def test_it_says_who_may_call_and_who_must_name_a_user(tmp_path: Path) -> None:
    """Callers, nodes that report, and the exempt; a DICOMweb service never calls."""
    told = ["--allow", "MR1@10.0.0.21", "--destination", "pacs=PACS@127.0.0.1:104", "--destination", "web=http://h/d"]
    assert CliRunner().invoke(app, ["init", str(tmp_path), *told]).exit_code == 0
    assert _callers(House(load(tmp_path))) == "MR1@10.0.0.21, PACS (destination)"
    path = tmp_path / CONFIG_NAME
    user = User.make("alice", b"open sesame", bytes(16))
    text = path.read_text().replace("users = []", f'users = ["{user}"]')
    path.write_text(text.replace("callers_without_user = []", 'callers_without_user = ["PACS"]'))
    assert _callers(House(load(tmp_path))).endswith("PACS (destination); all name a user but PACS")


def test_the_cpu_s_instructions_are_named(house: House) -> None:
    """Either those that it has, or that it is slower without; never an ailment."""
    told = _cpu(house)
    assert any(name in told for name in _INT8.values())
    has = any(f" {flag} " in f"{Path('/proc/cpuinfo').read_text()} ".replace("\n", " ") for flag in _INT8)
    assert ("slower" in told) is not has
