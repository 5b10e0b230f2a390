"""Who is told what, how often, and what becomes of it where nobody can be told."""

import json
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from daemon.bootstrap import House
from daemon.cli.main import app
from daemon.config import load
from daemon.domain.alarm import Facts, Limits, Told, alarms, notice
from daemon.domain.delivery import Circuit, DeliveryState
from daemon.domain.work import Change
from daemon.errors import FatalError, RetryableError
from daemon.ledger.tables import JobRow
from daemon.notify.channels import Mail, Webhook
from daemon.runtime import LISTENING, marked
from daemon.watch import look, watch
from demo.ports import HOST, free_port
from tests.certificates import Authority
from tests.consoles import configured
from tests.daemons import OVERREAD, stop
from tests.houses import House as Ledger
from tests.houses import StillClock
from tests.instances import NOW
from tests.listeners import Hook, Mailbox, listening
from tests.peers import wait_until

QUIET = timedelta(minutes=15)
LIMITS = Limits(down=QUIET, free_mb=100)
WELL = Facts(circuits=(), dead={}, failed=0, free_mb=100, certificates=())
PACS = '[[destination]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n'


def circuit(minutes: float) -> Circuit:
    """Return the circuit of a destination that was last reached so long ago."""
    since = NOW - timedelta(minutes=minutes)
    return Circuit(destination="pacs", failures=9, since=since, next_at=NOW, reason="nothing listens there")


def site(folder: Path, text: str) -> House:
    """Return a house that knows one destination; `text` is its [notify]."""
    return configured(folder, more=f"[notify]\ndisk_free_mb = 0\n{text}\n{PACS}")


def mailing(box: Mailbox, to: str = "ada@example.org") -> str:
    """Return the lines that name a mailbox."""
    server = f"{HOST}:{box.server_address[1]}"
    return f'mail_server = "{server}"\nmail_from = "us@example.org"\nmail_to = ["{to}"]\nmail_tls = false'


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (WELL, set()),
        (Facts(circuits=(circuit(14),), dead={}, failed=0, free_mb=100, certificates=()), set()),
        (Facts(circuits=(circuit(15),), dead={}, failed=0, free_mb=100, certificates=()), {"destination pacs"}),
        (
            Facts(circuits=(), dead={"pacs": 2}, failed=1, free_mb=99, certificates=("tls.certificate expires",)),
            {"results for pacs", "jobs", "disk", "certificates"},
        ),
    ],
    ids=["well", "down for a moment", "down", "all else"],
)
def test_each_fact_is_an_alarm_from_its_limit_on(facts: Facts, expected: set[str]) -> None:
    """And none before it."""
    assert set(alarms(facts, LIMITS, NOW)) == expected


def test_only_a_change_is_told_and_not_too_soon() -> None:
    """What began, what ended and what stands, in one message; none where the last was a moment ago."""
    told = Told(at=NOW, alarms={"disk": "9 MB free", "jobs": "1 failed"})
    found = {"jobs": "2 failed", "destination pacs": "not reached"}
    assert notice("h", told, told.alarms, NOW + QUIET, QUIET) is None
    assert notice("h", told, found, NOW + QUIET - timedelta(seconds=1), QUIET) is None
    made = notice("h", told, found, NOW + QUIET, QUIET)
    assert made is not None
    assert (set(made.began), made.ended, set(made.standing)) == ({"destination pacs"}, ["disk"], {"jobs"})
    well = notice("h", told, {}, NOW + QUIET, QUIET)
    assert well is not None
    assert well.title == "Overread on h: all is well again"
    clock_set_back = notice("h", told, {}, NOW - QUIET, QUIET)
    assert clock_set_back is not None


