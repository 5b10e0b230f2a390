"""The listener's port: shared by processes of one daemon, and by nobody else."""

import socket

import pytest

from daemon.dimse.port import bound, claimed, opened
from daemon.errors import FatalError
from demo.ports import HOST, free_port

TAKEN = r"cannot listen on {}:{}: Address already in use; change host or port .*, or stop what holds the port"


def test_a_port_is_shared_by_those_only_that_share_it() -> None:
    """Whoever does not share it is refused, and lets nobody in."""
    port = free_port()
    with (
        bound(HOST, port, shared=True),
        bound(HOST, port, shared=True),
        pytest.raises(FatalError, match=TAKEN.format(HOST, port)),
    ):
        opened(HOST, port)
    with bound(HOST, port), pytest.raises(FatalError, match=TAKEN.format(HOST, port)):
        opened(HOST, port, shared=True)


def test_a_claim_keeps_other_daemons_out_and_lets_ours_in() -> None:
    """Also before the first of ours listens; it ends with its block."""
    port = free_port()
    with claimed(HOST, port):
        with pytest.raises(FatalError, match=TAKEN.format(HOST, port)), claimed(HOST, port):
            pytest.fail("claimed twice")
        with bound(HOST, port, shared=True), bound(HOST, port, shared=True):
            pass
    with claimed(HOST, port):
        pass


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_at_which_somebody_listens_is_not_claimed(shared: bool) -> None:  # noqa: FBT001 - a parameter
    """Though it be the same user, who shares it: the kernel alone would let us in."""
    with (
        bound(HOST, 0, shared=shared) as theirs,
        pytest.raises(FatalError, match="Address already in use"),
        claimed(HOST, theirs.getsockname()[1]),
    ):
        pytest.fail("claimed")


def test_a_connection_that_just_ended_does_not_count() -> None:
    """What was served there a moment ago, by one or by several, is no reason to refuse a start."""
    for shared in (False, True):
        with bound(HOST, free_port(), shared=shared) as server:
            port = server.getsockname()[1]
            with socket.create_connection((HOST, port)) as caller:
                served, _ = server.accept()
                served.close()
                assert caller.recv(1) == b""
        with claimed(HOST, port), bound(HOST, port, shared=True):
            pass
