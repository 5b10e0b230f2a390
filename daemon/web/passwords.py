"""Passwords of the console's users: argon2id (RFC 9106), never kept."""

import secrets
import threading
from collections.abc import Sequence

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from daemon.domain.console import SHORTEST_PASSWORD, ConsoleUser, Role

_LONGEST = 1024


class Passwords:
    """Tells who a password is of; one at a time, so that guessing takes one core and 64 MB at most."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._turn = threading.Lock()
        # A name that nobody has takes as long as one that somebody has.
        self._nobody = self._hasher.hash(secrets.token_hex())

    def proven(self, users: Sequence[ConsoleUser], name: str, password: str) -> ConsoleUser | None:
        """Return the user of that name where the password is theirs."""
        user = next((user for user in users if user.name == name), None)
        digest = user.digest if user else self._nobody
        try:
            with self._turn:
                self._hasher.verify(digest, password[:_LONGEST])
        except (VerificationError, InvalidHashError):
            return None
        return user


def new_user(name: str, role: Role, password: str) -> ConsoleUser:
    """Return the user of a new password.

    Raises:
        ValueError: the name is none, or the password is too short or too long.
    """
    if not SHORTEST_PASSWORD <= len(password) <= _LONGEST:
        raise ValueError(f"a password has {SHORTEST_PASSWORD} to {_LONGEST} characters")
    made = ConsoleUser(name=name, role=role, digest=PasswordHasher().hash(password))
    return ConsoleUser.parse(str(made))
