"""Users and passcodes: what proves one, what does not, and how an entry is made."""

import pytest
from typer.testing import CliRunner

from daemon.cli.main import app
from daemon.domain.admission import Caller, Denial, UserList
from daemon.domain.identity import Identity, User

ALICE = User.make("alice", b"open sesame", bytes(range(16)))
BOB = User.make("bob", b"", bytes(range(1, 17)))
LIST = UserList(users=(ALICE, BOB), exempt=frozenset({"PACS"}))


def named(username: str, passcode: bytes, kind: int = 2) -> Identity:
    return Identity(kind=kind, username=username, passcode=passcode)


@pytest.mark.parametrize(
    ("calling_ae", "identity", "denial"),
    [
        ("MR1", named("alice", b"open sesame"), None),
        ("MR1", named("bob", b""), None),
        ("MR1", named("alice", b"open"), Denial.WRONG_USER),
        ("MR1", named("alice", b""), Denial.WRONG_USER),
        ("MR1", named("Alice", b"open sesame"), Denial.WRONG_USER),
        ("MR1", named("bob", b"open sesame"), Denial.WRONG_USER),
        ("MR1", named("bob", b"", kind=1), Denial.WRONG_USER),
        ("MR1", named("", b""), Denial.WRONG_USER),
        ("MR1", None, Denial.USERLESS),
        ("PACS", None, None),
        ("PACS", named("alice", b"open"), Denial.WRONG_USER),
    ],
)
def test_only_a_user_with_its_own_passcode_gets_in(
    calling_ae: str, identity: Identity | None, denial: Denial | None
) -> None:
    """Username and passcode of one user, exactly; an exempt caller need not name one, but not a wrong one."""
    assert LIST.denial(Caller(calling_ae=calling_ae, identity=identity)) is denial


def test_without_users_nobody_is_asked() -> None:
    """What a caller says of its user is no matter then."""
    for identity in (None, named("alice", b"open")):
        assert UserList().denial(Caller(calling_ae="MR1", identity=identity)) is None


def test_neither_passcode_nor_digest_is_shown() -> None:
    """What is logged or raised by accident tells nothing."""
    told = repr((ALICE, Caller(calling_ae="MR1", identity=named("alice", b"open sesame"))))
    assert "open sesame" not in told
    assert ALICE.digest.hex() not in told
    assert repr(ALICE.digest) not in told


def test_an_entry_is_made_by_command() -> None:
    """The line that is printed is read back as the user of that passcode; each has a salt of its own."""
    made = []
    for _ in range(2):
        told = CliRunner().invoke(app, ["user", "alice"], input="open sesame\nopen sesame\n")
        assert told.exit_code == 0, told.output
        made.append(User.parse(told.stdout.strip().removeprefix('users = ["').removesuffix('"]')))
    assert all(user.name == "alice" and user.proven_by(b"open sesame") for user in made)
    assert made[0].salt != made[1].salt
    assert CliRunner().invoke(app, ["user", "a=b"], input="x\nx\n").exit_code == 2


@pytest.mark.parametrize("entry", ["hunter2", "alice=hunter2", "alice=scrypt:00:hunter2", "=scrypt:hunter2"])
def test_a_bad_entry_is_refused_and_not_repeated(entry: str) -> None:
    """It may be a passcode in plain text."""
    with pytest.raises(ValueError, match="overread user NAME") as caught:
        User.parse(entry)
    assert "hunter2" not in str(caught.value)
