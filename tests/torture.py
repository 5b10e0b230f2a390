"""`python -m tests.torture`: kill -9 of the whole daemon at random moments while studies are pushed with retry.

Prints what was acknowledged, lost, duplicated, and how many studies ended with exactly one SEG and one SR in the PACS.
"""

import argparse
import random
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from dicom_fixtures.studies import StudyRequest, StudyTruth, make_petct
from tests.daemons import counted, init, kill, results, serving
from tests.peers import Peer, free_port, orthanc, storescu, wait_until

SETTLE_SECONDS = 300.0


@dataclass(kw_only=True)
class Figures:
    """What the torture showed."""

    kills: int = 0
    studies: int = 0
    instances: int = 0
    lost: int = 0
    answered_once: int = 0
    wrong: dict[str, dict[str, int]] = field(default_factory=dict)


def torture(kills: int, studies: int, seed: int, folder: Path) -> Figures:
    """Push `studies` studies, kill the daemon `kills` times meanwhile and after, let it settle, count."""
    rng = random.Random(seed)  # noqa: S311 - moments, not secrets
    made = [make_petct(StudyRequest(seed=7, salt=f"t{n}"), folder / f"study{n}") for n in range(studies)]
    port = free_port()
    with orthanc(folder / "pacs", known={"OVERREAD": port}, http=True) as archive:
        config = init(folder / "site", port, archive, report_wait_seconds="3")
        pusher = threading.Thread(target=_push_all, args=(made, port), name="pusher")
        pusher.start()
        for _ in range(kills):
            with serving(folder / "site", port) as daemon:
                time.sleep(rng.uniform(0.2, 4.0))
                kill(daemon.process)
        with serving(folder / "site", port):
            pusher.join()
            wait_until(lambda: counted(config, "deliveries", "CONFIRMED") == 2 * studies, SETTLE_SECONDS, "all results")
        return _count(made, archive, config, kills)


def _push_all(studies: list[StudyTruth], port: int) -> None:
    for study in studies:
        while storescu(port, [study.folder]).returncode != 0:
            time.sleep(0.2)


def _count(studies: list[StudyTruth], archive: Peer, config: Path, kills: int) -> Figures:
    expected = sum(len(paths) for study in studies for paths in study.series.values())
    figures = Figures(kills=kills, studies=len(studies), instances=expected)
    figures.lost = expected - counted(config, "instances", "stored")
    for study in studies:
        found = {kind: len(ids) for kind, ids in results(archive, study.study_instance_uid).items()}
        if found == {"SEG": 1, "SR": 1}:
            figures.answered_once += 1
        else:
            figures.wrong[study.study_instance_uid] = found
    return figures


def main() -> None:
    """Run and print; exit 1 where a figure is not what was promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--studies", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overread-torture-") as folder:
        figures = torture(chosen.kills, chosen.studies, chosen.seed, Path(folder))
    print(figures)  # noqa: T201 - this is what it is for
    raise SystemExit(figures.lost != 0 or figures.answered_once != figures.studies)


if __name__ == "__main__":
    main()
