"""How long the console's pages take with a large ledger.

Run as `python -m benchmarks.console [--studies 100000] [--rounds 40] [--ledger sqlite|postgresql]`.
The console runs as a process of its own and is asked by HTTP on one connection, page after page in turn. The ledger
holds studies of 90 days, each of a few instances with a job, two outputs, their deliveries and all their steps; and one
PET/CT whose files are there, of which a console that has just started is asked for the page and its first slice.
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Connection, insert

from benchmarks.percentiles import percentile
from daemon.bootstrap import House
from daemon.config import bundled_models
from daemon.domain.finding import Answer, Estimate, Findings, Lesion, RiskClass, Uncertainty
from daemon.inference.bundle import installed
from daemon.ledger.rows import findings_json
from daemon.ledger.tables import Base, DeliveryRow, InstanceRow, JobRow, OutputRow, ScoreRow, StudyRow, TransitionRow
from tests.consoles import PASSWORD, configured
from tests.holdings import filled
from tests.ledgers import DATABASES, ledger
from tests.peers import wait_until

ROOT = "1.2.826.0.1.3680043.8.498."
DAYS, BATCH, INSTANCES = 90, 1000, 5
PACS = '[[destination]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 1\n'
# The installed bundle's, so that its drift is worked out.
DIGEST = next(b.ref.digest for b in installed(bundled_models()) if b.ref.name == "brain-mri")
# Shares of a hundred studies.
FAILED, REFUSED, DEAD = 4, 3, 1
# Numbers below are those that the ledger gave by itself.
_FIRST = 1000
Rows = dict[type[Base], list[dict[str, Any]]]
TABLES = (StudyRow, InstanceRow, JobRow, ScoreRow, OutputRow, DeliveryRow, TransitionRow)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--ledger", choices=DATABASES, default=DATABASES[0])
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="overread-console-") as folder,
        ledger(options.ledger, Path(folder)) as kept,
    ):
        house = configured(Path(folder), f'{PACS}[data]\nledger_url = "{kept.url}"\n')
        study = filled(house, Path(folder) / "study", spacing=(4.0, 4.0, 4.0), ct_spacing=(4.0, 1.5, 1.5)).study
        began = time.perf_counter()
        fill(house, options.studies)
        print(f"{options.studies} studies in {options.ledger}, made in {time.perf_counter() - began:.0f} s\n")
        slices = sorted(first_slice(house, Path(folder), study) for _ in range(5))
        print(f"page and first slice of a PET over its CT: {', '.join(f'{ms:.0f}' for ms in slices)} ms\n")
        with served(house, Path(folder)) as browser:
            print("| page | p50 ms | p95 ms |\n|---|---|---|")
            for path, taken in measured(browser, pages(options.studies), options.rounds).items():
                at95 = percentile(taken, 0.95)
                print(f"| `{path}` | {statistics.median(taken):.1f} | {at95:.1f} |")


def first_slice(house: House, folder: Path, study: str) -> float:
    """Return the milliseconds from the click on a study to its first slice, of a console that has just started."""
    with served(house, folder) as browser:
        began = time.perf_counter()
        source = browser.get(f"/studies/{study}").text.partition('<img src="')[2].partition('"')[0]
        answer = browser.get(source.replace("&amp;", "&"))
        if answer.headers.get("Content-Type") != "image/png":
            raise SystemExit(f"{source} answered {answer.status_code}")
        return (time.perf_counter() - began) * 1000


def pages(studies: int) -> list[str]:
    """Return what is asked for."""
    middle = f"{_at(studies, studies // 2).isoformat().replace('+', '%2B')}~{ROOT}{studies // 2}"
    return [
        "/",
        "/live/now",
        "/studies",
        f"/studies?after={middle}",
        f"/studies?uid={ROOT}777",
        f"/studies?uid={ROOT}&state=FAILED",
        "/studies?state=IN+PROGRESS",
        "/studies?state=refused",
        f"/studies/{ROOT}{studies // 2 + 50}",
        "/deliveries",
        "/models",
        "/destinations",
        "/settings",
        "/audit",
        "/readyz",
        "/metrics",
    ]


def measured(browser: httpx.Client, paths: list[str], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each page, ordered; a first round is not counted."""
    taken: dict[str, list[float]] = {path: [] for path in paths}
    for number in range(rounds + 1):
        for path in paths:
            began = time.perf_counter()
            answer = browser.get(path)
            seconds = time.perf_counter() - began
            if answer.status_code not in (200, 503):
                raise SystemExit(f"{path} answered {answer.status_code}")
            if number:
                taken[path].append(seconds * 1000)
    return {path: sorted(found) for path, found in taken.items()}


@contextmanager
def served(house: House, folder: Path) -> Iterator[httpx.Client]:
    """Run the console as a process, and yield a browser that is logged in."""
    section = house.settings.web
    command = [sys.executable, "-m", "daemon", "web", "--config", str(folder)]
    url = f"http://{section.host}:{section.port}"
    with subprocess.Popen(command) as process, httpx.Client(base_url=url, timeout=60, trust_env=False) as browser:
        try:
            wait_until(lambda: _lives(url), 60, "the console")
            browser.post("/login", data={"name": "ada", "password": PASSWORD})
            yield browser
        finally:
            process.terminate()


