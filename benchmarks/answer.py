"""`python -m benchmarks.answer`: last instance pushed to SEG and SR stored in a real PACS, p50 and p95 over studies."""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.percentiles import percentile
from benchmarks.studies import KINDS
from demo.ports import free_port
from dicom_fixtures.studies import StudyRequest, StudyTruth
from tests.daemons import init, results, serving
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
            seconds = sorted(_measure(made, Path(folder)))
        at95 = percentile(seconds, 0.95)
        print(f"| {name} | {count} | {statistics.median(seconds):.2f} | {at95:.2f} |", flush=True)


def _measure(studies: list[StudyTruth], folder: Path) -> list[float]:
    port = free_port()
    with orthanc(folder / "pacs", known={"OVERREAD": port}, http=True) as archive:
        init(folder / "site", port, archive, quiet_seconds=str(QUIET_SECONDS))
        with serving(folder / "site", port):
            seconds = [_one(study, archive, port) for study in studies]
    # The first study pays for loading the model.
    return seconds[1:]


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


if __name__ == "__main__":
    main()
