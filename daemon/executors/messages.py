"""Messages: through RabbitMQ or Redis, by Celery. They hold the number of a job and nothing of a patient."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.exceptions import OperationalError

from daemon.domain.handling import Depth, Hint, Resource
from daemon.errors import RetryableError

TASK = "overread.job"
CONNECT_SECONDS = 4.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the broker is, how long at most a message is in hand, and whether others may watch."""

    url: str
    longest: timedelta
    watched: bool = False

    @property
    def amqp(self) -> bool:
        """Return whether it is RabbitMQ."""
        return self.url.startswith("amqp:")


def queue(resource: Resource) -> str:
    """Return the name of the queue of a resource."""
    return f"overread.{resource.value}"


def application(place: Place) -> Celery:
    """Return the Celery application; nothing is connected yet.

    Quorum queues are replicated and durable; they know no priorities before RabbitMQ 4, and need none: the ledger
    decides what is next. On Redis a message in hand is given out anew after the longest time that it can be.
    """
    app = Celery("overread", broker=place.url, set_as_current=False)
    arguments = {"x-queue-type": "quorum"} if place.amqp else None
    exchange = Exchange("overread", type="direct", durable=True)
    app.conf.update(
        task_queues=[
            Queue(queue(r), exchange, routing_key=queue(r), durable=True, queue_arguments=arguments) for r in Resource
        ],
        task_default_queue=queue(Resource.CPU),
        task_default_exchange=exchange.name,
        task_create_missing_queues=False,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_timeout=CONNECT_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=30 if place.amqp else None,
        broker_transport_options=_transport(place),
        worker_prefetch_multiplier=1,
        # Lowered where a connection is lost, it could not be raised again: quorum queues keep it as it was at first.
        worker_enable_prefetch_count_reduction=False,
        worker_enable_remote_control=place.watched,
        worker_send_task_events=place.watched,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    return app


def _transport(place: Place) -> dict[str, object]:
    if place.amqp:
        return {"confirm_publish": True}
    return {
        "visibility_timeout": place.longest.total_seconds(),
        "socket_timeout": 30.0,
        "socket_connect_timeout": CONNECT_SECONDS,
        "health_check_interval": 25,
    }


class Messages:
    """The broker, for who tells of jobs; each call has a connection of its own."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def publish(self, hints: Sequence[Hint]) -> None:
        """Hand messages over; RabbitMQ has confirmed each, Redis has answered for each, on return.

        Raises:
            RetryableError: the broker is not reached, or did not take them all.
        """
        with self._connected() as connection, self._app.amqp.Producer(connection) as producer:
            for hint in hints:
                name, number = queue(hint.resource), f"job-{hint.job_id}-{uuid4().hex[:8]}"
                self._app.send_task(TASK, (hint.job_id,), task_id=number, queue=name, producer=producer, retry=False)

    def depths(self) -> Mapping[Resource, Depth]:
        """Return what each queue holds; one that is gone is made again. Raises as `publish`."""
        with self._connected() as connection:
            return {resource: self._depth(connection, resource) for resource in Resource}

    def _depth(self, connection: Connection, resource: Resource) -> Depth:
        bound = self._app.amqp.queues[queue(resource)].bind(connection.default_channel)
        bound.declare()
        found = bound.queue_declare()
        amqp = bound.queue_arguments is not None
        return Depth(messages=found.message_count, listeners=found.consumer_count if amqp else None)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._app.connection_for_write() as connection:
            try:
                connection.ensure_connection(max_retries=1, timeout=CONNECT_SECONDS)
                yield connection
            except (*connection.connection_errors, *connection.channel_errors, OperationalError) as error:
                raise RetryableError(
                    f"the broker is not reached ({_cause(error)}); start it, or correct queue.broker_url"
                ) from error


def _cause(error: BaseException) -> str:
    """Return the system's words, else the class alone: an address with its password may be among the library's."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return type(error).__name__
