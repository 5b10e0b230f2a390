"""The listener's processes: one, or several that share a port."""

import logging
import threading
from contextlib import AbstractContextManager, nullcontext, suppress

from daemon.bootstrap import House
from daemon.config.sections import ListenerSection
from daemon.dimse.port import claimed
from daemon.runtime import ALIVE_SECONDS, LISTENING, beside, loaded, mark, marked

LOGGER = logging.getLogger(__name__)


def parts(section: ListenerSection) -> list[str]:
    """Return the listeners as parts for a supervisor; of several each is told which it is, also when started again."""
    if section.processes == 1:
        return ["listen"]
    return [f"listen --process {number}" for number in range(1, section.processes + 1)]


def gate(section: ListenerSection) -> AbstractContextManager[None]:
    """Return what keeps other daemons from the port meanwhile; one listener alone does that itself.

    Raises:
        FatalError: another has it.
    """
    return nullcontext() if section.processes == 1 else claimed(section.host, section.port)


def listens(house: House) -> bool:
    """Return whether any listener of this data folder listens."""
    with suppress(OSError):
        return bool(mark(house.settings.data.folder / LISTENING))
    return False


def receive(house: House, stop: threading.Event, number: int = 0) -> None:
    """Receive until `stop`, alone or as that one of several listeners, from 1 on.

    Each ends what its own former life left open; what is to be done for all of them the first does.
    """
    from daemon.services.receive import reconcile

    intake = house.intake(number)
    arrivals = house.arrivals(intake, "listen")
    if number > 1:
        arrivals.close_all(house.clock.now())
    else:
        house.note_settings("listen")
        for digest in reconcile(house.spool, house.files, arrivals, house.clock):
            gone = "waits on the machine that received it, or is gone" if house.spool.late else "is gone from the spool"
            LOGGER.error("an acknowledged file %s: %s; ask its sender to send the study again", gone, digest)
    with (
        beside("alive", lambda: intake.alive(house.clock.now()), stop, ALIVE_SECONDS),
        house.listener(intake, shared=number > 0),
        marked(house.settings.data.folder / LISTENING, house.settings.listener.address),
    ):
        loaded()
        stop.wait()
    intake.close()
