"""Second reads: another bundle reads what was answered, while nothing else waits, and nothing of it goes anywhere."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import delete, func, select, update

from daemon.bootstrap import House
from daemon.domain.finding import Answer
from daemon.domain.model_bundle import BundleRef, InstalledBundle
from daemon.domain.output import OutputKind
from daemon.domain.pause import Activity
from daemon.domain.second import SHADOW, SecondOutcome, SecondState, beside
from daemon.errors import FatalError, RefusedError
from daemon.ledger.queries import JobView
from daemon.ledger.seconds import Seconds, SecondView
from daemon.ledger.tables import DeliveryRow, JobRow, OutputRow, SecondRow
from daemon.results.returned import overlap
from daemon.second import candidates, second, shadowing, shadows
from daemon.services.ports import Reader
from daemon.services.process import Process
from daemon.services.second import PAUSE, Second, SecondRules, SecondStores
from dicom_fixtures.planes import Layout
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.consoles import configured, console, csrf
from tests.holdings import receive
from tests.houses import StillClock
from tests.manifests import BRAIN, PETCT
from tests.sources import COARSE, case
from tests.tiny_bundle import make_tiny_bundle
from tests.unit.test_sentence import found as answered

HEAD = StudyRequest(seed=3, spacing=COARSE, layout=Layout(spacing=COARSE, matrix=(64, 64)))
OTHER = BundleRef(name="brain-mri", version="9", digest="e" * 64)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle that answers, and in another folder a newer version of it that is less sure."""
    folder = tmp_path_factory.mktemp("models")
    make_tiny_bundle(folder / "first" / BRAIN.name / "1.0.0", replace(BRAIN, version="1.0.0"))
    calibration = replace(BRAIN.calibration, platt_intercept=BRAIN.calibration.platt_intercept - 4)
    newer = replace(BRAIN, version="2.0.0", calibration=calibration)
    make_tiny_bundle(folder / "shadow" / BRAIN.name / "2.0.0", newer)
    return folder


def settled(folder: Path, models: Path, *, shadow: bool = True) -> House:
    """Return the house in a folder, its bundles those of `models`."""
    lines = [f'models = "{models / "first"}"', "passes = 4", *([f'shadow = "{models / "shadow"}"'] if shadow else [])]
    return configured(folder, "\n".join(["[inference]", *lines, "[assembly]", "quiet_seconds = 0.01", ""]))


def worked(folder: Path, models: Path, *, shadow: bool = True) -> House:
    """Return a house that has received an MRI study and answered it."""
    house = settled(folder, models, shadow=shadow)
    study = make_brain_mri(HEAD, folder / "study")
    now = house.clock.now()
    intake = house.intake()
    intake.opened("a1", "MR1", now)
    for path in sorted(study.folder.rglob("*.dcm")):
        receive(house, path)
    intake.closed("a1", now)
    assemble = house.assemble()
    while not assemble.step():
        pass
    assert process(house).step()
    assert job(house).findings["lesions"]
    return house


def process(house: House) -> Process:
    """Return a worker that knows of the bundles in shadow."""
    return house.process(shadowing(house.settings))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """The folder of a house with one answer and a bundle in shadow."""
    folder = tmp_path_factory.mktemp("kept")
    worked(folder, models).engine.dispose()
    return folder


@pytest.fixture
def house(tmp_path: Path, models: Path, kept: Path) -> Iterator[House]:
    """A copy of that house."""
    shutil.copytree(kept / "data", tmp_path / "data")
    made = settled(tmp_path, models)
    yield made
    made.engine.dispose()


def job(house: House) -> JobView:
    """Return the one job."""
    (found,) = house.queries.jobs()
    return found


def seen(house: House) -> list[SecondView]:
    """Return all second reads of it."""
    return Seconds(house.engine).of_jobs([job(house).id])


