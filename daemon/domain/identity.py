"""User identity (PS3.7 D.3.3.7): the user that a caller names, and the passcode that proves it."""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Self

USERNAME_AND_PASSCODE = 2
_ENTRY = re.compile(r"(?P<name>[^=\s][^=]{0,63})=scrypt:(?P<salt>[0-9a-f]{32}):(?P<digest>[0-9a-f]{64})")
# RFC 7914; 16 MB and some 50 ms of one core for each guess
_COST = {"n": 1 << 14, "r": 8, "p": 1, "dklen": 32}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a request says of its user; `kind` is the User-Identity-Type, 2 for username and passcode."""

    kind: int
    username: str
    passcode: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, kw_only=True)
class User:
    """A user that callers may name; of the passcode only a salted scrypt digest is kept."""

    name: str
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `NAME=scrypt:SALT:DIGEST`.

        Raises:
            ValueError: it is none; the message names the mend, and not what was written: that may be a passcode.
        """
        match = _ENTRY.fullmatch(text)
        if match is None:
            name, divided, _ = text.partition("=")
            named = f"the entry of {name!r}" if divided else "an entry without ="
            raise ValueError(f"{named} is no user; let `overread user NAME` write it")
        return cls(name=match["name"], salt=bytes.fromhex(match["salt"]), digest=bytes.fromhex(match["digest"]))

    @classmethod
    def make(cls, name: str, passcode: bytes, salt: bytes) -> Self:
        """Return the user of a new passcode; `salt` is 16 random bytes."""
        return cls(name=name, salt=salt, digest=_derived(passcode, salt))

    def __str__(self) -> str:
        """Return what `parse` reads."""
        return f"{self.name}=scrypt:{self.salt.hex()}:{self.digest.hex()}"

    def proven_by(self, passcode: bytes) -> bool:
        """Tell whether `passcode` is this user's; takes its time."""
        return hmac.compare_digest(_derived(passcode, self.salt), self.digest)


_NOBODY = User(name="", salt=bytes(16), digest=bytes(32))


def proven(users: tuple[User, ...], identity: Identity) -> bool:
    """Tell whether `identity` is one of `users` with its passcode; takes as long for a name that nobody has."""
    user = next((one for one in users if one.name == identity.username), _NOBODY)
    return user.proven_by(identity.passcode) and identity.kind == USERNAME_AND_PASSCODE and user is not _NOBODY


def _derived(passcode: bytes, salt: bytes) -> bytes:
    return hashlib.scrypt(passcode, salt=salt, **_COST)
