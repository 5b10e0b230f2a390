"""`python -m benchmarks.answer`: last instance pushed to SEG and SR stored in a real PACS, p50 and p95 over studies.

Beneath it where the time went, as the ledger has it: medians of each step, in seconds.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from benchmarks.percentiles import percentile
from benchmarks.studies import KINDS
from daemon.ledger.engine import reading
from daemon.ledger.tables import DeliveryRow, JobRow, OutputRow, StudyRow, TransitionRow
from demo.ports import free_port
from dicom_fixtures.studies import StudyRequest, StudyTruth
from tests.daemons import init, ledger, results, serving
from tests.peers import Peer, orthanc, storescu, wait_until

QUIET_SECONDS = 2.0


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=8)
    parser.add_argument("--only", default="", help="studies whose name has this in it")
    options = parser.parse_args()
    count = options.studies
    print(f"seconds from the last instance to SEG and SR in Orthanc, quiet time {QUIET_SECONDS:.0f} s taken off")
    print("| study | n | p50 | p95 |\n|---|---|---|---|")
    for name, make in ((name, make) for name, make in KINDS.items() if options.only in name):
        with tempfile.TemporaryDirectory(prefix="overread-bench-") as folder:
            made = [make(StudyRequest(seed=11, salt=f"b{n}"), Path(folder) / str(n)) for n in range(count + 1)]
            taken, splits = _measure(made, Path(folder))
        seconds = sorted(taken)
        at95 = percentile(seconds, 0.95)
        print(f"| {name} | {count} | {statistics.median(seconds):.2f} | {at95:.2f} |", flush=True)
        parts = {step: statistics.median(split[step] for split in splits) for step in splits[0]}
        print(f"({', '.join(f'{step} {part:.2f}' for step, part in parts.items())})", flush=True)


def _measure(studies: list[StudyTruth], folder: Path) -> tuple[list[float], list[Mapping[str, float]]]:
    port = free_port()
    with orthanc(folder / "pacs", known={"OVERREAD": port}, http=True) as archive:
        init(folder / "site", port, archive, quiet_seconds=str(QUIET_SECONDS))
        with serving(folder / "site", port):
            seconds = [_one(study, archive, port) for study in studies]
    # The first study pays for what is loaded when first used.
    return seconds[1:], [_split(folder / "site" / "overread.toml", study) for study in studies[1:]]


def _one(study: StudyTruth, archive: Peer, port: int) -> float:
    """Return seconds for one study."""
    pushed = storescu(port, [study.folder])
    if pushed.returncode != 0:
        raise RuntimeError(f"storescu failed: {json.dumps(pushed.stdout[-500:])}")
    started = time.perf_counter()
    wait_until(lambda: _complete(archive, study.study_instance_uid), 300, "results")
    return max(time.perf_counter() - started - QUIET_SECONDS, 0.0)


def _complete(archive: Peer, study: str) -> bool:
    found = results(archive, study)
    return bool(found["SEG"] and found["SR"])


def _split(config: Path, study: StudyTruth) -> Mapping[str, float]:
    """Return the seconds of each step of a study, by what the ledger notes; the PACS confirms after it has both."""
    with ledger(config) as engine, reading(engine) as session:
        last = session.get_one(StudyRow, study.study_instance_uid).last_at
        job = session.scalars(select(JobRow).where(JobRow.study_uid == study.study_instance_uid)).one()
        outputs = select(OutputRow.id).where(OutputRow.job_id == job.id)
        deliveries = session.scalars(select(DeliveryRow.id).where(DeliveryRow.output_id.in_(outputs))).all()

        def last_time(subject: str, ids: list[int], state: str) -> datetime:
            mine = (TransitionRow.subject == subject, TransitionRow.subject_id.in_(ids), TransitionRow.new == state)
            return session.scalars(select(TransitionRow.at).where(*mine).order_by(TransitionRow.at)).all()[-1]

        claimed, done = (last_time("job", [job.id], state) for state in ("IN PROGRESS", "COMPLETED"))
        sent = last_time("delivery", list(deliveries), "SENT")
        work, created = dict(job.seconds), job.created_at
    ready = last + timedelta(seconds=QUIET_SECONDS)
    moments = {"seen": created - ready, "claimed": claimed - created, "worked on": done - claimed, "sent": sent - done}
    around = {step: span.total_seconds() for step, span in moments.items()}
    return {**around, **work, "other work": around["worked on"] - sum(work.values())}


if __name__ == "__main__":
    main()
