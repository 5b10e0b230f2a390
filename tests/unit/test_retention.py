"""Retention: what nobody has confirmed stays, however old it is and however full the disk."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from daemon.domain.delivery import DeliveryState, Destination
from daemon.domain.instance import Instance
from daemon.domain.job import JobInput, JobState
from daemon.domain.model_bundle import BundleRef
from daemon.domain.output import OutputKind
from daemon.domain.reception import Verdict
from daemon.domain.work import Change
from daemon.errors import RetryableError
from daemon.ledger.intake import Intake
from daemon.services.retire import RetentionRules, Retire
from daemon.spool.store import Spool
from tests.dicom_files import ct_file
from tests.houses import House
from tests.instances import NOW, series

UID = "1.2.826.0.1.3680043.8.498.3"
FULL = 1 << 62
WAYS = {
    DeliveryState.PENDING: (),
    DeliveryState.SENT: (DeliveryState.SENT,),
    DeliveryState.UNCONFIRMED: (DeliveryState.SENT, DeliveryState.UNCONFIRMED),
    DeliveryState.DEAD: (DeliveryState.DEAD,),
    DeliveryState.CONFIRMED: (DeliveryState.SENT, DeliveryState.CONFIRMED),
}


@pytest.fixture
def house(tmp_path: Path, engine: Engine) -> House:
    """Return a house whose disk is full, the case in which most is freed."""
    made = House(tmp_path, engine)
    made.spool = Spool(tmp_path / "spool", headroom=FULL)
    return made


def freed(house: House) -> int:
    """Retire a year later; return how many files went."""
    house.clock.at = NOW + timedelta(days=365)
    return Retire(house.files, house.spool, house.clock, RetentionRules()).step()


def move(house: House, delivery: int, states: Sequence[DeliveryState]) -> None:
    """Take a delivery through these states."""
    for state in states:
        house.deliveries.change([Change(id=delivery, state=state, due_at=NOW, detail="")], NOW)


@pytest.mark.parametrize("state", WAYS)
def test_only_a_confirmed_delivery_lets_its_study_go(house: House, state: DeliveryState) -> None:
    """Waiting, sent, unconfirmed and dead deliveries hold instances and results alike."""
    (digest,) = house.completed(b"one")
    move(house, 1, WAYS[state])
    assert house.states() == [state.value]
    assert freed(house) == (4 if state is DeliveryState.CONFIRMED else 0)
    assert house.spool.sound(digest) is (state is not DeliveryState.CONFIRMED)


@pytest.mark.parametrize("state", [state for state in WAYS if state is not DeliveryState.CONFIRMED])
def test_one_delivery_holds_the_whole_study(house: House, state: DeliveryState) -> None:
    """Two results to two destinations: three are confirmed, the fourth is not, and nothing goes."""
    house.completed(b"one", b"two", destinations=("pacs", "archive"))
    for delivery in (1, 2, 3):
        move(house, delivery, WAYS[DeliveryState.CONFIRMED])
    move(house, 4, WAYS[state])
    assert freed(house) == 0


def test_what_was_replaced_goes_when_its_replacement_is_confirmed(house: House) -> None:
    """A refused result holds its study until the destination has what went instead; a spare one holds nothing."""
    kinds = (OutputKind.SEGMENTATION, OutputKind.KEY_IMAGES, OutputKind.SUMMARY)
    house.places = {"pacs": Destination(name="pacs", outputs=kinds[:1])}
    house.completed(b"one", b"two", b"three", kinds=kinds)
    change = Change(id=1, state=DeliveryState.REPLACED, due_at=NOW, detail="")
    assert house.deliveries.replace(change, OutputKind.KEY_IMAGES, NOW)
    assert freed(house) == 0
    move(house, 2, WAYS[DeliveryState.CONFIRMED])
    assert freed(house) == 6


def test_a_result_that_goes_nowhere_stays(house: House) -> None:
    """Made while no destination was known, it was never seen by anybody."""
    (digest,) = house.completed(b"one", destinations=())
    assert freed(house) == 0
    assert house.spool.sound(digest)


@pytest.mark.parametrize("state", JobState)
def test_a_job_that_has_not_ended_well_holds_its_study(house: House, state: JobState) -> None:
    """Scheduled, running and failed jobs hold it; a cancelled one, and one without results, let it go."""
    for instance in series(3):
        house.intake.record(instance, "a1")
    assert freed(house) == 0, "no decision was taken yet"
    job = JobInput(study_instance_uid="1.2", series={"MR": "1.2.5"}, instance_digests=("x",))
    bundle = BundleRef(name="b", version="1", digest="d" * 64)
    house.jobs.settle(house.jobs.waiting_studies()[0], [(job, bundle)], None, NOW)
    if state is JobState.CANCELED:
        house.jobs.cancel(1, NOW)
    elif state is not JobState.SCHEDULED:
        finish(house, state)
    assert freed(house) == (3 if state in (JobState.CANCELED, JobState.COMPLETED) else 0)


def finish(house: House, state: JobState) -> None:
    """Claim the job and bring it to `state`, without results."""
    claimed = house.jobs.claim("w", NOW, timedelta(minutes=1))
    assert claimed is not None
    if state is JobState.FAILED:
        assert house.jobs.fail(claimed.lease, "unknown", "", NOW)
    elif state is JobState.COMPLETED:
        assert house.jobs.complete(claimed.lease, house.result(()), NOW)


def settled(house: House, path: Path) -> str:
    """Receive one instance of a study that nothing reads; return its digest."""
    assert house.receive(path, UID) is Verdict.STORED
    house.jobs.settle(house.jobs.waiting_studies()[0], [], None, NOW)
    (digest,) = house.files.kept()
    return digest


class Meddling(Intake):
    """An intake that lets retention delete, in the moment between an instance's file and its row."""

    def __init__(self, engine: Engine, house: House, digest: str) -> None:
        super().__init__(engine)
        self._house, self._digest = house, digest

    def record(self, instance: Instance, association: str) -> Verdict:
        """Delete, then record."""
        self._house.files.while_free([self._digest], self._house.spool.free)
        return super().record(instance, association)


