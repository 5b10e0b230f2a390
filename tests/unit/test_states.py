"""State tables: every pair is either legal and explained, or illegal."""

from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest

from daemon.domain.delivery import TRANSITIONS as DELIVERY_TRANSITIONS
from daemon.domain.delivery import DeliveryState, RetryPolicy
from daemon.domain.job import TRANSITIONS, JobInput, JobState, job_key, may_move

STATES_PAGE = Path(__file__).resolve().parents[2] / "docs" / "states.md"
LEGAL = {
    ("SCHEDULED", "IN PROGRESS"),
    ("SCHEDULED", "CANCELED"),
    ("IN PROGRESS", "COMPLETED"),
    ("IN PROGRESS", "FAILED"),
    ("IN PROGRESS", "SCHEDULED"),
    ("FAILED", "SCHEDULED"),
    ("CANCELED", "SCHEDULED"),
}


@pytest.mark.parametrize(("old", "new"), list(product(JobState, JobState)))
def test_job_transitions(old: JobState, new: JobState) -> None:
    """A job moves only where the table says, and the table says why."""
    assert may_move(old, new) == ((old.value, new.value) in LEGAL)
    assert not may_move(old, new) or TRANSITIONS[old, new]


DELIVERY_LEGAL = {
    ("PENDING", "PENDING"),
    ("PENDING", "SENT"),
    ("PENDING", "DEAD"),
    ("PENDING", "REPLACED"),
    ("REPLACED", "PENDING"),
    ("SENT", "SENT"),
    ("SENT", "CONFIRMED"),
    ("SENT", "PENDING"),
    ("SENT", "UNCONFIRMED"),
    ("SENT", "DEAD"),
    ("UNCONFIRMED", "CONFIRMED"),
    ("UNCONFIRMED", "PENDING"),
    ("UNCONFIRMED", "UNCONFIRMED"),
    ("DEAD", "PENDING"),
}


@pytest.mark.parametrize(("old", "new"), list(product(DeliveryState, DeliveryState)))
def test_delivery_transitions(old: DeliveryState, new: DeliveryState) -> None:
    """A delivery moves only where the table says, the table says why, and the document has the line."""
    legal = (old.value, new.value) in DELIVERY_LEGAL
    assert ((old, new) in DELIVERY_TRANSITIONS) == legal
    line = f"| {old.value} | {new.value} | {DELIVERY_TRANSITIONS.get((old, new))}"
    assert (line in STATES_PAGE.read_text(encoding="utf-8")) == legal


def test_completed_and_confirmed_are_final() -> None:
    """Nothing leaves COMPLETED or CONFIRMED."""
    assert not any(old is JobState.COMPLETED for old, _ in TRANSITIONS)
    assert not any(old is DeliveryState.CONFIRMED for old, _ in DELIVERY_TRANSITIONS)


def test_backoff_doubles_up_to_its_limit_with_jitter() -> None:
    """The wait doubles from first to longest; jitter takes at most half of it away."""
    policy = RetryPolicy(first=timedelta(seconds=5), longest=timedelta(seconds=60))
    assert [policy.wait(n, 1.0).total_seconds() for n in (1, 2, 3, 4, 5, 50)] == [5, 10, 20, 40, 60, 60]
    assert policy.wait(3, 0.0) == timedelta(seconds=10)


def test_a_job_is_its_input_and_its_bundle() -> None:
    """Order of digests does not matter; another instance, role or bundle makes another job."""
    base = JobInput(study_instance_uid="1", series={"MR": "2"}, instance_digests=("a", "b"))
    turned = JobInput(study_instance_uid="1", series={"MR": "2"}, instance_digests=("b", "a"))
    more = JobInput(study_instance_uid="1", series={"MR": "2"}, instance_digests=("a", "b", "c"))
    assert job_key(base, "x") == job_key(turned, "x")
    assert len({job_key(base, "x"), job_key(more, "x"), job_key(base, "y")}) == 3
