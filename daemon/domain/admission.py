"""Who may open an association with us: a decision from what a caller says and what its connection proves."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

from daemon.domain.identity import Identity, User, proven
from daemon.domain.trust import Certificate, Proof

_AE_TITLE = re.compile(r"(?=.{1,16}$)[\x21-\x5b\x5d-\x7e]+( [\x21-\x5b\x5d-\x7e]+)*")


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A peer that asks for an association.

    The AE titles of its request, its address, its certificate under TLS, and the user that it names.
    """

    calling_ae: str
    called_ae: str = ""
    address: str = ""
    certificate: Certificate | None = None
    identity: Identity | None = None


@dataclass(frozen=True, kw_only=True)
class AllowedCaller:
    """A calling AE title that may open associations, from `network` only where there is one."""

    ae_title: str
    network: IPv4Network | IPv6Network | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `AE` or `AE@ADDRESS`, ADDRESS an IP address or a CIDR network; the last @ divides.

        Raises:
            ValueError: either part is none; the message names it and the mend.
        """
        title, divided, address = text.rpartition("@")
        if not divided:
            return cls(ae_title=checked_ae_title(text))
        try:
            return cls(ae_title=checked_ae_title(title), network=ip_network(address))
        except ValueError as error:
            raise ValueError(f"{text!r}: {error}; write AE, AE@10.0.0.5 or AE@10.0.0.0/24") from error

    def covers(self, caller: Caller) -> bool:
        """Tell whether `caller` is this one, at an address that it may come from."""
        return self.ae_title == caller.calling_ae and (self.network is None or _plain(caller.address) in self.network)


class Denial(StrEnum):
    """Why a caller is not let in; the value is the sentence for the log."""

    UNKNOWN = "this calling AE title is not in listener.allowed_callers"
    ELSEWHERE = "listener.allowed_callers has this calling AE title, but not at this address"
    UNPROVEN = "tls.peers has certificates, and none of them for this calling AE title"
    DISPROVEN = "tls.peers has another certificate for this calling AE title"
    USERLESS = "it names no user, and this calling AE title is not in listener.callers_without_user"
    WRONG_USER = "its user with that passcode is not in listener.users"


@dataclass(frozen=True, kw_only=True)
class AllowList:
    """Who may call; with `any_caller` every AE title from everywhere.

    Where `proofs` has any, a caller's certificate must be one of those of its AE title as well.
    """

    callers: frozenset[AllowedCaller] = frozenset()
    any_caller: bool = False
    proofs: tuple[Proof, ...] = ()

    def denial(self, caller: Caller) -> Denial | None:
        """Return why `caller` is not let in, or None."""
        if self.any_caller or any(allowed.covers(caller) for allowed in self.callers):
            return self._unproven(caller) if self.proofs else None
        known = any(allowed.ae_title == caller.calling_ae for allowed in self.callers)
        return Denial.ELSEWHERE if known else Denial.UNKNOWN

    def _unproven(self, caller: Caller) -> Denial | None:
        own = [proof for proof in self.proofs if proof.ae_title == caller.calling_ae]
        if not own:
            return Denial.UNPROVEN
        certificate = caller.certificate
        return None if certificate and any(proof.fits(certificate) for proof in own) else Denial.DISPROVEN


@dataclass(frozen=True, kw_only=True)
class UserList:
    """Which users callers must name; `exempt` are calling AE titles that need none. Without `users` nobody is asked."""

    users: tuple[User, ...] = ()
    exempt: frozenset[str] = frozenset()

    def denial(self, caller: Caller) -> Denial | None:
        """Return why `caller` is not let in, or None; a user that is named must be right, exempt or not."""
        if not self.users:
            return None
        if caller.identity is None:
            return None if caller.calling_ae in self.exempt else Denial.USERLESS
        return None if proven(self.users, caller.identity) else Denial.WRONG_USER


def with_destinations(named: Iterable[AllowedCaller], destinations: Iterable[str]) -> frozenset[AllowedCaller]:
    """Return `named` and those AE titles of `destinations` that it lacks, at any address.

    A destination reports its Storage Commitments on associations of its own (PS3.4 J.3.3), and a PACS of
    several machines from another address than it receives at. Naming it with an address ties it to that.
    """
    callers = frozenset(named)
    titles = {caller.ae_title for caller in callers}
    return callers | {AllowedCaller(ae_title=title) for title in destinations if title not in titles}


def checked_ae_title(text: str) -> str:
    """Return `text` when it is an AE title (PS3.5 6.2: 1 to 16 printable characters, no backslash).

    Raises:
        ValueError: it is none.
    """
    if _AE_TITLE.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no AE title: 1 to 16 printable characters, no backslash, no space at the ends")
    return text


def _plain(address: str) -> IPv4Address | IPv6Address:
    """Return the address; an IPv4 caller of an IPv6 socket (::ffff:a.b.c.d) as the IPv4 address that it is."""
    parsed = ip_address(address)
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed
