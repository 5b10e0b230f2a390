"""The worker that messages wake: Celery's, with processes that are ended and started anew as jobs would have it."""

import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from billiard.util import get_logger
from celery import Celery, signals
from celery.worker import consumer, request, state

from daemon.domain.handling import Resource
from daemon.executors.messages import TASK, queue

LOGGER = logging.getLogger(__name__)
# A process of the pool may take so long until its models are loaded, as on a busy machine, before Celery ends it and
# begins another, which would take no less; and so long when told to give its job back.
BEGIN_SECONDS, GIVE_BACK_SECONDS = 900, 15.0
# Tells a process to do so: SIGTERM makes Celery's own end at once.
GIVE_BACK = signal.SIGUSR2
_LIBRARIES = ("celery", "kombu", "amqp", "billiard")
_ENDED_BY = re.compile(r"signal \d+ \(\w+\)|exitcode \d+")


@dataclass(frozen=True, kw_only=True)
class Crew:
    """How the workers of this machine work.

    A job that takes longer than `limit` is ended with its process; `recycle_jobs` and `recycle_mb` end a process
    between jobs, 0: never.
    """

    processes: int
    takes: Sequence[Resource]
    limit: timedelta
    stop: timedelta
    recycle_jobs: int = 0
    recycle_mb: int = 0


@dataclass(kw_only=True)
class Hands:
    """What one process of the pool does: `begin`, in it, makes what works on one job of a resource.

    `lost` is told, in the process above, the process id of one that ended at its job, and how. Connections to a ledger
    must not live where processes are forked: each side makes its own, and `lost` closes them again.
    """

    begin: Callable[[], Callable[[Resource], bool]]
    lost: Callable[[int, str], None]
    work: Callable[[Resource], bool] | None = field(default=None, init=False)

    def start(self, **_: object) -> None:
        """Begin; Celery calls it in each process."""
        self.work = self.begin()

    def take(self, resource: Resource) -> bool:
        """Work on a job, where there is one; raises what `begin` does."""
        if self.work is None:
            # Celery says nothing of a beginning that failed, and hands such a process messages all the same.
            self.work = self.begin()
        return self.work(resource)

    def ended(self, process: int, error: BaseException) -> None:
        """Tell of a process that ended at its job, where `error` says so; never raises: Celery goes on with it."""
        if not isinstance(error, WorkerLostError | TimeLimitExceeded):
            return
        found = _ENDED_BY.search(str(error))
        try:
            self.lost(process, found[0] if found else "the hard time limit")
        except Exception:
            # The edge of the loop: its job is free all the same once its lease runs out.
            LOGGER.exception("nobody was told that process %d ended at its job", process)


class _Consumer(consumer.Consumer):
    """Without delayed messages, for which Celery would declare 28 further queues on RabbitMQ."""

    class Blueprint(consumer.Consumer.Blueprint):
        """The steps that are left."""

        default_steps = [s for s in consumer.Consumer.Blueprint.default_steps if "delayed_delivery" not in s]  # noqa: RUF012


def run(app: Celery, crew: Crew, hands: Hands, stop: threading.Event) -> None:
    """Work until `stop`; a job under way then has `crew.stop` to end, and is given back after that."""
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Which prints for itself where nobody else listens.
    get_logger().propagate = True
    _register(app, hands)
    app.conf.update(
        task_time_limit=crew.limit.total_seconds(),
        worker_max_tasks_per_child=crew.recycle_jobs or None,
        worker_max_memory_per_child=crew.recycle_mb << 10 or None,
        worker_proc_alive_timeout=BEGIN_SECONDS,
    )
    worker = app.Worker(
        concurrency=crew.processes,
        queues=[queue(resource) for resource in crew.takes],
        consumer_cls=_Consumer,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=not app.conf.worker_send_task_events,
        quiet=True,
    )
    threading.Thread(target=_end, args=(worker, stop, crew.stop.total_seconds()), name="end", daemon=True).start()
    LOGGER.info("%d processes take %s", crew.processes, ", ".join(r.value for r in crew.takes))
    worker.start()


def _register(app: Celery, hands: Hands) -> None:
    def job(task: Any, job_id: int) -> None:  # noqa: ANN401 - Celery's task has no type
        resource = Resource(task.request.delivery_info["routing_key"].partition(".")[2])
        if not hands.take(resource):
            LOGGER.info("the message of job %d finds nothing to do", job_id)

    class Request(request.Request):
        def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Celery's
            hands.ended(self.worker_pid, exc_info.exception)
            return super().on_failure(exc_info, *args, **kwargs)

    app.task(job, bind=True, name=TASK, Request=Request, acks_on_failure_or_timeout=True)
    signals.worker_process_init.connect(hands.start, weak=False)
    signals.setup_logging.connect(_as_it_is, weak=False)


def _as_it_is(**_: object) -> None:
    """Keep the log as it is: Celery sets up its own where nobody else does."""


def _end(worker: Any, stop: threading.Event, seconds: float) -> None:  # noqa: ANN401 - Celery's
    """Once told to stop, take no more; after that time have jobs given back, and end."""
    stop.wait()
    # As its handler of SIGTERM does, which our death watch cannot call.
    state.should_stop = os.EX_OK
    done = threading.Event()
    signals.worker_shutdown.connect(lambda **_: done.set(), weak=False)
    if done.wait(seconds):
        return
    processes = list(worker.pool._pool._pool)  # noqa: SLF001 - Celery tells of none
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, GIVE_BACK)
    deadline = time.monotonic() + GIVE_BACK_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    # It would wait for the answers of those that ended so.
    os.kill(os.getpid(), signal.SIGKILL)
