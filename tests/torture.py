"""`python -m tests.torture`: kill -9 of the whole daemon at random moments, on a network and a ledger that fail, too.

Studies are pushed with retry meanwhile. Before each kill, one of the `DISTURBANCES` befalls the daemon or nothing does.
Prints what was acknowledged, lost, duplicated, and how many studies ended with exactly one SEG and one SR in the PACS.
"""

import argparse
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from daemon.config import load
from daemon.spool.store import Spool
from demo.ports import free_port
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_petct
from tests.daemons import counted, init, kill, results, serving
from tests.ledgers import DATABASES, Ledger, digests, ledger, lock
from tests.peers import Peer, orthanc, storescu, wait_until
from tests.wires import Fault, Wire, wire

SETTLE_SECONDS = 600.0


@dataclass(kw_only=True)
class Figures:
    """What the torture showed; `answered_once` counts studies, `duplicated` results beyond the first of their kind."""

    kills: int
    disturbances: dict[str, int]
    studies: int
    acknowledged: int
    lost: int = 0
    duplicated: int = 0
    answered_once: int = 0
    wrong: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """Whether nothing was lost and every study was answered exactly once."""
        return self.lost == 0 and self.answered_once == self.studies

    def __str__(self) -> str:
        """Return the figures, one a line."""
        told = ", ".join(f"{name} {count}" for name, count in sorted(self.disturbances.items())) or "none"
        rows = {
            "kills": self.kills,
            "disturbances": told,
            "instances acknowledged": self.acknowledged,
            "lost": self.lost,
            "results duplicated": self.duplicated,
            "studies answered exactly once": f"{self.answered_once} of {self.studies}",
            **({"wrong": self.wrong} if self.wrong else {}),
        }
        return "\n".join(f"{name:<30} {value}" for name, value in rows.items())


@dataclass(frozen=True, kw_only=True)
class Site:
    """The daemon's surroundings: its folder, its ledger, and the wires between modality, itself and the PACS."""

    folder: Path
    ledger: Ledger
    inward: Wire
    outward: Wire


def _on_wire(pick: Callable[[Site], Wire], fault: Fault) -> Callable[[Site, float], None]:
    def disturb(site: Site, seconds: float) -> None:
        line = pick(site)
        line.plan(fault, after=random.Random(seconds).randrange(200_000))  # noqa: S311 - a place, not a secret
        time.sleep(seconds)
        line.mend()

    return disturb


DISTURBANCES: dict[str, Callable[[Site, float], None]] = {
    **{f"modality {fault}": _on_wire(lambda site: site.inward, fault) for fault in Fault},
    **{f"PACS {fault}": _on_wire(lambda site: site.outward, fault) for fault in Fault},
    "ledger locked": lambda site, seconds: lock(site.ledger.url, seconds),
    "ledger away": lambda site, seconds: site.ledger.take_away(seconds),
}


def torture(kills: int, studies: int, seed: int, kept: Ledger, folder: Path) -> Figures:
    """Push `studies` studies, disturb and kill the daemon `kills` times meanwhile and after, let it settle, count."""
    rng = random.Random(seed)  # noqa: S311 - moments, not secrets
    made = [make_petct(StudyRequest(seed=7, salt=f"t{n}"), folder / f"study{n}") for n in range(studies)]
    port, site = free_port(), folder / "site"
    happened: Counter[str] = Counter()
    with (
        orthanc(folder / "pacs", known={"OVERREAD": port}, http=True) as archive,
        wire(port) as inward,
        wire(archive.port) as outward,
    ):
        url = f'"{kept.url}"'
        config = init(site, port, replace(archive, port=outward.port), report_wait_seconds="3", ledger_url=url)
        place = Site(folder=site, ledger=kept, inward=inward, outward=outward)
        pusher = threading.Thread(target=_push_all, args=(made, inward.port), name="pusher")
        pusher.start()
        for _ in range(kills):
            with serving(site, port) as daemon:
                name = rng.choice([*DISTURBANCES, *["nothing"] * len(DISTURBANCES)])
                happened[name] += 1
                DISTURBANCES.get(name, lambda _, seconds: time.sleep(seconds))(place, rng.uniform(0.2, 4.0))
                kill(daemon.process)
        with serving(site, port):
            pusher.join()
            wait_until(lambda: counted(config, "deliveries", "CONFIRMED") == 2 * studies, SETTLE_SECONDS, "all results")
        figures = Figures(kills=kills, disturbances=dict(happened), studies=studies, acknowledged=0)
        return _count(made, archive, place, figures)


def _push_all(studies: list[StudyTruth], port: int) -> None:
    for study in studies:
        while storescu(port, [study.folder], quiet=True).returncode != 0:
            time.sleep(0.2)


def _count(studies: list[StudyTruth], archive: Peer, site: Site, figures: Figures) -> Figures:
    """Count by what is there: rows whose file has still the bytes that were acknowledged, and the PACS's objects."""
    figures.acknowledged = sum(len(paths) for study in studies for paths in study.series.values())
    spool = Spool(load(site.folder / "overread.toml").data.folder / "spool", headroom=0)
    figures.lost = figures.acknowledged - sum(spool.sound(digest) for digest in digests(site.ledger.url))
    for study in studies:
        found = {kind: len(ids) for kind, ids in results(archive, study.study_instance_uid).items()}
        figures.duplicated += sum(max(0, count - 1) for count in found.values())
        if found == {"SEG": 1, "SR": 1}:
            figures.answered_once += 1
        else:
            figures.wrong[study.study_instance_uid] = found
    return figures


def main() -> None:
    """Run and print; exit 1 where a figure is not what was promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ledger", choices=DATABASES, default=DATABASES[0])
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="overread-torture-") as folder,
        ledger(chosen.ledger, Path(folder) / "site") as kept,
    ):
        figures = torture(chosen.kills, chosen.studies, chosen.seed, kept, Path(folder))
    print(figures)  # noqa: T201 - this is what it is for
    raise SystemExit(not figures.kept)


if __name__ == "__main__":
    main()
