"""The verbs on a real ledger and spool: one bad study, file or destination never holds another."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from sqlalchemy import Engine

from daemon.domain.assembly import Patience
from daemon.domain.delivery import DeliveryState
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef
from daemon.domain.reasons import Reason
from daemon.domain.reception import Announced, Verdict
from daemon.domain.work import Change
from daemon.errors import RetryableError
from daemon.ledger.queries import Queries
from daemon.services.assemble import Assemble
from daemon.services.ports import Reader
from daemon.services.process import Process, Stores, WorkRules
from daemon.services.receive import reconcile
from daemon.services.retire import RetentionRules, Retire
from tests.dicom_files import CT, ct_file, opaque_file
from tests.houses import House, aged
from tests.instances import NOW, series

UID = "1.2.826.0.1.3680043.8.498.3"


@pytest.fixture
def house(tmp_path: Path, engine: Engine) -> House:
    """A fresh house."""
    return House(tmp_path, engine)


def test_what_is_stored_has_file_and_row(house: House, tmp_path: Path) -> None:
    """After STORED the spool holds the bytes under their digest and the ledger knows their size."""
    path = ct_file(tmp_path / "a.dcm", UID)
    assert house.receive(path, UID) is Verdict.STORED
    assert house.receive(path, UID) is Verdict.DUPLICATE
    assert house.files.kept() == house.spool.sizes()
    assert list(house.files.kept().values()) == [path.stat().st_size]


def test_other_bytes_are_kept_beside(house: House, tmp_path: Path) -> None:
    """The same UID with other pixels is a conflict: both files stay, only the first is read."""
    assert house.receive(ct_file(tmp_path / "a.dcm", UID), UID) is Verdict.STORED
    assert house.receive(ct_file(tmp_path / "b.dcm", UID), UID) is Verdict.CONFLICT
    assert len(house.files.kept()) == 2
    assert len(house.jobs.waiting_studies()[0].instances) == 1


@pytest.mark.parametrize(("body", "verdict"), [(b"", Verdict.MALFORMED), (b"\x08\x00nonsense", Verdict.MALFORMED)])
def test_what_cannot_be_parsed_leaves_nothing(house: House, tmp_path: Path, body: bytes, verdict: Verdict) -> None:
    """A malformed object is refused and its file is gone."""
    assert house.receive(opaque_file(tmp_path / "x.dcm", "1.2.840.10008.1.2.1", body), UID) is verdict
    assert house.kept() == 0


def test_a_disk_that_fills_up_is_taken_from_again_by_itself(house: House, tmp_path: Path) -> None:
    """Below the headroom nothing is kept and nothing lost; with room again the same object is stored."""
    path = ct_file(tmp_path / "a.dcm", UID)
    house.spool._headroom = 1 << 62
    with pytest.raises(RetryableError, match="headroom"):
        house.receive(path, UID)
    assert (house.kept(), house.files.kept()) == (0, {})
    house.spool._headroom = 0
    assert house.receive(path, UID) is Verdict.STORED


def test_uids_other_than_announced_are_refused(house: House, tmp_path: Path) -> None:
    """A data set whose UID is not the announced one is a mismatch and is not kept."""
    assert house.receive(ct_file(tmp_path / "a.dcm", UID), uid="1.2.3") is Verdict.MISMATCH
    assert house.kept() == 0


def test_refusing_a_copy_never_removes_the_promised_file(house: House, tmp_path: Path) -> None:
    """Equal bytes announced wrongly later are refused, and the acknowledged file stays."""
    path = ct_file(tmp_path / "a.dcm", UID)
    assert house.receive(path, UID) is Verdict.STORED
    assert house.receive(path, uid="1.2.3") is Verdict.MISMATCH
    assert house.spool.sizes() == house.files.kept()


def test_aborted_objects_leave_nothing(house: House) -> None:
    """An association that breaks inside an object leaves no file."""
    announced = Announced(
        sop_class_uid=CT,
        sop_instance_uid=UID,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        calling_ae="MR1",
        called_ae="OVERREAD",
        association="a1",
    )
    incoming = house.reception.open(announced)
    incoming.write(b"half")
    incoming.abort()
    assert house.kept() == 0


def test_reconcile_names_lost_files_and_sweeps_what_nobody_promised(house: House, tmp_path: Path) -> None:
    """At start a row without its file is reported; an old file without row goes, a young one stays."""
    house.receive(ct_file(tmp_path / "a.dcm", UID), UID)
    digest = next(iter(house.files.kept()))
    stray, _ = house.spool.put(b"nobody's")
    house.spool.path(digest).unlink()
    assert reconcile(house.spool, house.files, house.intake, house.clock) == [digest]
    assert stray in house.spool.sizes()
    aged(house.spool.path(stray))
    reconcile(house.spool, house.files, house.intake, house.clock)
    assert stray not in house.spool.sizes()


def test_an_instance_sent_again_after_it_was_freed_is_kept_again(house: House, tmp_path: Path) -> None:
    """A duplicate of freed bytes is success only because the bytes are promised anew."""
    path = ct_file(tmp_path / "a.dcm", UID)
    house.receive(path, UID)
    house.jobs.settle(house.jobs.waiting_studies()[0], [], None, NOW)
    assert len(house.files.release(NOW + timedelta(days=1))) == 1
    assert house.files.kept() == {}
    assert house.receive(path, UID) is Verdict.DUPLICATE
    assert house.files.kept() == house.spool.sizes()


def test_a_study_of_conflicts_alone_holds_no_other(house: House) -> None:
    """A UID reused in another study is flagged there; assembling goes on."""
    first = series(1)[0]
    house.intake.record(first, "a1")
    stolen = replace(first, study_instance_uid="1.9", digest="other")
    assert house.intake.record(stolen, "a1") is Verdict.CONFLICT
    assert [s.study_instance_uid for s in house.jobs.waiting_studies()] == ["1.2"]


def test_a_study_that_cannot_be_judged_holds_no_other(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """It is settled with that reason, not met again for ever; the others in the same step; news of it count anew."""
    house.intake.record(replace(series(1)[0], received_at=NOW), "a1")
    other = replace(series(1, uid="7")[0], study_instance_uid="1.7", received_at=NOW + timedelta(seconds=1))
    house.intake.record(other, "a1")
    house.intake.closed("a1", NOW)
    house.clock.at = NOW + timedelta(hours=1)
    calls: list[int] = []

    def bundles() -> tuple[()]:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("odd")
        return ()

    assert Assemble(house.jobs, bundles, house.clock, Patience()).step() == 2
    assert house.jobs.waiting_studies() == []
    assert {s.study_instance_uid: s.refusal for s in Queries(house.engine).studies()} == {
        "1.2": "unknown",
        "1.7": "no-eligible-series",
    }
    assert "1.2 could not be judged" in caplog.text
    house.intake.record(series(2)[1], "a1")
    assert [s.study_instance_uid for s in house.jobs.waiting_studies()] == ["1.2"]


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b"ono")], ids=["gone", "damaged"])
def test_a_lost_file_holds_no_other_delivery(house: House, lose: Callable[[Path], object]) -> None:
    """An output whose file is gone or has other bytes is dead with that reason; the next one is sent."""
    lost, there = house.completed(b"one", b"two")
    lose(house.spool.path(lost))
    deliver, _ = house.post()
    deliver.step("pacs")
    assert house.states() == ["DEAD", "SENT"]
    assert house.courier.sent == [house.spool.path(there)]


def test_what_is_not_there_after_days_is_dead(house: House) -> None:
    """A sent object that the destination never lists ends DEAD, and confirming goes on for the others."""
    house.completed(b"one", b"two")
    deliver, confirm = house.post()
    deliver.step("pacs")
    confirm.step("pacs")
    house.courier.present_uids = frozenset({"9.1"})
    house.clock.at = NOW + timedelta(days=2)
    confirm.step("pacs")
    assert house.states() == ["DEAD", "CONFIRMED"]


def test_what_nobody_confirms_is_unconfirmed_and_kept(house: House) -> None:
    """A destination that stores, but neither commits nor answers queries: asked ever more rarely, then listed."""
    house.completed(b"one")
    house.courier.offers = False
    deliver, confirm = house.post()
    deliver.step("pacs")
    while house.states() == ["SENT"]:
        house.clock.at = Queries(house.engine).deliveries()[0].due_at
        assert confirm.step("pacs") == 1
    assert house.clock.at == NOW + timedelta(days=7)
    assert 10 < len(house.courier.asked) < 40
    view = Queries(house.engine).deliveries(state="UNCONFIRMED")[0]
    assert "after 7 days" in view.detail
    assert "it answers no queries" in view.detail
    assert house.files.freeable(NOW + timedelta(days=999)) == []
    assert confirm.step("pacs") == 0


def test_a_late_report_confirms_what_was_unconfirmed(house: House) -> None:
    """A commitment that comes after all is taken."""
    house.completed(b"one")
    deliver, confirm = house.post()
    deliver.step("pacs")
    confirm.step("pacs")
    house.courier.offers = False
    house.clock.at = NOW + timedelta(days=7)
    confirm.step("pacs")
    assert house.states() == ["UNCONFIRMED"]
    assert house.deliveries.committed(house.courier.asked[0], ["9.0"], {}, house.clock.at) == 1
    assert house.states() == ["CONFIRMED"]


def test_commitment_that_brought_no_report_is_asked_again(house: House) -> None:
    """Where no query is answered either, a request that was lost is repeated as a transaction of its own."""
    house.completed(b"one")
    deliver, confirm = house.post()
    deliver.step("pacs")
    confirm.step("pacs")
    house.courier.offers = False
    house.clock.at = NOW + timedelta(minutes=2)
    confirm.step("pacs")
    assert len(set(house.courier.asked)) == 2


def test_what_is_sent_again_is_asked_for_again(house: House) -> None:
    """After a failed commitment the next sending gets a transaction of its own."""
    house.completed(b"one")
    deliver, confirm = house.post()
    deliver.step("pacs")
    confirm.step("pacs")
    assert house.deliveries.committed(house.courier.asked[0], [], {"9.0": None}, NOW) == 1
    house.clock.at = NOW + timedelta(minutes=1)
    deliver.step("pacs")
    confirm.step("pacs")
    assert len(set(house.courier.asked)) == 2


def test_thousands_of_files_are_freed_at_once(house: House) -> None:
    """Retiring names no more values in a statement than a database takes."""
    house.completed(b"one")
    house.deliveries.change([Change(id=1, state=DeliveryState.SENT, due_at=NOW, detail="", transaction_uid="7")], NOW)
    house.deliveries.committed("7", ["9.0"], {}, NOW)
    house.files.while_free([f"{n:064x}" for n in range(40_000)], house.spool.free)
    house.clock.at = NOW + timedelta(days=30)
    retire = Retire(house.files, house.spool, house.clock, RetentionRules())
    assert retire.step() == 4
    assert retire.step() == 0
    assert house.spool.sizes() == {}


def test_a_damaged_instance_is_never_read(house: House, tmp_path: Path) -> None:
    """A file whose bytes changed on the disk fails its job; sent again it is whole, and the job goes on."""
    path = ct_file(tmp_path / "ct.dcm", UID)
    assert house.receive(path, UID) is Verdict.STORED
    house.intake.closed("a1", NOW)
    (digest,) = house.spool.sizes()
    kept = house.spool.path(digest)
    content = kept.read_bytes()
    kept.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    study = house.jobs.waiting_studies()[0]
    job = JobInput(study_instance_uid=study.study_instance_uid, series={}, instance_digests=(digest,))
    house.jobs.settle(study, [(job, BundleRef(name="b", version="1", digest="d" * 64))], None, NOW)
    stores = Stores(jobs=house.jobs, files=house.files, spool=house.spool)
    rules = WorkRules(worker="w", destinations=tuple, software_version="0")
    worker = Process(stores, cast("Reader", SimpleNamespace(bundles=tuple)), house.clock, rules)
    reasons = []
    for verdict in (Verdict.DUPLICATE, None):
        assert worker.step()
        (found,) = Queries(house.engine).jobs()
        reasons.append(found.reason)
        if verdict is not None:
            assert house.receive(path, UID) is verdict
            house.jobs.retry(found.id, NOW)
    assert reasons == [Reason.DAMAGED, Reason.MODEL]
