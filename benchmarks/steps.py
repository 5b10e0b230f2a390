"""Where the time of an answer goes: CPU seconds of each step in a worker that is warm, and its peak memory.

Run as `python -m benchmarks.steps [--rounds 3]`; each study is read in a process of its own. CPU seconds are of all
threads, of which only inference uses two.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.studies import fine_head, whole_body
from daemon.config import bundled_models
from daemon.domain.model_bundle import InstalledBundle
from daemon.imaging.facts import Stored, read_facts
from daemon.inference.bundle import needed
from daemon.inference.reader import BundleReader
from daemon.services.analyse import Task, analyse
from dicom_fixtures.studies import StudyRequest

STUDIES = {
    "brain MRI, 186 slices of 256 x 256": ("brain-mri", fine_head),
    "PET/CT, 333 of 200 x 200 + 333 of 512 x 512": ("petct", whole_body),
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="Read the study in this folder with --model, and print JSON.")
    parser.add_argument("--model", default="")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(spent(Path(options.only), options.model, options.rounds)))
        return
    steps = ("read", "prepare", "infer", "measure", "encode")
    print(f"CPU seconds, medians of {options.rounds}, load {os.getloadavg()[0]:.1f}\n")
    print(f"| study | {' | '.join(steps)} | all | peak MB |\n|{'---|' * (len(steps) + 3)}")
    for name, (model, make) in STUDIES.items():
        with tempfile.TemporaryDirectory(prefix="overread-steps-") as folder:
            made = make(StudyRequest(seed=11), Path(folder))
            command = [sys.executable, "-m", "benchmarks.steps", "--only", str(made.folder), "--model", model]
            told = subprocess.run(
                [*command, "--rounds", str(options.rounds)], check=True, stdout=subprocess.PIPE, text=True
            )
        found = json.loads(told.stdout)
        parts = [found[step] for step in steps]
        print(f"| {name} | {' | '.join(f'{p:.2f}' for p in (*parts, sum(parts)))} | {found['peak']:.0f} |", flush=True)


def spent(folder: Path, model: str, rounds: int) -> Mapping[str, float]:
    """Return the CPU seconds of each step, and the peak memory in MB; a first round is not counted."""
    time.perf_counter = time.process_time  # what the steps measure themselves by
    reader = BundleReader(needed(bundled_models()), threads=2)
    reader.warm()
    task = _task(folder, next(b for b in reader.bundles() if b.ref.name == model))
    taken = [analyse(task, reader).seconds for _ in range(rounds + 1)][1:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**{step: statistics.median(one[step] for one in taken) for step in taken[0]}, "peak": peak}


def _task(folder: Path, bundle: InstalledBundle) -> Task:
    names = {"FLAIR": "MR", "PET": "PET", "CT": "CT"}
    paths = {names[one.name]: sorted(one.iterdir()) for one in folder.iterdir()}
    stored = Stored(digest="", size=0, received_at=datetime.now(tz=UTC), patient_salt=b"")
    first = read_facts(next(iter(paths.values()))[0], stored)
    return Task(
        job_key="0" * 64,
        study_instance_uid=first.study_instance_uid,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        paths=paths,
        bundle=bundle,
        software_version="0",
    )


if __name__ == "__main__":
    main()
