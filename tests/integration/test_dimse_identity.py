"""User identity negotiation with DCMTK's storescu: a user gets in by its passcode, and nobody else."""

from pathlib import Path

import pytest

from daemon.dimse.listener import _UNWELCOME, NO_REASON_GIVEN, Listener, ListenerSettings, Rejection
from daemon.domain.admission import Caller, Denial, UserList
from daemon.domain.identity import User
from tests.dicom_files import ct_file
from tests.peers import storescu
from tests.receptions import RememberingReception

pytestmark = pytest.mark.peers
USER = User.make("alice", b"open sesame", bytes(16))
RIGHT = ("--user", "alice", "--password", "open sesame")
NO_REASON = "Reason: No Reason"


class Witnesses:
    """Remembers who was turned away and why."""

    def __init__(self) -> None:
        self.rejected: list[str] = []

    def association_accepted(self, association: str, caller: Caller) -> None:
        """Need not be remembered."""

    def association_rejected(self, caller: Caller, reason: str) -> None:
        """Remember why."""
        del caller
        self.rejected.append(reason)


def listening(reception: RememberingReception, witness: Witnesses, users: UserList) -> Listener:
    """Return a listener that asks for `users`."""
    settings = ListenerSettings(ae_title="OVERREAD", port=0, allow_any_caller=True, users=users)
    return Listener(settings, reception, None, witness)


def test_a_user_gets_in_by_its_passcode_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The right one is stored, and told so where it asks; a wrong one, none, and a username alone are rejected."""
    path, reception, witness = ct_file(tmp_path / "ct.dcm"), RememberingReception(), Witnesses()
    users = UserList(users=(USER,), exempt=frozenset({"PACS"}))
    with listening(reception, witness, users) as listener:
        assert storescu(listener.port, [path], *RIGHT).returncode == 0
        assert storescu(listener.port, [path], *RIGHT, "--pos-response").returncode == 0
        assert storescu(listener.port, [path], calling_ae="PACS").returncode == 0
        wrong = [("--user", "alice", "--password", "guess"), ("--user", "alice"), ()]
        for options in wrong:
            refused = storescu(listener.port, [path], *options)
            assert refused.returncode != 0
            assert NO_REASON in refused.stdout + refused.stderr
            assert "Rejected Permanent" in refused.stdout + refused.stderr
        assert storescu(listener.port, [path], *RIGHT).returncode == 0
    assert len(reception.objects) == 4
    assert witness.rejected == ["association rejected: user identity not accepted"] * 3
    assert Denial.WRONG_USER.value in caplog.text
    assert Denial.USERLESS.value in caplog.text
    assert "open sesame" not in caplog.text
    assert "guess" not in caplog.text


def test_where_no_user_is_asked_for_any_is_let_in(tmp_path: Path) -> None:
    """A sender that names its user works with a listener that does not look at it."""
    path, reception = ct_file(tmp_path / "ct.dcm"), RememberingReception()
    with listening(reception, Witnesses(), UserList()) as listener:
        assert storescu(listener.port, [path], *RIGHT).returncode == 0
    assert len(reception.objects) == 1


def test_every_rejection_for_who_a_caller_is_raises_an_alert() -> None:
    """A permanent rejection is about the caller; a transient one says nothing of it."""
    permanent: list[Rejection] = [rejection for rejection in _UNWELCOME if rejection[0] == 1]
    assert len(permanent) == len(_UNWELCOME) == 3
    assert NO_REASON_GIVEN in permanent
