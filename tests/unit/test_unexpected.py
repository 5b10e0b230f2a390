"""What nobody foresaw ends one thing, never the loop around it, and never in silence."""

import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pynetdicom import AE
from sqlalchemy import Engine

from daemon.dimse.courier import Courier
from daemon.domain.delivery import Destination, SendResult
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef
from daemon.domain.references import Reference
from daemon.ledger.queries import Queries
from daemon.runtime import Supervisor
from daemon.services.process import Process, Stores, WorkRules
from demo.ports import HOST
from tests.dicom_files import CT, ct_file
from tests.houses import FakeCourier, House
from tests.instances import NOW, series
from tests.peers import wait_until


@pytest.fixture
def house(tmp_path: Path, engine: Engine) -> House:
    """A fresh house."""
    return House(tmp_path, engine)


class OddCourier(FakeCourier):
    """A courier that stumbles over the file `odd`, and over every question while `stumbles`."""

    def __init__(self, odd: str = "") -> None:
        super().__init__()
        self.odd, self.stumbles = odd, True

    def send(self, destination: Destination, paths: Sequence[Path]) -> Iterator[SendResult]:
        """Raise what no service foresaw."""
        for path in paths:
            if path.name == self.odd:
                raise ValueError("odd")
            yield from super().send(destination, [path])

    def ask_commitment(self, destination: Destination, transaction_uid: str, references: Sequence[Reference]) -> bool:
        """Raise what no service foresaw."""
        if self.stumbles:
            raise ValueError("odd")
        return super().ask_commitment(destination, transaction_uid, references)

    def present(self, destination: Destination, references: Sequence[Reference]) -> frozenset[str]:
        """Raise what no service foresaw."""
        if self.stumbles:
            raise ValueError("odd")
        return super().present(destination, references)


def test_an_object_that_nobody_can_send_holds_no_other(house: House) -> None:
    """It is tried again ever later, after the others, and is dead with the reason when its days are over."""
    odd, _ = house.completed(b"one", b"two")
    deliver, _ = house.post(OddCourier(odd))
    deliver.step("pacs")
    house.clock.at += timedelta(hours=1)
    deliver.step("pacs")
    assert house.states() == ["PENDING", "SENT"]
    for _ in range(48):
        house.clock.at += timedelta(hours=1)
        deliver.step("pacs")
    assert house.states() == ["DEAD", "SENT"]
    assert "unexpected ValueError" in Queries(house.engine).deliveries(state="DEAD")[0].detail


def test_a_destination_with_a_pdu_length_that_nothing_fits_is_no_endless_loop(house: House, tmp_path: Path) -> None:
    """A PACS that announces 4 octets at most gets nothing, counts as not reached, and what waits for it ends."""
    house.completed(ct_file(tmp_path / "ct.dcm", "9.0").read_bytes())
    entity = AE("PACS")
    entity.add_supported_context(CT)
    entity.maximum_pdu_size = 4
    server = entity.start_server((HOST, 0), block=False)
    try:
        house.places["pacs"] = Destination(name="pacs", ae_title="PACS", host=HOST, port=server.server_address[1])
        deliver, _ = house.post(cast("Any", Courier("OVERREAD", cast("Any", house.deliveries))))
        deliver.step("pacs")
        circuit = house.circuits.get("pacs")
        assert circuit is not None
        assert "takes PDUs of 4 bytes at most" in circuit.reason
        house.clock.at += timedelta(days=2)
        deliver.step("pacs")
    finally:
        server.shutdown()
    assert house.states() == ["DEAD"]


def test_answers_that_nobody_understands_end_as_unconfirmed(house: House) -> None:
    """What raises at every question is asked ever more rarely, then listed; what answers again is confirmed."""
    house.completed(b"one")
    courier = OddCourier()
    deliver, confirm = house.post(courier)
    deliver.step("pacs")
    for _ in range(8 * 24):
        confirm.step("pacs")
        house.clock.at += timedelta(hours=1)
    assert house.states() == ["UNCONFIRMED"]
    assert "unexpected ValueError" in Queries(house.engine).deliveries(state="UNCONFIRMED")[0].detail


def test_a_ledger_that_is_away_for_a_moment_fails_no_job(house: House, tmp_path: Path) -> None:
    """A job whose step asks the ledger in vain is given back and done later; it has not FAILED."""
    if house.engine.dialect.name != "sqlite":
        pytest.skip("a server's ledger is no file that could be taken away; test_postgresql_serve ends the server")
    for instance in series(3):
        house.intake.record(instance, "a1")
    job = JobInput(study_instance_uid="1.2", series={}, instance_digests=())
    house.jobs.settle(house.jobs.waiting_studies()[0], [(job, BundleRef(name="b", version="1", digest="d"))], None, NOW)

    def destinations() -> tuple[Destination, ...]:
        house.engine.dispose()
        away = (tmp_path / "ledger.db").rename(tmp_path / "away.db")
        try:
            return tuple(house.deliveries.destinations())
        finally:
            away.rename(tmp_path / "ledger.db")

    rules = WorkRules(worker="w", destinations=destinations, software_version="0")
    stores = Stores(jobs=house.jobs, files=house.files, spool=house.spool)
    assert Process(stores, cast("Any", SimpleNamespace(bundles=tuple)), house.clock, rules).step()
    (found,) = Queries(house.engine).jobs()
    assert found.state == "SCHEDULED"
    assert "the ledger does not answer" in found.detail


def test_a_supervisor_outlives_a_machine_that_has_no_process_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A part that cannot be started is tried again, and runs once that goes."""
    stop, marker = threading.Event(), tmp_path / "ran"
    supervisor = Supervisor(tmp_path, ["work"], 1, lambda *_: None)
    supervisor._commands = [[str(tmp_path / "python"), "-c", "", "work"]]
    thread = threading.Thread(target=supervisor.run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: "work cannot be started now" in caplog.text, 60, "a failed start")
        (tmp_path / "python").write_text(f"#!/bin/sh\ntouch {marker}\nexec sleep 60\n", encoding="ascii")
        (tmp_path / "python").chmod(0o700)
        wait_until(marker.exists, 60, "the part to run")
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
