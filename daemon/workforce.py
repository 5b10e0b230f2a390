"""Workers that are told of jobs by messages: what a house needs for it beside its own ledger."""

import os
from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec
from threading import Event, Thread
from typing import TYPE_CHECKING

from daemon.bootstrap import House
from daemon.bucket import agree
from daemon.domain.audit import stopped
from daemon.domain.handling import Depth, Executor, Resource
from daemon.errors import FatalError, OverreadError, RetryableError
from daemon.ledger.outbox import Outbox
from daemon.runtime import cap_memory, die, end_first, loaded, signalled, worker_name
from daemon.second import shadowing
from daemon.services.dispatch import Dispatch, DispatchRules

if TYPE_CHECKING:
    from celery import Celery


# A process whose parent was killed learns of it within so many seconds.
ORPHAN_SECONDS = 2.0


def by_messages(house: House) -> bool:
    """Return whether messages tell workers of jobs."""
    return house.settings.queue.executor is Executor.CELERY


def need() -> None:
    """Check that what messages go by is installed.

    Raises:
        FatalError: it is not.
    """
    absent = [name for name in ("celery", "redis") if not find_spec(name)]
    if absent:
        raise FatalError(
            f"queue.executor = celery needs {', '.join(absent)}; run `pip install overread[celery]`, or set it to local"
        )


def _application(house: House) -> "Celery":
    need()
    from daemon.executors.messages import Place, application

    section = house.settings.queue
    return application(Place(url=section.broker_url, longest=2 * _hard(house), watched=section.watched))


def dispatch(house: House) -> Dispatch:
    """Return the verb dispatch."""
    app = _application(house)
    from daemon.executors.messages import Messages

    rules = DispatchRules(patience=house.settings.queue.patience)
    return Dispatch(Outbox(house.engine), Messages(app), house.clock, rules)


def depths(house: House) -> dict[Resource, Depth]:
    """Return what the broker holds.

    Raises:
        RetryableError: it is not reached.
        FatalError: what it is asked by is not installed.
    """
    app = _application(house)
    from daemon.executors.messages import Messages

    return dict(Messages(app).depths())


def examined(house: House) -> str:
    """Return in words what the broker holds.

    Raises:
        OverreadError: it is not reached, or nobody takes what it holds; in words too, with the mend.
    """
    try:
        found = depths(house)
    except RetryableError as error:
        raise RetryableError(f"{error}; jobs wait, everything else goes on") from error
    idle = [resource.value for resource, depth in found.items() if depth.messages and depth.listeners == 0]
    if idle:
        raise RetryableError(f"nobody takes jobs for {', '.join(idle)}: start a worker that does, see queue.takes")
    return ", ".join(f"{depth.messages} messages for {resource.value}" for resource, depth in found.items())


def care(house: House) -> str:
    """Return in words what is wrong with broker or workers, empty where all is well or there is none."""
    if by_messages(house):
        try:
            examined(house)
        except OverreadError as error:
            return str(error)
    return ""


def work(house: House, stop: Event) -> None:
    """Run this machine's workers until `stop`."""
    app = _application(house)
    from daemon.executors.worker import Crew, Hands, run

    inference, section = house.settings.inference, house.settings.queue
    crew = Crew(
        processes=max(1, inference.workers),
        takes=section.takes,
        limit=_hard(house),
        stop=timedelta(seconds=inference.stop_seconds),
        recycle_jobs=section.recycle_jobs,
        recycle_mb=section.recycle_mb,
    )

    def lost(pid: int, how: str) -> None:
        house.losses().settle(worker_name(pid), how)
        house.engine.dispose()

    # Processes are forked from here on: what is open would be shared.
    house.engine.dispose()
    loaded()
    run(app, crew, Hands(begin=lambda: _hand(House(house.settings)), lost=lost), stop)


def _hard(house: House) -> timedelta:
    """Return when a job is ended from outside: later than it ends itself, which takes a turn of its lease."""
    inference = house.settings.inference
    return timedelta(minutes=inference.job_minutes, seconds=inference.lease_seconds + 30)


def _hand(house: House) -> Callable[[Resource], bool]:
    """Return what works on a job, in a process of its own that gives it back when told to end, or left alone."""
    from daemon.executors.worker import GIVE_BACK

    cap_memory(house.settings.inference.memory_mb)
    end_first()
    agree(house)
    house.reader.warm()
    loaded(seldom=True)
    process, told = house.process(shadowing(house.settings)), signalled((GIVE_BACK,))
    parent = os.getppid()

    def abandon() -> None:
        while os.getppid() == parent and not told.wait(ORPHAN_SECONDS):
            pass
        if process.give_back():
            text = "stopped before its job was done; the job was given back"
            house.trail.record([stopped(house.reporter("work"), house.clock.now(), text)])
        die()

    Thread(target=abandon, name="abandon", daemon=True).start()
    return process.step
