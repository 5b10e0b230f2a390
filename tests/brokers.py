"""Real brokers on loopback for tests: Debian's RabbitMQ and Redis, each with ports and folders of its own."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kombu import Connection

from daemon.domain.handling import Resource
from daemon.executors.messages import queue
from demo.ports import HOST, free_port, listens
from tests.peers import need, running_peer, wait_until

START_SECONDS = 120.0


@dataclass(kw_only=True)
class Broker:
    """A broker that can be killed, started again, and emptied; what it holds on disk outlives it."""

    kind: str
    port: int
    folder: Path
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return its address."""
        return (
            f"amqp://guest:guest@{HOST}:{self.port}//" if self.kind == "rabbitmq" else f"redis://{HOST}:{self.port}/0"
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )
        wait_until(self.answers, START_SECONDS, f"{self.kind} to answer")

    def answers(self) -> bool:
        """Return whether a client can connect."""
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "broker.log").read_text(errors="replace")[-2000:]
        try:
            with Connection(self.url, connect_timeout=2) as connection:
                connection.ensure_connection(max_retries=1, timeout=2)
                connection.default_channel.close()
        except Exception:  # noqa: BLE001 - whatever it is, it does not answer yet
            return False
        return True

    def kill(self) -> None:
        """End it at once, with all its processes, as loss of power would."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        wait_until(lambda: not listens(self.port), 20, f"{self.kind} to be gone")

    def purge(self) -> int:
        """Lose every message that nobody has in hand; return how many there were."""
        with Connection(self.url) as connection:
            return sum(connection.default_channel.queue_purge(queue(resource)) or 0 for resource in Resource)


@contextmanager
def rabbitmq(folder: Path) -> Iterator[Broker]:
    """Run a RabbitMQ node of one's own: its name, cookie, ports, data and log; nothing of the machine's is touched."""
    need("rabbitmq-server", "epmd")
    folder.mkdir(parents=True)
    (folder / "enabled_plugins").write_text("[].")
    port, names, peers = free_port(), free_port(), free_port()
    (folder / "rabbitmq.conf").write_text(f"listeners.tcp.default = {HOST}:{port}\nlog.file.level = error\n")
    environment = {
        **os.environ,
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"overread{port}@localhost",
        "RABBITMQ_DIST_PORT": str(peers),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none",
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": HOST,
    }
    server = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # Debian's own command runs it as another user
    with running_peer([str(shutil.which("epmd")), "-port", str(names), "-address", HOST], names, folder / "epmd.log"):
        broker = Broker(kind="rabbitmq", port=port, folder=folder, command=[server], environment=environment)
        yield from _running(broker)


@contextmanager
def redis(folder: Path) -> Iterator[Broker]:
    """Run a Redis of one's own, which keeps what it holds in a file."""
    need("redis-server")
    folder.mkdir(parents=True)
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", HOST, "--dir", str(folder), "--appendonly", "yes"]
    yield from _running(Broker(kind="redis", port=port, folder=folder, command=command, environment=dict(os.environ)))


def _running(broker: Broker) -> Iterator[Broker]:
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()
