"""Who reports: this process, on this machine, started by this user; and that it starts and ends."""

import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from daemon.audit.trail import Trail
from daemon.clock import Clock
from daemon.domain.audit import Participant, Reporter, started, stopped


def here(command: str, ae_title: str) -> Reporter:
    """Return this process, as `overread command`, and the machine's user who runs it."""
    host = socket.gethostname()
    try:
        login = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        login = str(os.getuid())
    process = Participant(
        user_id=f"{host}-{os.getpid()}", user_name=f"overread {command}", ae_title=ae_title, address=host
    )
    return Reporter(process=process, person=Participant(user_id=f"{login}@{host}"))


@contextmanager
def lifetime(trail: Trail, reporter: Reporter, clock: Clock) -> Iterator[None]:
    """Record that a process starts, and how it ends."""
    trail.record([started(reporter, clock.now())])
    try:
        yield
    except BaseException as error:
        trail.record([stopped(reporter, clock.now(), f"ended by {type(error).__name__}")])
        raise
    trail.record([stopped(reporter, clock.now())])
