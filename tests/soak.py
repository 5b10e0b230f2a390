"""`python -m tests.soak`: small studies on many associations at once, to a PACS that fails at random, for a long time.

Writes memory, handles and latency over time as `soak.csv` and `soak.png`, and says of each whether it is flat: whether
its slope (Theil-Sen) after the first third of the run makes it grow over the rest by less than `GROWTH` of its median,
or by less than its `NOISE`. Latency is judged by the moments in which nobody else used more than `QUIET` of a core,
where half of them after that third were so. The model is a tiny one: what is watched is the house around it.
"""

import argparse
import csv
import itertools
import random
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import psutil

from daemon.config import load
from demo.ports import free_port
from dicom_fixtures.planes import Layout
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_brain_mri
from tests.daemons import Daemon, init, serving
from tests.peers import orthanc, storescu
from tests.tiny_bundle import make_tiny_bundle
from tests.wires import Fault, Wire, wire

mpl.use("Agg")
from matplotlib import pyplot as plt

SAMPLE_SECONDS = 5.0
GROWTH = 0.05
NOISE = {"memory_mb": 16.0, "handles": 8.0, "latency_s": 1.0}
GRACE = 300.0  # seconds for the last results to be confirmed by a PACS that fails
QUIET = 0.3  # cores
BACKLOG = 40  # studies that wait for their answer, at most
SPACING = (8.0, 6.0, 6.0)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long, how many studies, and on how many associations at once: a burst of `lines` studies in even turns."""

    minutes: float
    studies: int
    lines: int

    def due(self, number: int) -> float:
        """Return when study `number` (from 1) is pushed, in seconds from the start."""
        return (number - 1) // self.lines * self.lines * self.minutes * 60 / self.studies


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The daemon at one moment: all its processes' memory (MB) and handles, and what it had done by then.

    `latency_s` is the median time from job to result of those that were completed since the sample before; `others` how
    many cores were used meanwhile by what is not of this run.
    """

    seconds: float
    memory_mb: float
    handles: float
    pushed: int
    completed: int
    confirmed: int
    waiting: int
    latency_s: float
    others: float


class Push:
    """Pushes copies of one study, each with UIDs of its own, on several associations at once."""

    def __init__(self, study: StudyTruth, port: int, folder: Path) -> None:
        self._files = [path.read_bytes() for paths in study.series.values() for path in paths]
        self._uids = [study.study_instance_uid.encode(), *(uid.encode() for uid in study.series_uids.values())]
        self._numbers = itertools.count(1)
        self._port, self._folder = port, folder
        self.done = self.answered = 0

    def run(self, plan: Plan, stop: threading.Event) -> list[threading.Thread]:
        """Start pushing; return the threads."""
        started = time.monotonic()
        threads = [threading.Thread(target=self._push, args=(plan, started, stop)) for _ in range(plan.lines)]
        for thread in threads:
            thread.start()
        return threads

    def _push(self, plan: Plan, started: float, stop: threading.Event) -> None:
        while not stop.is_set() and (number := next(self._numbers)) <= plan.studies:
            stop.wait(started + plan.due(number) - time.monotonic())
            # A queue that only grows would show in the latency, and say nothing of the daemon.
            while number - self.answered > BACKLOG and not stop.wait(0.2):
                pass
            folder = self._folder / str(number)
            folder.mkdir()
            for index, content in enumerate(self._files):
                (folder / f"{index}.dcm").write_bytes(self._renamed(content, number, index))
            while not stop.is_set() and storescu(self._port, [folder], quiet=True).returncode != 0:
                stop.wait(0.5)
            shutil.rmtree(folder)
            self.done += 1

    def _renamed(self, content: bytes, number: int, index: int) -> bytes:
        """Give study, series and instance UIDs of the same length, so that no length in the file changes."""
        start = content.index(b"\x08\x00\x18\x00UI") + 8
        instance = content[start : start + content[start - 2]].rstrip(b"\0")
        for uid in self._uids:
            content = content.replace(uid, uid[:-6] + b"%06d" % number)
        return content.replace(instance, instance[:-9] + b"%06d%03d" % (number, index))


def soak(plan: Plan, folder: Path) -> list[Sample]:
    """Push what is planned to a daemon whose PACS fails now and then; return a sample every 5 s."""
    make_tiny_bundle(folder / "models" / "brain-mri" / "0.0.1")
    layout = Layout(spacing=SPACING, matrix=(32, 32))
    study = make_brain_mri(StudyRequest(seed=3, spacing=SPACING, layout=layout), folder / "study")
    port, site, stop = free_port(), folder / "site", threading.Event()
    with orthanc(folder / "pacs", known={"OVERREAD": port}) as archive, wire(archive.port) as outward:
        init(site, port, replace(archive, port=outward.port), report_wait_seconds="3")
        models = {"OVERREAD_INFERENCE__MODELS": str(folder / "models")}
        (folder / "outgoing").mkdir()
        with serving(site, port, models) as daemon:
            push = Push(study, port, folder / "outgoing")
            threads = [*push.run(plan, stop), threading.Thread(target=_disturb, args=(outward, stop))]
            threads[-1].start()
            samples = list(_watched(daemon, push, plan))
            stop.set()
            for thread in threads:
                thread.join()
    return samples


def _disturb(line: Wire, stop: threading.Event) -> None:
    rng = random.Random(1)  # noqa: S311 - moments, not secrets
    while not stop.wait(rng.uniform(2, 20)):
        line.plan(rng.choice(list(Fault)), after=rng.randrange(50_000))
        stop.wait(rng.uniform(0.5, 5))
        line.mend()


