"""A bundle whose survival was never fitted: no object, row, page or command shows a risk."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest
from typer.testing import CliRunner

from daemon.bootstrap import House
from daemon.cli.main import app
from daemon.domain import codes
from daemon.domain.drift import Quantity, Spread, scores
from daemon.domain.finding import Answer, Estimate, Findings, RiskClass
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef, Calibration
from daemon.domain.second import SecondOutcome
from daemon.ledger.rows import findings_json, findings_of
from daemon.ledger.scores import ScoreBook
from daemon.ledger.seconds import Seconds
from dicom_fixtures.planes import Layout
from dicom_fixtures.studies import StudyRequest, make_brain_mri
from tests.consoles import configured, console
from tests.houses import House as Ledger
from tests.instances import NOW, series
from tests.manifests import BRAIN, UNFITTED
from tests.sources import COARSE
from tests.tiny_bundle import make_tiny_bundle
from tests.unit.test_sentence import found

RUNNER = CliRunner()
DIGEST = "d" * 64
KNOWN = replace(
    found(Answer.LIKELY, (0.9, 0.1), (2.0,)),
    survival_risk=Estimate(mean=0.125, sd=0.5),
    risk_class=RiskClass.MODERATE,
    survival={1: Estimate(mean=0.9, sd=0.01)},
)
SILENT = replace(KNOWN, survival_risk=None, risk_class=None, survival={})


@pytest.mark.parametrize(("calibration", "said"), [(BRAIN.calibration, True), (UNFITTED, False)])
def test_the_command_and_its_objects(
    calibration: Calibration,
    said: bool,  # noqa: FBT001 - a case
    tmp_path: Path,
) -> None:
    """The answer passes the gate; JSON, table and report give a risk where it was fitted alone."""
    make_tiny_bundle(tmp_path / "models" / BRAIN.name / "1", replace(BRAIN, calibration=calibration))
    request = StudyRequest(seed=3, spacing=COARSE, layout=Layout(spacing=COARSE, matrix=(64, 64)))
    study = make_brain_mri(request, tmp_path / "study").folder
    asked = ["process", str(study), "--models", str(tmp_path / "models"), "--output", "pdf", "--out", str(tmp_path)]
    (other,), (job,) = (json.loads(RUNNER.invoke(app, [*asked, "--json"]).stdout)["jobs"] for _ in range(2))
    named = [{Path(output["path"]).name for output in one["outputs"]} for one in (other, job)]
    assert named[0].isdisjoint(named[1]), "another run has other dates, so its objects are others"
    assert job["state"] == "COMPLETED"
    assert (job["survival_risk"] is not None, bool(job["survival"])) == (said, said)
    written = next(one["path"] for one in job["outputs"] if one["type"] == "SR")
    report = str(pydicom.dcmread(written))
    for concept in (codes.RISK_SCORE, codes.RISK_CLASS, codes.survival(1)):
        assert (concept.value in report) is said
    assert ("not fitted" in RUNNER.invoke(app, asked, env={"COLUMNS": "200"}).stdout) is not said


def answered(folder: Path, findings: Sequence[Findings]) -> House:
    """Return a house whose ledger holds a job for each of the findings."""
    house = configured(folder)
    ledger = Ledger(folder, house.engine)
    for number, one in enumerate(findings, 1):
        for instance in series(3, uid=str(number)):
            ledger.intake.record(instance, "a1")
        (study,) = ledger.jobs.waiting_studies()
        job = JobInput(study_instance_uid="1.2", series={"MR": f"1.2.{number}"}, instance_digests=(str(number),))
        ledger.jobs.settle(study, [(job, BundleRef(name="b", version="1", digest=DIGEST))], None, NOW)
        claimed = ledger.jobs.claim("w", NOW, timedelta(minutes=1))
        assert claimed is not None
        assert ledger.jobs.complete(claimed.lease, replace(ledger.result(()), findings=one), NOW)
    return house


def test_drift_is_told_by_the_risks_that_there_are(tmp_path: Path) -> None:
    """Of an answer without risk and one with it the second alone counts, and none for the first reading."""
    assert Quantity.RISK not in scores(SILENT)
    house = answered(tmp_path, (SILENT, KNOWN))
    given = dict.fromkeys((Quantity.RISK, Quantity.PROBABILITY), Spread.of([0.1, 0.2, 0.3]))
    windows = {drift.quantity: drift.window for drift in ScoreBook(house.engine).drift(DIGEST, given)}
    assert (windows[Quantity.PROBABILITY], windows[Quantity.RISK]) == (2, 1)
    house.engine.dispose()


@pytest.mark.parametrize("findings", [SILENT, KNOWN])
def test_findings_come_back_from_their_row(findings: Findings) -> None:
    """Without a risk, and with one as all rows of before have it."""
    assert findings_of(json.loads(json.dumps(findings_json(findings)))) == findings


def test_the_console_says_that_it_is_not_fitted(tmp_path: Path) -> None:
    """On the study's page, for the answer and for a second read beside it; a fitted one has its numbers there."""
    house = answered(tmp_path, (SILENT, KNOWN))
    seconds = Seconds(house.engine)
    seconds.ask(1, BundleRef(name="b", version="2", digest="e" * 64), "ada", NOW)
    task = seconds.claim(NOW, NOW + timedelta(minutes=1))
    assert task is not None
    assert seconds.settle(task, SecondOutcome(findings=SILENT, dice=0.5), NOW)
    with console(house) as site:
        text = site.browser("vera").get("/studies/1.2").text
    assert text.count("not fitted") == 2
    assert text.count("0.125 ± 0.500 (moderate)") == 1
