"""`overread serve` with its ledger on PostgreSQL: the server crashes, a worker is killed, others go on."""

import os
import signal
import threading
import time
from pathlib import Path

from sqlalchemy import Engine, select

from daemon.ledger.engine import connect
from daemon.ledger.queries import Queries
from daemon.ledger.tables import TransitionRow
from demo.ports import free_port
from dicom_fixtures.studies import StudyRequest, StudyTruth, make_petct
from tests.clusters import Cluster
from tests.daemons import init, overread, results, serving
from tests.ledgers import ServerLedger
from tests.peers import orthanc, storescu, wait_until


def push(studies: list[StudyTruth], port: int) -> None:
    """Send each until it is taken."""
    for study in studies:
        while storescu(port, [study.folder], quiet=True).returncode != 0:
            time.sleep(0.2)


def readers(engine: Engine) -> list[str]:
    """Return the workers that took a job, in order."""
    query = select(TransitionRow.detail).where(TransitionRow.subject == "job", TransitionRow.new == "IN PROGRESS")
    with engine.connect() as connection:
        return list(connection.scalars(query.order_by(TransitionRow.id)))


def test_a_server_that_crashes_and_a_worker_that_is_killed_cost_no_study(postgresql: Cluster, tmp_path: Path) -> None:
    """Studies come all the while; each is answered once, in the PACS, and no instance is lost."""
    kept = ServerLedger(server=postgresql, url=postgresql.url(postgresql.ledger()))
    port, site = free_port(), tmp_path / "site"
    studies = [make_petct(StudyRequest(seed=7, salt=f"p{n}"), tmp_path / f"study{n}") for n in range(3)]
    engine = connect(kept.url)
    ledger = Queries(engine)
    with orthanc(tmp_path / "pacs", known={"OVERREAD": port}, http=True) as archive:
        config = init(site, port, archive, ledger_url=f'"{kept.url}"', workers="2", report_wait_seconds="3")
        with serving(site, port):
            pusher = threading.Thread(target=push, args=(studies, port))
            pusher.start()
            wait_until(lambda: bool(readers(engine)), 120, "a job to be worked on")
            os.kill(int(readers(engine)[0].rpartition("-")[2]), signal.SIGKILL)
            kept.take_away(3)
            pusher.join()
            wait_until(lambda: ledger.counts()["deliveries"].get("CONFIRMED") == 6, 240, "all results to be confirmed")
            found = [results(archive, study.study_instance_uid) for study in studies]
        told = overread("doctor", "--config", str(config))
        assert "fsync = off" in told.stdout
    assert [{kind: len(ids) for kind, ids in one.items()} for one in found] == [{"SEG": 1, "SR": 1}] * 3
    assert ledger.counts()["instances"] == {"stored": sum(len(p) for s in studies for p in s.series.values())}
    assert len(set(readers(engine))) > 1
    engine.dispose()