def sent(house: House) -> tuple[int, int]:
    """Return how many outputs and deliveries there are."""
    with house.engine.connect() as connection:
        outputs, deliveries = (select(func.count()).select_from(table) for table in (OutputRow, DeliveryRow))
        return connection.scalar(outputs) or 0, connection.scalar(deliveries) or 0


def test_a_bundle_in_shadow_reads_what_was_answered_and_sends_nothing(house: House) -> None:
    """Findings and Dice of the outlines stand beside the answer; outputs, deliveries and the job are as they were."""
    before, answer = sent(house), job(house)
    (planned,) = seen(house)
    assert (planned.state, planned.by, planned.version) == (SecondState.SCHEDULED, SHADOW, "2.0.0")
    assert second(house, bool).step()
    (read,) = seen(house)
    assert (read.state, read.detail) == (SecondState.COMPLETED, "")
    # The same weights outline nearly the same voxels, by passes of its own; the calibration takes the probability down.
    assert read.dice is not None
    assert 0.9 < read.dice <= 1
    theirs, ours = (findings["lesions"][0]["volume_ml"] for findings in (read.findings, answer.findings))
    assert theirs == pytest.approx(ours, rel=0.1)
    assert read.findings["tumour_probability"]["mean"] < answer.findings["tumour_probability"]["mean"]
    assert (sent(house), job(house)) == (before, answer)
    assert not second(house, bool).step()
    (compared,) = Seconds(house.engine).comparisons()
    assert (compared.version, compared.compared, compared.dice, compared.waiting) == ("2.0.0", 1, read.dice, 0)
    assert compared.apart is not None
    assert compared.apart > 0


def test_without_shadow_there_is_nothing(tmp_path: Path, models: Path) -> None:
    """Without the setting no row is written, nothing is due, and no bundle is loaded for it."""
    house = worked(tmp_path, models, shadow=False)
    assert shadows(house.settings) == ()
    assert seen(house) == []
    assert not second(house, bool).step()
    house.engine.dispose()


def test_a_read_gives_way(house: House) -> None:
    """It does not begin while something waits, breaks off when something comes, and then is as if it had not begun."""
    asked: list[bool] = []

    def waits() -> bool:
        asked.append(True)
        return len(asked) > 1

    assert not second(house, lambda: True).step()
    assert second(house, waits).step()
    assert len(asked) == 2
    (read,) = seen(house)
    assert (read.state, read.detail) == (SecondState.SCHEDULED, "gave way to a study that waits for its answer")
    with house.engine.connect() as connection:
        assert connection.scalar(select(SecondRow.attempts)) == 0
    assert second(house, bool).step()
    assert seen(house)[0].state == SecondState.COMPLETED


def test_it_gives_way_within_the_read(house: House) -> None:
    """Between two runs of a graph it is asked too: the real answer waits for one run at most, not for a study."""
    asked: list[bool] = []

    def waits() -> bool:
        asked.append(True)
        return len(asked) > 2

    verb = second(house, waits)
    assert verb.step()
    assert len(asked) == 3
    assert seen(house)[0].state == SecondState.SCHEDULED


@pytest.mark.parametrize("state", ["SCHEDULED", "IN PROGRESS"])
def test_nothing_is_claimed_while_a_job_is_due_or_worked_on(house: House, state: str) -> None:
    """Whoever works on it; nor while jobs are paused."""
    seconds, now = Seconds(house.engine), house.clock.now()
    with house.engine.begin() as connection:
        connection.execute(update(JobRow).values(state=state))
    assert seconds.busy(now)
    assert seconds.claim(now, now) is None
    with house.engine.begin() as connection:
        connection.execute(update(JobRow).values(state="COMPLETED"))
    house.pauses.begin([Activity.JOBS], "ada", now)
    assert seconds.claim(now, now) is None
    house.pauses.end()
    assert seconds.claim(now, now) is not None