def test_a_destination_that_is_down_is_told_once_and_that_it_is_back(tmp_path: Path) -> None:
    """By webhook and by mail, over a restart; and nothing of the study is in it."""
    with listening(Hook()) as hook, listening(Mailbox()) as box:
        text = f'webhook = "http://{HOST}:{hook.server_address[1]}/hook"\nquiet_minutes = 0\n{mailing(box)}'
        house = site(tmp_path, text)
        ended = threading.Event()

        def steps() -> int:
            watcher = watch(house)
            assert watcher is not None
            return watcher.step("host", house.settings.notify.quiet, ended)

        assert steps() == 0
        house.circuits.keep(circuit(60))
        assert (steps(), steps()) == (2, 0)
        house.circuits.close("pacs")
        assert (steps(), steps()) == (2, 0)
        house.engine.dispose()
    titles = [body["text"].splitlines()[0] for body in hook.bodies]
    assert titles == ["Overread on host: destination pacs", "Overread on host: all is well again"]
    assert [mail["Subject"] for mail in box.mails] == titles
    assert box.mails[0]["To"] == "ada@example.org"
    assert "nothing listens there" in box.mails[0].get_content()
    assert hook.bodies[1]["ended"] == ["destination pacs"]


def test_dead_results_and_failed_jobs_are_seen_in_the_ledger(tmp_path: Path) -> None:
    """A failure that is older than an hour is not told of any more; a destination that is gone neither."""
    house = site(tmp_path, "")
    ledger = Ledger(tmp_path / "data", house.engine)
    ledger.completed(b"one")
    house.circuits.keep(Circuit(**{**vars(circuit(60)), "destination": "gone"}))
    assert look(house) == {}
    (due,) = ledger.deliveries.due(DeliveryState.PENDING, NOW)
    change = Change(id=due.id, state=DeliveryState.DEAD, due_at=NOW, detail="refused")
    ledger.deliveries.change([change], NOW)
    assert set(look(house)) == {"results for pacs"}
    assert "1.2" not in look(house)["results for pacs"]
    for ago, wrong in ((59, {"results for pacs", "jobs"}), (61, {"results for pacs"})):
        at = house.clock.now() - timedelta(minutes=ago)
        with house.engine.begin() as connection:
            connection.execute(update(JobRow).values(state="FAILED", finished_at=at))
        assert set(look(house)) == wrong
    house.engine.dispose()


def test_a_listener_that_does_not_run_is_told_of_after_two_minutes(tmp_path: Path) -> None:
    """Not while it may be starting, nor where none belongs beside us; and that it runs again."""
    with listening(Hook()) as hook:
        house = site(tmp_path, f'webhook = "http://{HOST}:{hook.server_address[1]}/hook"\nquiet_minutes = 0')
        clock = StillClock()
        house.clock = clock  # type: ignore[assignment]
        watcher, ended, told = watch(house, with_listener=True), threading.Event(), []
        assert watcher is not None
        for minutes in (0, 1, 2, 3):
            clock.at = NOW + timedelta(minutes=minutes)
            told.append(watcher.step("h", timedelta(), ended))
        assert told == [0, 0, 1, 0]
        assert look(house) == {}
        with marked(house.settings.data.folder / LISTENING, "127.0.0.1:1"):
            assert watcher.step("h", timedelta(), ended) == 1
        house.engine.dispose()
    assert [(list(body["began"]), body["ended"]) for body in hook.bodies] == [(["listener"], []), ([], ["listener"])]


def test_who_cannot_be_told_is_told_later(tmp_path: Path) -> None:
    """A webhook that fails is tried a few times, then at the next look; the others are not held up by it."""
    with listening(Hook()) as hook, listening(Mailbox()) as box:
        hook.status = 503
        house = site(tmp_path, f'webhook = "http://{HOST}:{hook.server_address[1]}/hook"\n{mailing(box)}')
        house.circuits.keep(circuit(60))
        watcher, ended = watch(house), threading.Event()
        assert watcher is not None
        assert watcher.step("host", QUIET, ended) == 1
        assert (hook.asked, len(box.mails)) == (3, 1)
        hook.status = 200
        assert watcher.step("host", QUIET, ended) == 1
        assert (len(hook.bodies), len(box.mails)) == (1, 1)
        house.engine.dispose()


