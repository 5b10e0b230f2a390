"""Who reports: this process, on this machine, started by this user."""

import os
import pwd
import socket

from daemon.domain.audit import Participant, Reporter


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
