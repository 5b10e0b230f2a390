"""An Audit Record Repository: where audit messages go besides the local log."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

# The transports of PS3.15 A.6 and A.7, and the ports that RFC 5425 and RFC 5426 give them.
_PORTS = {"tls": 6514, "udp": 514}


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A syslog receiver; without `secure` by datagrams, which nobody answers for."""

    secure: bool
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `tls://HOST:PORT` or `udp://HOST:PORT`; an IPv6 address stands in brackets.

        Raises:
            ValueError: it is neither; the message names it and the mend.
        """
        mend = f"{text!r}: write tls://HOST:PORT or udp://HOST:PORT, such as tls://arr.hospital.example:6514"
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ValueError(mend) from error
        beyond = parts.path or parts.query or parts.fragment or parts.username
        if parts.scheme not in _PORTS or not parts.hostname or beyond or port == 0:
            raise ValueError(mend)
        return cls(secure=parts.scheme == "tls", host=parts.hostname, port=port or _PORTS[parts.scheme])

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.secure else 'udp'}://{host}:{self.port}"
