"""`python -m tests.broker_torture`: a broker lost and restarted, workers killed, messages that come twice or never.

Studies are pushed meanwhile to a whole daemon with `queue.executor = celery`, on a real RabbitMQ, then a real Redis.
Prints what befell it, and how many studies ended with exactly one SEG and one SR in a real PACS.
"""

import argparse
import copy
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import psutil
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from daemon.domain.handling import Hint, Resource
from daemon.executors.messages import Messages, Place, application
from demo.ports import free_port
from dicom_fixtures.planes import Layout
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.brokers import Broker, rabbitmq, redis
from tests.daemons import Daemon, asked, counted, init, results, serving
from tests.peers import Peer, orthanc, storescu, wait_until
from tests.tiny_bundle import make_tiny_bundle

SETTLE_SECONDS = 600.0
BROKERS = {"rabbitmq": rabbitmq, "redis": redis}
# Each message so often again.
COPIES = 5
# Studies that come while workers are held: more than they have in hand, so that some messages wait and can be lost.
HELD_BACK = 4


@dataclass(kw_only=True)
class Figures:
    """What the torture showed; `again` counts messages that the daemon itself sent again because they seemed lost."""

    broker: str
    studies: int
    befell: Counter[str] = field(default_factory=Counter)
    messages: dict[str, int] = field(default_factory=dict)
    answered_once: int = 0
    wrong: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """Whether every study was answered exactly once."""
        return self.answered_once == self.studies

    def __str__(self) -> str:
        """Return the figures, one a line."""
        rows = {
            "broker": self.broker,
            **dict(sorted(self.befell.items())),
            "messages sent": self.messages.get("messages", 0),
            "sent again, as they seemed lost": self.messages.get("messages again", 0),
            "studies answered exactly once": f"{self.answered_once} of {self.studies}",
            **({"wrong": self.wrong} if self.wrong else {}),
        }
        return "\n".join(f"{name:<32} {value}" for name, value in rows.items())


@dataclass(frozen=True, kw_only=True)
class Site:
    """A daemon, its broker, and the archive that it answers to."""

    broker: Broker
    daemon: Daemon
    archive: Peer
    spare: list[Path]

    def ask(self, query: str) -> list[tuple[object, ...]]:
        """Return what the ledger says."""
        return asked(self.daemon.config, query)

    @property
    def messages(self) -> Messages:
        """Return the broker as a stranger uses it."""
        return Messages(application(Place(url=self.broker.url, longest=timedelta(minutes=5))))

    def foremen(self) -> list[psutil.Process]:
        """Return the process of `overread work`, where it runs; the processes that work are below it."""
        found = []
        for part in psutil.Process(self.daemon.process.pid).children():
            with suppress(psutil.NoSuchProcess):
                found += [part] if "work" in part.cmdline() else []
        return found


def lose_broker(site: Site) -> int:
    """Take the broker away for some seconds; return how often."""
    site.broker.kill()
    time.sleep(5)
    site.broker.start()
    return 1


def restart_broker(site: Site) -> int:
    """End the broker at once and start it again."""
    site.broker.kill()
    site.broker.start()
    return 1


def kill_worker(site: Site) -> int:
    """Kill a process that has a job in hand, where one shows within some time."""
    _send(site.spare.pop(), site.daemon.port)
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        for (name,) in site.ask("SELECT worker FROM jobs WHERE state = 'IN PROGRESS'"):
            with suppress(ProcessLookupError):
                os.kill(int(str(name).rpartition("-")[2]), signal.SIGKILL)
                return 1
        time.sleep(0.02)
    return 0


def kill_foreman(site: Site) -> int:
    """Kill the process that takes messages; what it had in hand is given out anew."""
    for process in site.foremen():
        process.kill()
        return 1
    return 0


def double_messages(site: Site) -> int:
    """Send messages about every job again, whatever became of it; return how many."""
    wait_until(lambda: bool(site.ask("SELECT id FROM jobs")), 120, "a job")
    hints = [Hint(job_id=int(str(n)), resource=Resource.CPU) for (n,) in site.ask("SELECT id FROM jobs")] * COPIES
    site.messages.publish(hints)
    wait_until(lambda: not site.messages.depths()[Resource.CPU].messages, SETTLE_SECONDS, "the messages to be taken")
    return len(hints)


def lose_messages(site: Site) -> int:
    """Hold the workers until messages wait, and lose those; return how many."""
    wait_until(lambda: bool(site.foremen()), 120, "a process that takes messages")
    held = site.foremen()
    for process in held:
        process.suspend()
    for _ in range(HELD_BACK):
        _send(site.spare.pop(), site.daemon.port)
    wait_until(lambda: bool(site.messages.depths()[Resource.CPU].messages), 120, "messages that wait")
    count = site.broker.purge()
    for process in held:
        with suppress(psutil.NoSuchProcess):
            process.resume()
    return count


