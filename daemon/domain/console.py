"""Who may use the console: people by name and argon2id digest of a password, programs by digest of a token."""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

SHORTEST_PASSWORD = 12
_ENTRY = re.compile(
    r"(?P<name>[A-Za-z0-9._@-]{1,64})=(?P<role>[a-z]+):"
    r"(?P<digest>\$argon2id\$v=19\$m=\d{1,7},t=\d{1,3},p=\d{1,2}\$[A-Za-z0-9+/]{11,128}\$[A-Za-z0-9+/]{16,128})"
)

_TOKEN_ENTRY = re.compile(r"(?P<name>[A-Za-z0-9._@-]{1,64})=(?P<role>[a-z]+):sha256:(?P<digest>[0-9a-f]{64})")


class Role(StrEnum):
    """What somebody may do: each role may do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, wanted: "Role") -> bool:
        """Return whether this role may do what `wanted` may."""
        order = list(Role)
        return order.index(self) >= order.index(wanted)


@dataclass(frozen=True, kw_only=True)
class ConsoleUser:
    """Somebody who may log in; no user of the DICOM listener, whose entries are others."""

    name: str
    role: Role
    digest: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `NAME=ROLE:$argon2id$...`.

        Raises:
            ValueError: it is none; the message names the mend, and not what was written: that may be a password.
        """
        match = _ENTRY.fullmatch(text)
        if match is None or match["role"] not in set(Role):
            name, divided, _ = text.partition("=")
            named = f"the entry of {name!r}" if divided else "an entry without ="
            raise ValueError(f"{named} is no user of the console; let `overread web-user NAME --role ROLE` write it")
        return cls(name=match["name"], role=Role(match["role"]), digest=match["digest"])

    def __str__(self) -> str:
        """Return what `parse` reads."""
        return f"{self.name}={self.role.value}:{self.digest}"


@dataclass(frozen=True, kw_only=True)
class ConsoleToken:
    """A program that may ask by a bearer token of 32 random bytes; `digest` is the token's SHA-256 in hex."""

    name: str
    role: Role
    digest: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `NAME=ROLE:sha256:HEX`.

        Raises:
            ValueError: it is none; what was written is not repeated: it may be the token itself.
        """
        match = _TOKEN_ENTRY.fullmatch(text)
        if match is None or match["role"] not in set(Role):
            raise ValueError("an entry is no token's; let `overread web-token NAME --role ROLE` write it")
        return cls(name=match["name"], role=Role(match["role"]), digest=match["digest"])

    @classmethod
    def of(cls, name: str, role: Role, token: str) -> Self:
        """Return the entry of a token."""
        return cls(name=name, role=role, digest=hashlib.sha256(token.encode()).hexdigest())

    def fits(self, token: str) -> bool:
        """Return whether it is this one."""
        return hmac.compare_digest(hashlib.sha256(token.encode()).hexdigest(), self.digest)

    def __str__(self) -> str:
        """Return what `parse` reads."""
        return f"{self.name}={self.role.value}:sha256:{self.digest}"