def _lives(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def fill(house: House, studies: int) -> None:
    """Write the ledger."""
    chosen = random.Random(11)  # noqa: S311 - the same ledger each time
    with house.engine.begin() as connection:
        for start in range(0, studies, BATCH):
            rows: Rows = {table: [] for table in TABLES}
            for number in range(start, min(start + BATCH, studies)):
                _study(rows, number, _at(studies, number), chosen.randrange(100))
            _write(connection, rows)


def _write(connection: Connection, rows: Rows) -> None:
    for table, found in rows.items():
        if found:
            connection.execute(insert(table), found)


def _at(studies: int, number: int) -> datetime:
    """Return when a study came: evenly over the days, the last one just now."""
    return datetime.now(tz=UTC).replace(microsecond=0) - timedelta(days=DAYS) * (1 - (number + 1) / studies)


def _study(rows: Rows, number: int, at: datetime, fate: int) -> None:
    uid, last = f"{ROOT}{number}", at + timedelta(seconds=20)
    refused = fate < REFUSED
    rows[StudyRow].append({
        "uid": uid, "first_at": at, "last_at": last, "instances": INSTANCES, "dirty": False, "verdict": "complete",
        "evidence": "every slice of one run, no open association", "refusal": "wrong-body-part" if refused else "",
    })  # fmt: skip
    rows[InstanceRow] += [
        {
            "sop_instance_uid": f"{uid}.1.{n}", "digest": f"{number:060}{n:04}", "study_uid": uid,
            "series_uid": f"{uid}.1", "size": 500_000, "conflict": False, "freed": False, "association": "a",
            "received_at": at, "facts": {"acquisition": {"modality": "MR"}},
        }
        for n in range(INSTANCES)
    ]  # fmt: skip
    if not refused:
        _job(rows, number, last, fate)


def _job(rows: Rows, number: int, last: datetime, fate: int) -> None:
    failed = fate < REFUSED + FAILED
    job, made, done = number + _FIRST, last + timedelta(seconds=30), last + timedelta(seconds=35)
    rows[JobRow].append({
        "id": job, "key": f"{job:064}", "study_uid": f"{ROOT}{number}", "bundle": "brain-mri",
        "bundle_version": "1.0.0", "bundle_digest": DIGEST, "series": {"MR": "1"}, "digests": ["d" * 64] * INSTANCES,
        "state": "FAILED" if failed else "COMPLETED", "reason": "missing-slices" if failed else "",
        "detail": "a gap of 12 mm" if failed else "", "created_at": made, "not_before": made, "finished_at": done,
        "findings": {} if failed else FOUND, "answer": "" if failed else Answer.LIKELY.value, "seconds": {"read": 2.0},
    })  # fmt: skip
    if not failed:
        rows[ScoreRow].append({
            "job_id": job, "bundle_digest": DIGEST, "probability": number % 1000 / 1000, "risk": 0.0,
            "volume_ml": 6.0, "entropy": 0.2, "novelty": 0.5,
        })  # fmt: skip
    for old, new, at in (
        ("", "SCHEDULED", made),
        ("SCHEDULED", "IN PROGRESS", made),
        ("IN PROGRESS", "COMPLETED", done),
    ):
        _step(rows, "job", job, (old, new), at)
    for n, kind in enumerate(() if failed else ("SEG", "SR")):
        output, dead = 2 * job + n, fate >= 100 - DEAD
        rows[OutputRow].append({
            "id": output, "job_id": job, "kind": kind, "sop_class_uid": "1",
            "sop_instance_uid": f"{ROOT}{number}.9.{n}", "series_uid": f"{ROOT}{number}.9", "digest": "d" * 64,
            "size": 20_000,
        })  # fmt: skip
        rows[DeliveryRow].append({
            "id": output, "output_id": output, "destination": "pacs", "state": "DEAD" if dead else "CONFIRMED",
            "attempts": 1, "created_at": done, "due_at": done, "sent_at": done + timedelta(seconds=1),
            "confirmed_at": done, "detail": "no association" if dead else "storage commitment",
        })  # fmt: skip
        _step(rows, "delivery", output, ("PENDING", "SENT"), done)
        _step(rows, "delivery", output, ("SENT", "CONFIRMED"), done)


def _step(rows: Rows, subject: str, number: int, change: tuple[str, str], at: datetime) -> None:
    old, new = change
    rows[TransitionRow].append({
        "at": at, "subject": subject, "subject_id": number, "old": old, "new": new, "detail": "benchmark",
    })  # fmt: skip


def _found() -> dict[str, Any]:
    half = Estimate(mean=0.5, sd=0.1)
    lesion = Lesion(
        number=1, volume_ml=3.0, volume_sd_ml=0.5, longest_mm=18.0, centre_mm=(0.0, 0.0, 0.0),
        bounds_mm=((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), slices=(3, 9), key_slice=6, probability=0.9,
    )  # fmt: skip
    found = Findings(
        answer=Answer.LIKELY, tumour_probability=half, survival_risk=half, risk_class=RiskClass.MODERATE,
        survival={1: half, 2: half, 5: half}, uncertainty=Uncertainty(score=0.2, flag=False),
        lesions=(lesion, lesion), passes=30, seed=1,
    )  # fmt: skip
    return findings_json(found)


FOUND = _found()

if __name__ == "__main__":
    main()