def test_what_is_sent_again_while_it_is_freed_is_not_lost(house: House, tmp_path: Path) -> None:
    """Promised anew before it was deleted, it stays; deleted before, its sender is told to send it again."""
    house.spool = house.reception.spool = Spool(tmp_path / "roomy", headroom=0)
    path = ct_file(tmp_path / "a.dcm", UID)
    digest = settled(house, path)
    later = NOW + timedelta(days=1)
    assert house.files.release(later) == [digest]
    assert house.receive(path, UID) is Verdict.DUPLICATE
    house.files.while_free([digest], house.spool.free)
    assert house.spool.sound(digest)
    assert house.files.release(later) == [digest]
    house.reception.intake = Meddling(house.engine, house, digest)
    with pytest.raises(RetryableError, match="sent again"):
        house.receive(path, UID)
    house.reception.intake = house.intake
    assert house.receive(path, UID) is Verdict.DUPLICATE
    assert house.files.kept() == house.spool.sizes()


@pytest.mark.parametrize(
    ("kept", "headroom", "hours", "freed"),
    [(7, FULL, 2, 1), (7, 0, 2, 0), (7, FULL, 0.5, 0), (0, FULL, 0.5, 1), (0, 0, 0.5, 1)],
)
def test_a_full_disk_frees_sooner_never_later(kept: int, headroom: int, hours: float, freed: int, house: House) -> None:
    """Confirmed studies go after `keep_days`, below the headroom after an hour."""
    house.spool = Spool(house.spool.root, headroom=headroom)
    house.completed(b"one")
    move(house, 1, WAYS[DeliveryState.CONFIRMED])
    house.clock.at = NOW + timedelta(hours=hours)
    rules = RetentionRules(age=timedelta(days=kept))
    assert min(Retire(house.files, house.spool, house.clock, rules).step(), 1) == freed
