"""doctor on this machine: the listener's port, and what the CPU has for INT8."""

import ctypes
import socket
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from daemon.bootstrap import House
from daemon.cli.doctor import _INT8, _callers, _clock, _console, _cpu, _notify, _port, _spool, judge_clock
from daemon.cli.main import app
from daemon.clock import synchronised
from daemon.config import CONFIG_NAME, load
from daemon.domain.identity import User
from daemon.errors import OverreadError
from daemon.ledger.tables import InstanceRow
from daemon.runtime import CONSOLE, LISTENING, mark, marked
from demo.ports import HOST, free_port
from tests.consoles import configured
from tests.instances import NOW, series

TIME_ERROR = 5  # of timex.h: the clock is not synchronised


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


def test_a_console_needs_users_a_port_and_a_secret_that_is_one(tmp_path: Path) -> None:
    """Each ailment is named with its mend, all at once; a console that runs holds its own port."""
    token = tmp_path / "token"
    token.write_text("s3cret")
    token.chmod(0o644)
    ill = configured(tmp_path, metrics_token_file='"token"')  # noqa: S106 - a file's name
    section = ill.settings.web
    with socket.create_server((HOST, section.port)):
        with pytest.raises(OverreadError) as caught:
            _console(ill)
        assert f"{token} is readable by others: chmod 600" in str(caught.value)
        assert f"{section.address}: Address already in use; stop what holds it, or correct web.host" in str(
            caught.value
        )
        token.chmod(0o600)
        with marked(ill.settings.data.folder / CONSOLE, section.address):
            assert _console(ill) == f"our console holds {section.address}; 3 may log in"
    token.write_text("\n")
    with pytest.raises(OverreadError, match=r"token is empty"):
        _console(ill)
    token.unlink()
    with pytest.raises(OverreadError, match=r"token cannot be read \(No such file"):
        _console(ill)
    ill.engine.dispose()


def test_who_is_told_is_said_and_their_secrets_are_looked_at(tmp_path: Path) -> None:
    """Nothing is sent by that."""
    assert _notify(configured(tmp_path)) == "nobody is told"
    text = '[notify]\nwebhook = "https://chat.example/"\nwebhook_token_file = "token"'
    (tmp_path / "token").write_text("s3cret")
    (tmp_path / "token").chmod(0o640)
    with pytest.raises(OverreadError, match=r"notify\.webhook_token_file: .*token is readable by others"):
        _notify(configured(tmp_path, more=text))
    (tmp_path / "token").chmod(0o600)
    assert _notify(configured(tmp_path, more=text)).startswith("by webhook; ")


def test_a_console_is_off_or_somebody_s(house: House, tmp_path: Path) -> None:
    """Off is well; on without users is not."""
    assert _console(house) == "off"
    path = tmp_path / CONFIG_NAME
    path.write_text(path.read_text().replace("enabled = false", "enabled = true"))
    with pytest.raises(OverreadError, match=r"nobody may log in: .*web-user NAME --role admin"):
        _console(House(load(tmp_path)))


def test_it_says_who_may_call_and_who_must_name_a_user(tmp_path: Path) -> None:
    """Callers, nodes that report, and the exempt; a DICOMweb service never calls."""
    told = ["--host", "0.0.0.0", "--allow", "MR1@10.0.0.21"]  # noqa: S104 - nothing listens
    told += ["--destination", "pacs=PACS@127.0.0.1:104", "--destination", "web=http://h/d"]
    assert CliRunner().invoke(app, ["init", str(tmp_path), *told]).exit_code == 0
    assert _callers(House(load(tmp_path))) == "MR1@10.0.0.21, PACS (destination)"
    path = tmp_path / CONFIG_NAME
    user = User.make("alice", b"open sesame", bytes(16))
    text = path.read_text().replace("users = []", f'users = ["{user}"]')
    path.write_text(text.replace("callers_without_user = []", 'callers_without_user = ["PACS"]'))
    assert _callers(House(load(tmp_path))).endswith("PACS (destination); all name a user but PACS")


def test_a_listener_that_callers_cannot_reach_is_not_well(tmp_path: Path) -> None:
    """On this machine alone, while callers are named elsewhere."""
    assert CliRunner().invoke(app, ["init", str(tmp_path), "--allow", "MR1@10.0.0.21"]).exit_code == 0
    with pytest.raises(OverreadError, match=r"10\.0\.0\.21.* set listener\.host"):
        _callers(House(load(tmp_path)))


def test_files_that_the_ledger_promises_are_missed(house: House) -> None:
    """Gone or cut short, with the study to be sent again; what retention freed is not missed."""
    assert _spool(house) == "holds every file that the ledger promises"
    digest, size = house.spool.put(b"instance")
    (instance,) = series(1)
    house.intake().record(replace(instance, digest=digest, size=size), "a1")
    assert _spool(house) == "holds every file that the ledger promises"
    house.spool.path(digest).write_bytes(b"inst")
    with pytest.raises(
        OverreadError, match=rf"1 files .* such as {digest}: .* sent again: {instance.study_instance_uid}"
    ):
        _spool(house)
    with house.engine.begin() as connection:
        connection.execute(update(InstanceRow).values(freed=True))
    assert _spool(house) == "holds every file that the ledger promises"


def test_a_clock_that_nobody_sets_right_is_an_ailment() -> None:
    """So is a ledger with times to come, by more than two machines may differ; what is not known is none."""
    assert judge_clock(True, None, NOW) == "synchronised"
    assert judge_clock(None, NOW + timedelta(minutes=1), NOW).startswith("unknown whether")
    with pytest.raises(OverreadError, match=r"run chrony .*timedatectl set-ntp true") as caught:
        judge_clock(False, NOW, NOW)
    assert "the ledger has" not in str(caught.value)
    with pytest.raises(
        OverreadError, match="says 2026-01-01 12:00 UTC and the ledger has times up to 2026-01-02 12:00"
    ):
        judge_clock(None, NOW + timedelta(days=1), NOW)


def test_it_is_asked_of_the_kernel_and_of_the_ledger(house: House) -> None:
    """The kernel answers as it does to ntp_gettime(3); a study received tomorrow is found."""
    assert synchronised() is (ctypes.CDLL(None).ntp_gettime(ctypes.create_string_buffer(256)) != TIME_ERROR)
    assert house.times().newest() is None
    to_come = house.clock.now() + timedelta(days=1)
    (instance,) = series(1)
    house.intake().record(replace(instance, received_at=to_come), "a1")
    assert house.times().newest() == to_come
    with pytest.raises(OverreadError, match="the ledger has times up to"):
        _clock(house)


def test_the_cpu_s_instructions_are_named(house: House) -> None:
    """Either those that it has, or that it is slower without; never an ailment."""
    told = _cpu(house)
    assert any(name in told for name in _INT8.values())
    has = any(f" {flag} " in f"{Path('/proc/cpuinfo').read_text()} ".replace("\n", " ") for flag in _INT8)
    assert ("slower" in told) is not has