FAULTS: Mapping[str, Callable[[Site], int]] = {
    "broker lost": lose_broker,
    "broker restarted": restart_broker,
    "workers killed at a job": kill_worker,
    "takers of messages killed": kill_foreman,
    "messages doubled": double_messages,
    "messages lost": lose_messages,
}


@contextmanager
def site(broker: Broker, folder: Path, spare: list[Path]) -> Iterator[Site]:
    """Run a daemon with a tiny model, two worker processes and a PACS."""
    make_tiny_bundle(folder / "models" / "brain-mri" / "0.0.1")
    port = free_port()
    with orthanc(folder / "pacs", known={"OVERREAD": port}, http=True) as archive:
        keys = {"executor": '"celery"', "broker_url": f'"{broker.url}"', "republish_seconds": "3", "recycle_jobs": "5"}
        init(folder / "site", port, archive, report_wait_seconds="3", workers="2", threads="1", **keys)
        with serving(folder / "site", port, {"OVERREAD_INFERENCE__MODELS": str(folder / "models")}) as daemon:
            yield Site(broker=broker, daemon=daemon, archive=archive, spare=spare)


def torture(kind: str, rounds: int, studies: int, folder: Path) -> Figures:
    """Let each fault befall a daemon `rounds` times, in any order, while it reads `studies` studies."""
    folder.mkdir()
    made = _studies(folder, studies + (HELD_BACK + 1) * rounds)
    pushed, spare = list(made.values())[:studies], list(made.values())[studies:]
    order = random.Random(1).sample([*FAULTS] * rounds, len(FAULTS) * rounds)  # noqa: S311 - an order, not a secret
    figures = Figures(broker=kind, studies=len(made))
    with BROKERS[kind](folder / "broker") as broker, site(broker, folder, spare) as place:
        pusher = threading.Thread(
            target=_push, args=(pushed, place.daemon.port, len(order)), name="pusher", daemon=True
        )
        pusher.start()
        for name in order:
            figures.befell[name] += FAULTS[name](place)
            time.sleep(1)
        pusher.join()
        wait_until(
            lambda: counted(place.daemon.config, "deliveries", "CONFIRMED") == 2 * len(made),
            SETTLE_SECONDS,
            "all results",
        )
        figures.messages = {str(name): int(str(count)) for name, count in place.ask("SELECT name, count FROM tallies")}
        return _count(made, place, figures)


def _studies(folder: Path, count: int) -> dict[str, Path]:
    """Write copies of one small study, each with UIDs of its own; return their folders by Study Instance UID."""
    spacing = (8.0, 6.0, 6.0)
    layout = Layout(spacing=spacing, matrix=(32, 32))
    study = make_brain_mri(StudyRequest(seed=3, spacing=spacing, layout=layout), folder / "study")
    slices = [dcmread(path) for paths in study.series.values() for path in paths]
    made = {}
    for number in range(count):
        uids = {uid: generate_uid(entropy_srcs=[uid, str(number)]) for uid in _uids(slices)}
        place = folder / f"study{number}"
        place.mkdir()
        for index, dataset in enumerate(slices):
            one = copy.deepcopy(dataset)
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                setattr(one, keyword, uids[getattr(dataset, keyword)])
            one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
            one.save_as(place / f"{index}.dcm", enforce_file_format=True)
        made[str(uids[study.study_instance_uid])] = place
    return made


def _uids(slices: Sequence[Dataset]) -> set[str]:
    return {str(uid) for s in slices for uid in (s.StudyInstanceUID, s.SeriesInstanceUID, s.SOPInstanceUID)}


def _send(study: Path, port: int) -> None:
    while storescu(port, [study], quiet=True).returncode != 0:
        time.sleep(0.2)


def _push(studies: Sequence[Path], port: int, turns: int) -> None:
    for number, study in enumerate(studies):
        _send(study, port)
        time.sleep(5 * turns / len(studies) * (number % 2))


def _count(studies: Mapping[str, Path], place: Site, figures: Figures) -> Figures:
    for uid in studies:
        found = {kind: len(ids) for kind, ids in results(place.archive, uid).items()}
        jobs = place.ask(f"SELECT count(*) FROM jobs WHERE study_uid = '{uid}' AND state = 'COMPLETED'")  # noqa: S608
        if found == {"SEG": 1, "SR": 1} and jobs == [(1,)]:
            figures.answered_once += 1
        else:
            figures.wrong[uid] = found
    return figures


def main() -> None:
    """Run and print; exit 1 where a study was not answered exactly once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--broker", choices=[*BROKERS], action="append")
    chosen = parser.parse_args()
    well = True
    for kind in chosen.broker or BROKERS:
        with tempfile.TemporaryDirectory(prefix="overread-broker-") as folder:
            figures = torture(kind, chosen.rounds, chosen.studies, Path(folder) / kind)
        print(figures, flush=True)  # noqa: T201 - this is what it is for
        well = well and figures.kept
    raise SystemExit(not well)


if __name__ == "__main__":
    main()
