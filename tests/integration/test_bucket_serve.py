"""Machines that share a bucket and a ledger, and nothing else: one of them is lost, or ends at once with a backlog."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from daemon.bootstrap import House
from daemon.bucket import examined
from daemon.config import load
from daemon.domain.bucket import Acknowledge
from daemon.ledger.tables import AssociationRow
from daemon.runtime import LISTENING, mark
from demo.ports import free_port
from dicom_fixtures.planes import Layout
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.buckets import SECRET, Service, service
from tests.clusters import Cluster
from tests.daemons import OVERREAD, init, kill, overread, serving
from tests.peers import Peer, storescp, storescu, wait_until
from tests.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.peers
SPACING = (8.0, 6.0, 6.0)


def machine(folder: Path, archive: Peer, s3: Service, acknowledge: Acknowledge, ledger: str = "") -> tuple[Path, int]:
    """Set a machine up; return its configuration and its listener's port."""
    port = free_port()
    config = init(folder, port, archive, **({"ledger_url": f'"{ledger}"'} if ledger else {}))
    head, _, rest = config.read_text().partition("[bucket]")
    config.write_text(f"{head}{s3.table(acknowledge)}\n[{rest.partition(chr(10) + '[')[2]}")
    return config, port


@contextmanager
def listening(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a machine's listener, and kill it at the end."""
    with (config.parent / "listen.log").open("ab") as log:
        process = subprocess.Popen([*OVERREAD, "listen", "--config", str(config)], stderr=log, start_new_session=True)
    try:
        wait_until(lambda: bool(mark(config.parent / "data" / LISTENING)), 240, "the listener")
        yield process
    finally:
        if process.poll() is None:
            kill(process)


def opened(house: House) -> list[str]:
    """Return the associations that have not ended."""
    with house.engine.connect() as connection:
        return list(connection.scalars(select(AssociationRow.id).where(AssociationRow.closed_at.is_(None))))


def checked(config: Path) -> str:
    """Return what `overread doctor` says of the bucket."""
    said = json.loads(overread("doctor", "--json", "--config", str(config)).stdout)
    return next(one["detail"] for one in said if one["check"] == "bucket")


def test_a_machine_that_is_lost_costs_no_acknowledged_study(postgresql: Cluster, tmp_path: Path) -> None:
    """Its disk is gone once the sender has its success: another machine reads the study from the bucket and answers."""
    ledger = postgresql.url(postgresql.ledger())
    make_tiny_bundle(tmp_path / "models/brain-mri/0.0.1")
    request = StudyRequest(seed=3, spacing=SPACING, layout=Layout(spacing=SPACING, matrix=(32, 32)))
    study = make_brain_mri(request, tmp_path / "study")
    with service(tmp_path / "s3") as s3, storescp(tmp_path / "pacs") as archive:
        lost, port = machine(tmp_path / "lost", archive, s3, Acknowledge.BUCKET, ledger)
        other, second = machine(tmp_path / "other", archive, s3, Acknowledge.BUCKET, ledger)
        house = House(load(other))
        with listening(lost):
            assert storescu(port, [study.folder], quiet=True).returncode == 0
            # One that is open holds the study until the machine is known to be lost, two minutes later.
            wait_until(lambda: not opened(house), 60, "the association's end to be recorded")
            key = (tmp_path / "lost/data/patient.key").read_bytes()
        shutil.rmtree(tmp_path / "lost")
        refused = overread("listen", "--config", str(other))
        assert refused.returncode != 0
        assert "copy patient.key from a machine that uses the bucket" in refused.stderr
        (tmp_path / "other/data/patient.key").write_bytes(key)
        assert house.files.kept() == house.spool.sizes()
        with serving(tmp_path / "other", second, {"OVERREAD_INFERENCE__MODELS": str(tmp_path / "models")}):
            wait_until(lambda: len(list(archive.folder.iterdir())) == 2, 240, "the answer in the PACS")
        made = [output.digest for output in house.queries.outputs()]
        assert all(s3.objects(digest) for digest in made), "whoever delivers finds them"
        told = examined(house)
        house.engine.dispose()
    log = (tmp_path / "other/serve.log").read_text()
    assert "is gone from the spool" not in log
    assert "is written and read" in told
    assert SECRET not in log + told


def test_a_backlog_outlives_kill_9_and_a_bucket_that_is_away(tmp_path: Path) -> None:
    """Success by the local disk: what is received while the bucket is away is in it once both are back."""
    request = StudyRequest(seed=3, spacing=SPACING, layout=Layout(spacing=SPACING, matrix=(32, 32)))
    study = make_brain_mri(request, tmp_path / "study")
    with service(tmp_path / "s3") as s3, storescp(tmp_path / "pacs") as archive:
        config, port = machine(tmp_path / "site", archive, s3, Acknowledge.LOCAL)
        with listening(config):
            s3.kill()
            assert storescu(port, [study.folder], quiet=True).returncode == 0
        kept = House(load(config)).files.kept()
        assert kept
        assert s3.objects() == []
        told = checked(config)
        assert "is not reached" in told
        assert f"; {len(kept)} files (" in told
        s3.start()
        with listening(config):
            waiting = tmp_path / "site/data/spool/objects"
            wait_until(lambda: not any(waiting.glob("*/*")), 60, "the backlog to go")
        assert {path.parent.name for path in s3.objects()} == kept.keys()


def test_a_bucket_that_is_away_is_no_success(tmp_path: Path) -> None:
    """Success by the bucket: the sender is told to come again (0xA700), and is served once the bucket is back."""
    request = StudyRequest(seed=3, spacing=SPACING, layout=Layout(spacing=SPACING, matrix=(32, 32)))
    study = make_brain_mri(request, tmp_path / "study")
    with service(tmp_path / "s3") as s3, storescp(tmp_path / "pacs") as archive:
        config, port = machine(tmp_path / "site", archive, s3, Acknowledge.BUCKET)
        with listening(config):
            s3.kill()
            refused = storescu(port, [study.folder])
            assert "Refused: OutOfResources" in refused.stderr
            assert House(load(config)).files.kept() == {}
            s3.start()
            assert storescu(port, [study.folder], quiet=True).returncode == 0
            assert {path.parent.name for path in s3.objects()} == House(load(config)).files.kept().keys()
