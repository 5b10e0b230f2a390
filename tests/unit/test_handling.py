"""How soon a job is taken and by whom: decided by what DICOM carries and the administrator's rules."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from daemon.domain.assembly import Chosen, StudyFacts
from daemon.domain.handling import NO_RULES, Handling, HandlingRules, Priority, Resource, handling
from daemon.domain.instance import by_series
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef
from daemon.imaging.facts import Stored, look, read_facts
from daemon.ledger.intake import Intake
from daemon.ledger.jobs import Jobs
from daemon.ledger.queries import Queries
from tests.instances import NOW, facts, series
from tests.pushes import saved, stack

RULES = HandlingRules(urgent_callers=frozenset({"ER_CT"}), urgent_words=frozenset({"Notfall"}))


def decided(rules: HandlingRules = NO_RULES, *, callers: tuple[str, ...] = ("MR1",), **changes: object) -> Handling:
    """Return how a study of three slices with such facts is handled."""
    instances = tuple(series(3, acquisition=facts(**changes)))  # type: ignore[arg-type]
    study = StudyFacts(
        study_instance_uid="1.2", instances=instances, open_associations=0, conflicts=0, callers=frozenset(callers)
    )
    return handling(study, Chosen(bundle="brain-mri", series={"MR": by_series(instances)[0]}), rules)


@pytest.mark.parametrize(
    ("term", "priority"),
    [
        ("STAT", Priority.STAT),
        ("HIGH", Priority.HIGH),
        ("MEDIUM", Priority.ROUTINE),
        ("ROUTINE", Priority.ROUTINE),
        ("LOW", Priority.LOW),
        ("", Priority.ROUTINE),
        ("AT ONCE", Priority.ROUTINE),
    ],
)
def test_the_requested_priority_decides(term: str, priority: Priority) -> None:
    """Every term of (0040,1003) has its rank, and what is no term has none; the reason names the attribute."""
    found = decided(requested_priority=term)
    assert found.priority is priority
    assert bool(found.reason) is (term in {"STAT", "HIGH", "ROUTINE", "LOW"})


def test_the_administrators_rules_decide_too() -> None:
    """Who sends, or a whole word of a description, makes a study urgent; the most urgent counts, with its reason."""
    assert decided(RULES, callers=("ER_CT",)) == Handling(priority=Priority.STAT, reason="STAT: sent by ER_CT")
    named = decided(RULES, description="Schaedel_NOTFALL nativ", requested_priority="LOW")
    assert named == Handling(priority=Priority.STAT, reason="STAT: a description has the word Notfall")
    assert decided(RULES, protocol_name="notfallradiologie").priority is Priority.ROUTINE
    assert decided(RULES) == Handling()


def test_size_and_model_choose_the_workers() -> None:
    """A study whose pixels take more than is set wants big memory, whatever the model; a named model wants a GPU."""
    bytes_of_three = 3 * 256 * 256 * 2
    gpu = frozenset({"brain-mri"})
    assert decided(HandlingRules(big_bytes=bytes_of_three)).resource is Resource.CPU
    assert decided(HandlingRules(big_bytes=bytes_of_three - 1, gpu_models=gpu)).resource is Resource.BIG_MEMORY
    assert decided(HandlingRules(gpu_models=gpu)).resource is Resource.GPU


def test_the_header_s_priority_is_read(tmp_path: Path) -> None:
    """The quick look and pydicom find (0040,1003) alike."""
    (dataset,) = stack(count=1)
    dataset.RequestedProcedurePriority = "STAT"
    (path,) = saved([dataset], tmp_path)
    content = path.read_bytes()
    stored = Stored(digest="x", size=len(content), received_at=NOW, patient_salt=b"s")
    assert {read_facts(path, stored, look(head)).acquisition.requested_priority for head in (content, b"")} == {"STAT"}


def test_the_most_urgent_job_is_claimed_first(engine: Engine) -> None:
    """Then the oldest; of one resource where a worker asks for that. Why stands in the job's history."""
    jobs, intake = Jobs(engine), Intake(engine)
    intake.opened("a1", "MR1", NOW)
    wanted = (
        Handling(),
        Handling(priority=Priority.LOW),
        Handling(priority=Priority.STAT, reason="STAT: sent by ER_CT"),
        Handling(priority=Priority.STAT, resource=Resource.BIG_MEMORY),
    )
    for number, one in enumerate(wanted):
        uid = f"1.2.{number}"
        for instance in series(2, uid=f"{number}"):
            intake.record(replace(instance, study_instance_uid=uid), "a1")
        (study,) = jobs.waiting_studies()
        assert study.callers == {"MR1"}
        job = JobInput(study_instance_uid=uid, series={"MR": "1"}, instance_digests=(uid,), handling=one)
        at = NOW + timedelta(seconds=number)
        assert jobs.settle(study, [(job, BundleRef(name="b", version="1", digest="d" * 64))], None, at)
    later, lease = NOW + timedelta(minutes=1), timedelta(minutes=1)
    order = [jobs.claim("w", later, lease, Resource.CPU), *(jobs.claim("w", later, lease) for _ in range(4))]
    assert [claimed and claimed.lease.job_id for claimed in order] == [3, 4, 1, 2, None]
    assert any(event.detail == "study assembled; STAT: sent by ER_CT" for event in Queries(engine).events(3))
