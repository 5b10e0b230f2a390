"""Drift: the index on known distributions, and what the ledger, the metrics and the command line make of it."""

import json
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, delete, insert, text
from typer.testing import CliRunner

from alembic import command
from daemon.cli.main import app
from daemon.domain.drift import LARGE, LEAST, MODERATE, REFERENCE, WINDOW, Level, Quantity, Spread, drifts, psi
from daemon.domain.finding import Answer
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef
from daemon.ledger.engine import connect
from daemon.ledger.scores import Histograms, ScoreBook
from daemon.ledger.tables import JobRow, ScoreRow, StudyRow
from tests.consoles import Site, configured, console
from tests.houses import House as Ledger
from tests.instances import NOW, series
from tests.unit.test_console_migration import JOB, STUDY, move
from tests.unit.test_sentence import found as answered

RUNNER = CliRunner()


def normal(seed: int, count: int, mean: float = 0.0, sd: float = 1.0) -> list[float]:
    """Return draws of a normal distribution."""
    chosen = random.Random(seed)  # noqa: S311 - the same draws each time
    return [chosen.gauss(mean, sd) for _ in range(count)]


def test_the_index_is_the_textbooks() -> None:
    """Of 10, 20, 70 % against 20, 20, 60 % it is 0.1 ln 2 + 0.1 ln(7/6), either way round; of equals it is 0."""
    before, now = (100_000, 200_000, 700_000), (200_000, 200_000, 600_000)
    known = 0.1 * math.log(2) + 0.1 * math.log(7 / 6)
    assert psi(before, now) == pytest.approx(known, abs=1e-5)
    assert psi(now, before) == pytest.approx(known, abs=1e-5)
    assert psi(before, tuple(n // 10 for n in before)) == pytest.approx(0, abs=1e-6)
    assert math.isfinite(psi((0, 5), (5, 0)))


@pytest.mark.parametrize(("mean", "sd"), [(0.5, 1.0), (1.0, 1.0), (0.0, 2.0)])
def test_it_is_the_divergence_of_known_distributions(mean: float, sd: float) -> None:
    """In fifths of a standard normal, a shifted or wider one gives what the normal integral says."""

    def above(value: float) -> float:
        return 0.5 * (1 + math.erf((value - mean) / (sd * math.sqrt(2))))

    spread = Spread.of(normal(1, 100_000))
    ends = [0.0, *(above(edge) for edge in spread.edges), 1.0]
    shares = [high - low for low, high in pairwise(ends)]
    expected = sum((share - 0.2) * math.log(share / 0.2) for share in shares)
    assert psi(spread.counts, spread.counted(normal(2, 100_000, mean, sd))) == pytest.approx(expected, rel=0.05)


def test_what_does_not_drift_hardly_exceeds_the_limits() -> None:
    """With 200 answers on either side one look in twenty exceeds 0.1 by chance, none 0.25; a shift by one SD always."""
    found = []
    for seed in range(400):
        spread = Spread.of(normal(seed, REFERENCE))
        found.append(psi(spread.counts, spread.counted(normal(1000 + seed, WINDOW))))
        assert psi(spread.counts, spread.counted(normal(2000 + seed, WINDOW, 1.0))) > LARGE
    assert fmean(value > MODERATE for value in found) == pytest.approx(0.05, abs=0.03)
    assert max(found) < LARGE


def test_equal_values_share_a_bin() -> None:
    """Most volumes are 0: they are one bin, and what is more lies in others; so it is of a constant."""
    spread = Spread.of([0.0] * 70 + [1.0, 2.0, 3.0] * 10)
    assert (spread.edges, spread.counts) == ((0.0, 1.0), (70, 10, 20))
    constant = Spread.of([0.0] * 200)
    assert psi(constant.counts, constant.counted([0.0] * 200)) == pytest.approx(0, abs=1e-9)
    assert psi(constant.counts, constant.counted([0.0] * 150 + [0.1] * 50)) > LARGE
    for edges, counts in (((1.0, 1.0), (1, 1, 1)), ((1.0,), (1,)), ((1.0,), (-1, 2)), ((1.0,), (0, 0))):
        with pytest.raises(ValueError, match="rising edges"):
            Spread(edges=edges, counts=counts)
    with pytest.raises(ValueError, match="rising edges"):
        Spread.of([])


def test_too_few_answers_say_nothing() -> None:
    """Without a whole reference, or with a short window, there is no index; a bundle's own reference needs no first."""
    full = [{Quantity.RISK: value} for value in normal(1, REFERENCE)]
    by_site = {d.quantity: d for d in drifts({}, full, full[:LEAST])}[Quantity.RISK]
    assert by_site.level is Level.STEADY
    for first, last in ((full[:-1], full), (full, full[: LEAST - 1])):
        found = drifts({}, first, last)
        assert {drift.level for drift in found} == {Level.UNKNOWN}
        assert [drift.quantity for drift in found] == list(Quantity)
    spread = Spread.of(normal(1, 5000, 5.0))
    given = {d.quantity: d for d in drifts({Quantity.RISK: spread}, (), full)}[Quantity.RISK]
    assert (given.level, given.by_bundle, given.reference, given.window) == (Level.LARGE, True, 5000, WINDOW)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A console whose ledger has answers of the PET/CT model: 200 as a reference, then 200 that are surer."""
    house = configured(tmp_path)
    digest = next(bundle.ref.digest for bundle in house.reader.bundles() if bundle.ref.name == "petct")
    fill(house.engine, digest, [*normal(1, REFERENCE, 0.3, 0.1), *normal(2, WINDOW, 0.6, 0.1)])
    with console(house) as running:
        yield running


def fill(engine: Engine, digest: str, probabilities: list[float]) -> None:
    """Write answers of a bundle."""
    study = {"uid": "1", "first_at": NOW, "last_at": NOW, "instances": 1, "dirty": False}
    job = {"study_uid": "1", "bundle": "petct", "bundle_version": "1.0.0", "bundle_digest": digest}
    rest = {"series": {}, "digests": [], "state": "COMPLETED", "created_at": NOW, "not_before": NOW}
    jobs = [{"id": n, "key": str(n), **job, **rest} for n, _ in enumerate(probabilities, 1)]
    zero = {"bundle_digest": digest, "risk": 0.0, "volume_ml": 0.0, "entropy": 0.0, "novelty": None}
    scores = [{"job_id": n, "probability": value, **zero} for n, value in enumerate(probabilities, 1)]
    with engine.begin() as connection:
        for table, rows in ((StudyRow, [study]), (JobRow, jobs), (ScoreRow, scores)):
            connection.execute(insert(table), rows)


def test_page_metrics_and_command_tell_the_same(site: Site) -> None:
    """The models page, Prometheus and `models drift` name the quantity that drifted, and that the others are steady."""
    text = site.browser("vera").get("/models").text
    assert "large drift" in text
    assert "PSI above 0.1 is a moderate drift, above 0.25 a large one" in text
    families = {f.name: f for f in text_string_to_metric_families(site.browser("vera").get("/metrics").text)}
    told = {s.labels["quantity"]: s.value for s in families["overread_drift_psi"].samples}
    assert told["tumour-probability"] > 1
    assert told["survival-risk"] < MODERATE
    assert "novelty" not in told
    config = str(site.house.settings.path)
    arguments = ["models", "drift", "--config", config]
    rows = json.loads(RUNNER.invoke(app, [*arguments, "--json"]).stdout)
    row = next(r for r in rows if (r["model"], r["quantity"]) == ("petct", "tumour-probability"))
    assert row["psi"] == pytest.approx(told["tumour-probability"])
    assert (row["level"], row["window"], row["limits"]) == ("large drift", WINDOW, [MODERATE, LARGE])
    assert {r["level"] for r in rows if r["model"] == "brain-mri"} == {"too few answers"}
    assert "large drift" in RUNNER.invoke(app, arguments, env={"COLUMNS": "160"}).stdout


def test_scores_are_a_histogram(site: Site) -> None:
    """Buckets count every answer up to their end, as Prometheus wants them, the last all of them."""
    text = site.browser("vera").get("/metrics").text
    (family,) = [f for f in text_string_to_metric_families(text) if f.name == "overread_tumour_probability"]
    samples = {s.labels.get("le", s.name): s.value for s in family.samples}
    assert samples["+Inf"] == samples["overread_tumour_probability_count"] == REFERENCE + WINDOW
    counts = [samples[f"{n / 10}"] for n in range(1, 10)]
    assert counts == sorted(counts)
    assert samples["0.5"] == pytest.approx(0.98 * REFERENCE + 0.16 * WINDOW, rel=0.1)


def test_what_was_counted_is_not_counted_again(tmp_path: Path) -> None:
    """A histogram that is asked for between answers is the one that is asked for once after them all."""
    house = configured(tmp_path)
    grown = Histograms(house.engine)
    assert grown.now() == []
    values = [n % 100 / 100 for n in range(2500)]
    fill(house.engine, "d" * 64, values)
    whole = Histograms(house.engine).now()
    with house.engine.begin() as connection:
        kept = connection.execute(ScoreRow.__table__.select().where(ScoreRow.id > 1800)).mappings().all()
        connection.execute(delete(ScoreRow).where(ScoreRow.id > 1800))
    assert grown.now()[0].count == 1800
    with house.engine.begin() as connection:
        connection.execute(insert(ScoreRow), [dict(row) for row in kept])
    (found,), (wanted,) = grown.now(), whole
    assert (found.count, found.up_to) == (2500, wanted.up_to)
    assert found.total == pytest.approx(wanted.total)
    house.engine.dispose()


def test_an_answer_leaves_its_numbers(tmp_path: Path) -> None:
    """A completed job's numbers are kept in its transaction, those of one bundle apart from those of another."""
    house = configured(tmp_path)
    ledger = Ledger(tmp_path, house.engine)
    for instance in series(3):
        ledger.intake.record(instance, "a1")
    (study,) = ledger.jobs.waiting_studies()
    job = JobInput(study_instance_uid="1.2", series={"MR": "1.2.5"}, instance_digests=("x",))
    ledger.jobs.settle(study, [(job, BundleRef(name="b", version="1", digest="d" * 64))], None, NOW)
    claimed = ledger.jobs.claim("w", NOW, timedelta(minutes=1))
    assert claimed is not None
    found = replace(answered(Answer.LIKELY, (0.9, 0.1), (2.0, 3.0)), novelty=0.5)
    assert ledger.jobs.complete(claimed.lease, replace(ledger.result(()), findings=found), NOW)
    with house.engine.connect() as connection:
        (row,) = connection.execute(ScoreRow.__table__.select()).all()
    assert (row.job_id, row.bundle_digest, row.novelty) == (1, "d" * 64, 0.5)
    assert row.probability == found.tumour_probability.mean
    assert row.volume_ml == sum(lesion.volume_ml for lesion in found.lesions)
    assert ScoreBook(house.engine).drift("e" * 64, {})[0].reference == 0
    house.engine.dispose()


def test_the_migration_keeps_what_was_answered(tmp_path: Path) -> None:
    """Answers of before have their numbers after it, in their order; a job without findings has none; and back."""
    engine = connect(f"sqlite:///{tmp_path / 'ledger.db'}")
    move(engine, command.upgrade, "0011")
    half = {"mean": 0.5, "sd": 0.1}
    old = {
        "tumour_probability": half,
        "survival_risk": half,
        "uncertainty": {"score": 0.2},
        "lesions": [{"volume_ml": 2.0}, {"volume_ml": 3.0}],
    }
    with engine.begin() as connection:
        connection.execute(text(STUDY), {"at": "2026-01-01 12:00:00.000000"})
        for number, document in ((1, old), (2, {}), (3, old)):
            row = {"id": number, "key": str(number), "at": "2026-01-01 12:00:00.000000"}
            connection.execute(text(JOB), {**row, "findings": json.dumps(document)})
    move(engine, command.upgrade, "head")
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT job_id, probability, volume_ml, entropy FROM scores ORDER BY id")).all()
    assert [tuple(row) for row in rows] == [(1, 0.5, 5.0, 0.2), (3, 0.5, 5.0, 0.2)]
    move(engine, command.downgrade, "0011")
    engine.dispose()