def _watched(daemon: Daemon, push: Push, plan: Plan) -> Iterator[Sample]:
    """Yield samples until all that was to be pushed is confirmed, or the time and `GRACE` are over."""
    started, since = time.monotonic(), ""
    url = load(daemon.config).database_url().removeprefix("sqlite:///")
    parts, load_by = psutil.Process(daemon.process.pid), Load()
    while (now := time.monotonic() - started) < plan.minutes * 60 + GRACE:
        time.sleep(SAMPLE_SECONDS)
        with closing(sqlite3.connect(f"file:{url}?mode=ro", uri=True, timeout=30)) as ledger:
            jobs = ledger.execute("SELECT created_at, finished_at FROM jobs WHERE state = 'COMPLETED'").fetchall()
            states = dict(ledger.execute("SELECT state, count(*) FROM deliveries GROUP BY state").fetchall())
        confirmed = states.pop("CONFIRMED", 0)
        waits = [_seconds(*job) for job in jobs if job[1] > since]
        push.answered = len(jobs)
        since = max((job[1] for job in jobs), default="")
        yield Sample(
            seconds=round(now, 1),
            **_used([parts, *parts.children(recursive=True)]),
            pushed=push.done,
            completed=len(jobs),
            confirmed=confirmed,
            waiting=sum(states.values()),
            latency_s=float(np.median(waits)) if waits else float("nan"),
            others=load_by.others(),
        )
        if push.done >= plan.studies and len(jobs) >= plan.studies and not sum(states.values()):
            return


class Load:
    """Who uses the machine."""

    def __init__(self) -> None:
        self._since, self._all, self._ours = time.monotonic(), _busy(), _own()

    def others(self) -> float:
        """Return how many cores all but this process and its descendants used since the last call."""
        before = self._since, self._all, self._ours
        self._since, self._all, self._ours = time.monotonic(), _busy(), _own()
        used = (self._all - before[1]) - (self._ours - before[2])
        return round(max(used, 0.0) / (self._since - before[0]), 2)


def _busy() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _own() -> float:
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _used(processes: Iterable[psutil.Process]) -> dict[str, float]:
    memory, handles = 0, 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            memory += process.memory_info().rss
            handles += process.num_fds()
    return {"memory_mb": round(memory / 1e6, 1), "handles": handles}


def _seconds(created: str, finished: str) -> float:
    return float((np.datetime64(finished) - np.datetime64(created)) / np.timedelta64(1, "s"))


def flat(seconds: Sequence[float], values: Sequence[float], noise: float) -> tuple[bool, float]:
    """Return whether `values` over time are flat, and by how much they grew after the first third of the run."""
    known = [(t, v) for t, v in zip(seconds, values, strict=True) if t >= seconds[-1] / 3 and not np.isnan(v)]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(known[:: len(known) // 500 + 1], 2)]
    if not slopes:
        return False, float("nan")
    grown = float(np.median(slopes)) * (known[-1][0] - known[0][0])
    return grown < max(noise, GROWTH * float(np.median([v for _, v in known]))), grown


def judged(samples: Sequence[Sample], name: str) -> list[float]:
    """Return a measure over time; of latency what others' work says nothing about, nothing where that is too little."""
    values = [float(getattr(sample, name)) for sample in samples]
    if name != "latency_s":
        return values
    quiet = [sample.others <= QUIET for sample in samples]
    warm = quiet[len(quiet) // 3 :]
    if sum(warm) < len(warm) / 2:
        return [float("nan")] * len(values)
    return [value if alone else float("nan") for value, alone in zip(values, quiet, strict=True)]


def report(samples: Sequence[Sample], out: Path) -> bool:
    """Write table and picture, print the verdicts; return whether all is flat and every result is confirmed."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "soak.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(samples[0])))
        writer.writeheader()
        writer.writerows(map(asdict, samples))
    seconds = [sample.seconds for sample in samples]
    figure, axes = plt.subplots(len(NOISE), sharex=True, figsize=(8, 8), layout="constrained")
    verdicts = []
    for axis, (name, noise) in zip(axes, NOISE.items(), strict=True):
        values = [float(getattr(sample, name)) for sample in samples]
        fine, grown = flat(seconds, judged(samples, name), noise)
        verdicts.append(fine)
        axis.plot(np.array(seconds) / 60, values)
        axis.set_ylabel(name)
        print(f"{name:<12} median {np.nanmedian(values):9.1f}, grew by {grown:+8.1f}: {'flat' if fine else 'NOT FLAT'}")  # noqa: T201
    axes[-1].set_xlabel("minutes")
    figure.savefig(out / "soak.png", dpi=120)
    warm = samples[len(samples) // 3 :]
    busy = sum(sample.others > QUIET for sample in warm)
    print(f"others used over {QUIET} cores in {busy} of {len(warm)} samples after the first third; latency skips those")  # noqa: T201
    last = samples[-1]
    print(f"pushed {last.pushed}, completed {last.completed}, confirmed {last.confirmed}, waiting {last.waiting}")  # noqa: T201
    return all(verdicts) and last.completed == last.pushed and not last.waiting


def main() -> None:
    """Soak, write, say; exit 1 where something grows or a result is not confirmed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--lines", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overread-soak-") as folder:
        plan = Plan(minutes=chosen.minutes, studies=chosen.studies, lines=chosen.lines)
        samples = soak(plan, Path(folder))
    raise SystemExit(not report(samples, chosen.out))


if __name__ == "__main__":
    main()