def test_two_workers_settle_a_read_once(house: House) -> None:
    """One whose time ran out writes nothing any more; after three deaths it is not read again."""
    seconds, now = Seconds(house.engine), house.clock.now()
    first = seconds.claim(now, now + timedelta(minutes=1))
    assert first is not None
    assert seconds.claim(now, now + timedelta(minutes=1)) is None
    later = now + timedelta(minutes=2)
    again = seconds.claim(later, later)
    assert again is not None
    assert (again.id, again.attempts) == (first.id, 2)
    outcome = SecondOutcome(findings=answered(Answer.LIKELY, (0.9, 0.1), (2.0,)), dice=0.5)
    assert not seconds.settle(first, outcome, later)
    assert seconds.settle(again, outcome, later)
    assert seen(house)[0].dice == 0.5
    seconds.ask(job(house).id, OTHER, "ada", now)
    with house.engine.begin() as connection:
        connection.execute(update(SecondRow).where(SecondRow.bundle_digest == OTHER.digest).values(attempts=3))
    assert second(house, bool).step()
    assert "begun 3 times, the last without an end" in seen(house)[1].detail


def test_what_fails_for_now_is_read_again_after_a_pause_and_ends(house: House) -> None:
    """A fault that passes costs a minute, one that stays three attempts; the reason stands there."""

    def away() -> Reader:
        raise OSError("disk away")

    at = StillClock()
    stores = SecondStores(seconds=Seconds(house.engine), files=house.files, spool=house.spool)
    at.at = house.clock.now()
    verb = Second(stores, at, SecondRules(reader=away, waits=bool))
    for _ in range(2):
        assert verb.step()
        assert not verb.step()
        (read,) = seen(house)
        assert (read.state, read.detail) == (SecondState.SCHEDULED, "disk away")
        at.at += PAUSE
    assert verb.step()
    (read,) = seen(house)
    assert read.state == SecondState.FAILED
    assert read.detail == "begun 3 times, the last in vain: disk away; mend that, then ask for it again"


def test_what_somebody_asks_for_is_read_first_and_once(house: House) -> None:
    """Asked for before ordered; asking twice is one read; what failed is read again; some is refused."""
    seconds, now, number = Seconds(house.engine), house.clock.now(), job(house).id
    for _ in range(2):
        seconds.ask(number, OTHER, "ada", now)
    assert [one.by for one in seen(house)] == [SHADOW, "ada"]
    assert second(house, bool).step()
    assert "bundle brain-mri 9 is not installed" in seen(house)[1].detail
    assert seen(house)[0].state == SecondState.SCHEDULED
    seconds.ask(number, OTHER, "otto", now)
    assert (seen(house)[1].state, seen(house)[1].by) == (SecondState.SCHEDULED, "otto")
    own = BundleRef(name="brain-mri", version="1.0.0", digest=job(house).bundle_digest)
    for wrong, ref in ((number, own), (99, OTHER)):
        with pytest.raises(RefusedError):
            seconds.ask(wrong, ref, "ada", now)


