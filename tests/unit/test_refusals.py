"""Jobs that report why a study was not read: one for each cause, and never beside or after an answer."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from daemon.domain.assembly import Refusal
from daemon.domain.delivery import DeliveryState
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef
from daemon.domain.output import Output, OutputKind
from daemon.domain.reasons import Reason
from daemon.domain.work import Change, Claimed
from daemon.ledger.jobs import Jobs
from daemon.ledger.queries import Queries
from daemon.ledger.rows import IllegalTransitionError
from tests.houses import House
from tests.instances import CT, NOW, PT, facts, series
from tests.results import CLASSES, complete

REF = BundleRef(name="b", version="1", digest="d" * 64)
LEASE = timedelta(minutes=1)


@pytest.fixture
def house(tmp_path: Path, engine: Engine) -> House:
    """A house that reports refusals, with one study of three slices."""
    made = House(tmp_path, engine)
    made.jobs = Jobs(engine, reports=True)
    for instance in series(3):
        made.intake.record(instance, "a1")
    return made


def settle(house: House, refusal: Reason | None = None, digest: str = "x") -> None:
    """Settle the study: with a job, or with a refusal."""
    job = JobInput(study_instance_uid="1.2", series={"MR": "1.2.5"}, instance_digests=(digest,))
    study = house.jobs.waiting_studies()[0]
    refused = Refusal(reason=refusal, detail="") if refusal else None
    assert house.jobs.settle(study, [] if refusal else [(job, REF)], refused, NOW)


def more(house: House, count: int) -> None:
    """Let the study grow to `count` slices."""
    for instance in series(count):
        house.intake.record(instance, "a1")


def claim(house: House) -> Claimed:
    claimed = house.jobs.claim("w", NOW, LEASE)
    assert claimed is not None
    return claimed


def fail(house: House, reason: Reason = Reason.UNREADABLE_PIXELS) -> Claimed:
    claimed = claim(house)
    assert house.jobs.fail(claimed.lease, reason, "", NOW)
    return claimed


def states(house: House) -> list[tuple[str, str]]:
    return [(job.refusal, job.state) for job in Queries(house.engine).jobs()[::-1]]


def test_a_failure_is_reported_once_however_often_it_is_retried(house: House) -> None:
    """A retry takes the report back while nobody works on it; the same failure asks for the same report again."""
    settle(house)
    failed = fail(house)
    pixels = Reason.UNREADABLE_PIXELS
    assert states(house) == [("", "FAILED"), (pixels, "SCHEDULED")]
    house.jobs.retry(failed.lease.job_id, NOW)
    assert states(house) == [("", "SCHEDULED"), (pixels, "CANCELED")]
    fail(house)
    assert states(house) == [("", "FAILED"), (pixels, "SCHEDULED")]
    told = claim(house)
    assert (told.refusal, told.bundle, told.input.instance_digests) == (pixels, REF, ("x",))
    complete(house, told)
    house.jobs.retry(failed.lease.job_id, NOW)
    fail(house)
    assert states(house) == [("", "FAILED"), (pixels, "COMPLETED")]
    assert house.jobs.claim("w", NOW, LEASE) is None


def test_an_answer_waits_for_a_report_that_is_worked_on_and_names_it(house: House) -> None:
    """Whatever order a clock gives them: the report was made before, so the answer is the second."""
    settle(house, Reason.MISSING_SLICES)
    told = claim(house)
    more(house, 4)
    settle(house)
    assert house.jobs.claim("w", NOW, LEASE) is None
    complete(house, told)
    read = claim(house)
    assert [p.sop_instance_uid for p in read.predecessors]
    assert (read.refusal, read.revision) == (None, 2)
    complete(house, read)
    more(house, 5)
    settle(house, digest="y")
    later = claim(house)
    assert later.revision == 3
    assert later.predecessors != read.predecessors


def test_a_report_given_back_is_not_made_after_the_answer(house: House) -> None:
    """A worker that stops gives its report back; the job that reads the study meanwhile makes it needless."""
    settle(house, Reason.MISSING_SLICES)
    told = claim(house)
    more(house, 4)
    settle(house)
    assert house.jobs.release(told.lease, "stopped", NOW, NOW + LEASE)
    assert claim(house).refusal is None
    assert states(house) == [(Reason.MISSING_SLICES, "CANCELED"), ("", "IN PROGRESS")]
    with pytest.raises(IllegalTransitionError, match="superseded by job 2"):
        house.jobs.retry(told.lease.job_id, NOW)


def test_a_study_with_an_answer_or_a_job_under_way_is_not_called_unread(house: House) -> None:
    """A refusal of what came later leaves the answer as it is, and a failed supplement too."""
    settle(house)
    more(house, 4)
    settle(house, Reason.FOUR_D)
    complete(house, claim(house))
    more(house, 5)
    settle(house, Reason.FOUR_D)
    more(house, 6)
    settle(house, digest="y")
    fail(house)
    assert states(house) == [("", "COMPLETED"), ("", "FAILED")]


def test_another_cause_replaces_a_report_that_has_not_begun(house: House) -> None:
    """The newest reason is what a person reads, with all that had come by then."""
    settle(house, Reason.MISSING_SLICES)
    more(house, 4)
    settle(house, Reason.FOUR_D)
    assert states(house) == [(Reason.MISSING_SLICES, "CANCELED"), (Reason.FOUR_D, "SCHEDULED")]
    assert len(claim(house).input.instance_digests) == 4


def test_a_report_that_fails_is_kept_and_makes_no_other(house: House) -> None:
    """A refusal of a refusal would go on for ever."""
    settle(house, Reason.MISSING_SLICES)
    fail(house, Reason.DAMAGED)
    assert states(house) == [(Reason.MISSING_SLICES, "FAILED")]


@pytest.mark.parametrize(
    "case",
    [
        ("MR", Reason.STUDY_TOO_LARGE, 1, True),
        ("MR", Reason.STUDY_TOO_LARGE, 2, False),
        ("MR", Reason.WRONG_BODY_PART, 1, False),
        ("MR", Reason.LOCALIZER, 1, False),
        ("MR", Reason.MIXED_PATIENTS, 2, False),
        (PT, Reason.NO_SUV, 1, True),
        (CT, Reason.NO_PET, 1, False),
        (CT, Reason.STUDY_TOO_LARGE, 1, False),
    ],
)
def test_only_what_somebody_sent_to_be_read_is_told(
    tmp_path: Path, engine: Engine, case: tuple[str, Reason, int, bool]
) -> None:
    """An MR or PET that was refused, of one patient; not other parts of the body, scouts, or a CT."""
    modality, reason, patients, told = case
    made = House(tmp_path, engine)
    made.jobs = Jobs(engine, reports=True)
    for number in range(patients):
        for instance in series(2, uid=f"7.{number}", acquisition=facts(modality), patient=f"p{number}"):
            made.intake.record(instance, "a1")
    settle(made, reason)
    assert [refusal for refusal, _ in states(made)] == ([reason] if told else [])


def test_a_study_stays_until_its_report_is_confirmed(house: House) -> None:
    """A refused study was freed by its age alone; one that is told of it waits for the destination's word."""
    settle(house, Reason.MISSING_SLICES)
    later = NOW + timedelta(days=9)
    assert house.files.freeable(later) == []
    told, (digest, size) = claim(house), house.spool.put(b"report")
    output = Output(
        kind=OutputKind.REPORT,
        sop_class_uid=CLASSES[OutputKind.REPORT],
        sop_instance_uid="9.1",
        series_instance_uid="9",
        digest=digest,
        size=size,
    )
    assert house.jobs.complete(told.lease, house.result((output,)), NOW)
    for state in (DeliveryState.SENT, DeliveryState.CONFIRMED):
        assert house.files.freeable(later) == []
        house.deliveries.change([Change(id=1, state=state, due_at=NOW, detail="")], NOW)
    assert len(house.files.freeable(later)) == 4
