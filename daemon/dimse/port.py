"""The listener's port: of one process, or of several of one daemon, and never of two daemons."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from daemon.errors import FatalError


def bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a socket that listens; on all addresses of both kinds for `::`.

    With `shared` other processes of the same user may listen there as well, where theirs is shared too: the kernel
    deals connections out by addresses and ports of both ends.

    Raises:
        OSError: the address is not ours, or the port is taken or not ours to take.
    """
    if ":" not in host:
        return socket.create_server((host, port), backlog=128, reuse_port=shared)
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(
        (host, port), family=socket.AF_INET6, backlog=128, reuse_port=shared, dualstack_ipv6=both
    )


def opened(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return the same, or say in words why not.

    Raises:
        FatalError: the address cannot be bound.
    """
    try:
        return bound(host, port, shared=shared)
    except OSError as error:
        raise _untaken(host, port, error) from error


@contextmanager
def claimed(host: str, port: int) -> Iterator[None]:
    """Keep other daemons from a port while processes of ours share it.

    The kernel lets in whoever shares it too and is the same user. So nobody may listen there at first, and two that
    begin at once meet at a name in the abstract namespace of Unix sockets: it is as wide as that of ports, and gone
    with its process.

    Raises:
        FatalError: another has the port.
    """
    with socket.socket(socket.AF_UNIX) as name:
        try:
            name.bind(f"\0overread-listener-{host}:{port}")
        except OSError as error:
            raise _untaken(host, port, error) from error
        opened(host, port).close()
        yield


def _untaken(host: str, port: int, error: OSError) -> FatalError:
    cause = (error.strerror or str(error)).partition(" (")[0]
    return FatalError(
        f"cannot listen on {host}:{port}: {cause}; change host or port in the configuration, or stop what holds the "
        "port"
    )