def test_what_is_gone_or_not_to_be_read_is_said(house: House) -> None:
    """Files that are gone, and a bundle that would read nothing of the study, end it with the reason."""
    (shadow,) = shadows(house.settings)
    picky = replace(shadow.manifest, eligibility=replace(BRAIN.eligibility, sequences=("T1C",)), version="3.0.0")
    place = make_tiny_bundle(house.settings.models() / BRAIN.name / "0.9.0", picky)
    try:
        ref = next(one.ref for one in candidates(house.settings) if one.ref.version == "3.0.0")
        Seconds(house.engine).ask(job(house).id, ref, "ada", house.clock.now())
        assert second(house, bool).step()
        assert "the bundle does not read it" in seen(house)[1].detail
    finally:
        for path in sorted(place.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        place.rmdir()
    for path in (house.spool.root / "objects").glob("*/*"):
        path.unlink()
    assert second(house, bool).step()
    assert "gone from the spool" in seen(house)[0].detail
    assert seen(house)[0].state == SecondState.FAILED


def test_only_what_reads_the_same_roles_is_beside() -> None:
    """A PET/CT bundle reads no MRI study, and no bundle stands beside itself."""
    shadow = [InstalledBundle(ref=OTHER, manifest=BRAIN), InstalledBundle(ref=replace(OTHER, name="p"), manifest=PETCT)]
    first = replace(OTHER, digest="f" * 64)
    assert beside(shadow, ["MR"], first) == (OTHER,)
    assert [ref.name for ref in beside(shadow, ["PET", "CT"], first)] == ["p"]
    assert beside(shadow, ["MR"], OTHER) == ()


def test_an_empty_shadow_ends_the_start(tmp_path: Path) -> None:
    """A folder without a bundle is named, with the mend."""
    (tmp_path / "none").mkdir()
    house = configured(tmp_path, '[inference]\nshadow = "none"')
    with pytest.raises(FatalError, match=r"correct inference\.shadow"):
        shadows(house.settings)
    house.engine.dispose()


def test_dice_is_of_voxels_in_the_patient(tmp_path: Path) -> None:
    """Our SEG against its own voxels is 1, against a half of them 2/3, against none 0."""
    truth = make_brain_mri(HEAD, tmp_path / "study")
    made = case(list(truth.series["FLAIR"]), 1)
    path = tmp_path / "seg.dcm"
    path.write_bytes(made.contents[OutputKind.SEGMENTATION])
    outlined = made.labels > 0
    grid = made.context.source.volume.grid
    half = outlined & (np.cumsum(outlined).reshape(outlined.shape) * 2 <= outlined.sum())
    assert overlap(path, outlined, grid) == 1
    assert overlap(path, half, grid) == pytest.approx(2 / 3, abs=0.02)
    assert overlap(path, np.zeros_like(outlined), grid) == 0
    moved = replace(grid, origin=(grid.origin[0] + 0.7, *grid.origin[1:]))
    with pytest.raises(RefusedError, match="other grids"):
        overlap(path, outlined, moved)


def test_an_operator_compares_in_the_console(house: House) -> None:
    """The form offers what reads the same, schedules once, and is audited; a viewer sees what came of it, no form."""
    number = job(house).id
    with console(house) as site:
        operator, viewer = site.browser("otto"), site.browser("vera")
        page = f"/studies/{job(house).study_instance_uid}"
        assert f"/jobs/{number}/compare" not in viewer.get(page).text
        # What is in shadow has its read already.
        assert f"/jobs/{number}/compare" not in operator.get(page).text
        with house.engine.begin() as connection:
            connection.execute(delete(SecondRow))
        digest = next(one.ref.digest for one in candidates(house.settings) if one.ref.version == "2.0.0")
        assert f'value="{digest}"' in operator.get(page).text
        form = {"csrf": csrf(operator), "bundle": digest}
        assert viewer.post(f"/jobs/{number}/compare", data=form | {"csrf": csrf(viewer)}).status_code == 403
        for _ in range(2):
            answer = operator.post(f"/jobs/{number}/compare", data=form)
            assert answer.headers["location"] == f"{page}#job{number}"
        assert operator.post(f"/jobs/{number}/compare", data=form | {"bundle": "0"}).status_code == 409
        assert operator.post("/jobs/99/compare", data=form).status_code == 404
        assert second(house, bool).step()
        text = viewer.get(page).text
        assert "Read with other bundles" in text
        assert "web:otto" in text
        assert f'class="number">{seen(house)[0].dice:.3f}<' in text
        models = viewer.get("/models").text
        assert "Second readers" in models
        assert "100.0 %" in models or "0.0 %" in models
        acted = [event for event in site.events() if event["type"] == "Use of Restricted Function"]
        assert [event["what"][0].rpartition("#")[2] for event in acted] == [f"jobs/{number}"] * 2