def test_the_command_sends_a_trial_and_says_what_fails(tmp_path: Path) -> None:
    """A refused addressee, a server without TLS, a port where nobody listens: each with its mend."""
    message = notice("h", Told(), {"disk": "full"}, NOW, QUIET)
    assert message is not None
    with listening(Mailbox()) as box:
        assert (
            CliRunner().invoke(app, ["notify", "--config", str(site(tmp_path, mailing(box)).settings.path)]).exit_code
            == 0
        )
        assert len(box.mails) == 1
        server = (HOST, int(box.server_address[1]))
        with pytest.raises(RetryableError, match=r"\(SMTPRecipientsRefused\)"):
            Mail(server=server, sender="a@b", to=("x@unknown.example",), tls=False).send(message)
        partly = Mail(server=server, sender="a@b", to=("x@unknown.example", "y@b"), tls=False)
        assert "refuses 1 of notify.mail_to" in partly.send(message)
        assert len(box.mails) == 2
        with pytest.raises(RetryableError, match=r"\(SMTPNotSupportedError\): check mail_server, mail_tls"):
            Mail(server=server, sender="a@b", to=("y@b",)).send(message)
    with pytest.raises(RetryableError, match=r"not reached \(ConnectionError\)"):
        Webhook(url=f"http://{HOST}:{free_port()}/").send(message)
    told = CliRunner().invoke(app, ["notify", "--config", str(tmp_path), "--json"])
    assert told.exit_code == 1
    assert json.loads(told.stdout)[0]["arrived"] is False


def test_tls_is_checked_and_secrets_come_from_files(tmp_path: Path) -> None:
    """HTTPS with a token, STARTTLS with user and password; a certificate of nobody we trust gets neither."""
    ours, strangers = Authority(tmp_path / "ours"), Authority(tmp_path / "strangers")
    pair = ours.issue("told", f"IP:{HOST}")
    (tmp_path / "token").write_text("s3cret\n")
    (tmp_path / "password").write_text("us:pass:word\n")
    message = notice("h", Told(), {"disk": "full"}, NOW, QUIET)
    assert message is not None

    def send(hook: Hook, box: Mailbox, trusted: Authority) -> Iterator[RetryableError]:
        ca, url, server = trusted.certificate, f"https://{HOST}:{hook.server_address[1]}/", int(box.server_address[1])
        for way in (
            Webhook(url=url, token_file=tmp_path / "token", ca_file=ca),
            Mail(server=(HOST, server), sender="a@b", to=("y@b",), password_file=tmp_path / "password", ca_file=ca),
        ):
            try:
                way.send(message)
            except RetryableError as error:
                yield error

    with listening(Hook(pair)) as hook, listening(Mailbox(pair)) as box:
        assert [str(error).partition(")")[0].partition("(")[2] for error in send(hook, box, strangers)] == [
            "SSLError",
            "SSLCertVerificationError",
        ]
        assert (hook.token, box.users, box.mails) == ("", [], [])
        assert list(send(hook, box, ours)) == []
    assert (hook.token, box.users, len(box.mails)) == ("Bearer s3cret", [b"\0us\0pass:word"], 1)


def test_delivery_looks_as_soon_as_it_runs(tmp_path: Path) -> None:
    """A real `overread deliver` tells of a disk that has less free than it should."""
    with listening(Hook()) as hook:
        house = site(tmp_path, f'webhook = "http://{HOST}:{hook.server_address[1]}/hook"')
        path = tmp_path / "overread.toml"
        path.write_text(path.read_text().replace("disk_free_mb = 0", "disk_free_mb = 1000000000"))
        house.engine.dispose()
        process = subprocess.Popen([*OVERREAD, "deliver", "--config", str(path)], stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: bool(hook.bodies), 240, "a message")
        finally:
            stop(process)
    assert list(hook.bodies[0]["began"]) == ["disk"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('mail_server = "mail:25"\n', "go together"),
        ('mail_server = "mail"\n', "mail_server"),
        ('webhook = "ftp://x"\n', "webhook"),
        ('webhook = "http://x/"\nwebhook_token_file = "t"\n', "needs a webhook with https"),
        ('mail_tls = false\nmail_password_file = "p"\n', "plain text"),
    ],
)
def test_half_a_way_and_an_open_one_are_refused(tmp_path: Path, text: str, named: str) -> None:
    """The message names the key."""
    (tmp_path / "overread.toml").write_text(f"[notify]\n{text}")
    with pytest.raises(FatalError, match=named):
        load(tmp_path)
