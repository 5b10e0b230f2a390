"""What holds of synthetic cohorts and their command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import typer
from lifelines import CoxPHFitter
from pandas import DataFrame
from typer.testing import CliRunner

from daemon.domain.model_bundle import Recipe
from dicom_fixtures.phantoms import PetCtRequest, petct
from training.commands.synth import synth
from training.data.cohort import Cohort, draw, name, summarise, write
from training.data.sample import Sample
from training.data.synthetic import STAGE_HAZARD, clinical, follow_up
from training.settings import load

CONFIGS = Path(__file__).parents[2] / "training" / "configs"


def recipe(kind: str) -> Recipe:
    coarse = {"brain": (8.0, 4.0, 4.0), "petct": (8.0, 8.0, 8.0)}[kind]
    return replace(load(CONFIGS / ("brain-mri.toml" if kind == "brain" else "petct.toml")).recipe, spacing=coarse)


def cohort(
    kind: Literal["brain", "petct"] = "petct", seed: int = 1, stratum: str = "", *, shifted: bool = False
) -> Cohort:
    return Cohort(kind=kind, seed=seed, recipe=recipe(kind), stratum=stratum, shifted=shifted)


def test_a_patient_depends_on_seed_number_and_options_alone() -> None:
    """Drawn twice it is the same to the bit; another number, seed or option gives another."""
    one = draw(cohort(), 2)
    np.testing.assert_array_equal(one.image, draw(cohort(), 2).image)
    others = [draw(cohort(), 3), draw(cohort(seed=2), 2), draw(cohort(stratum="small"), 2)]
    assert len({(s.name, s.log_hazard) for s in (one, *others)}) == 4


def test_an_interrupted_cohort_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Files that are there stay untouched, and more patients extend the cohort."""
    first = write(cohort(), tmp_path, 2, workers=1)
    written = [path.stat().st_mtime_ns for path in first]
    all_three = write(cohort(), tmp_path, 3, workers=1)
    assert all_three[:2] == first
    assert [path.stat().st_mtime_ns for path in first] == written
    np.testing.assert_array_equal(Sample.load(all_three[2]).image, draw(cohort(), 2).image)


def test_another_cohort_is_not_mixed_into_a_folder(tmp_path: Path) -> None:
    """Other options in the same folder are an error that says so."""
    write(cohort(), tmp_path, 1, workers=1)
    with pytest.raises(ValueError, match="other options"):
        write(cohort(seed=2), tmp_path, 1, workers=1)


def test_samples_carry_strata_patient_and_covariates() -> None:
    """A shifted, hard study says both; every patient has an age and a stage that fits its tumour."""
    hard = draw(cohort(stratum="near bladder", shifted=True), 0)
    assert hard.strata == ("near bladder", "shifted")
    assert hard.source == "shifted phantom FDG"
    assert hard.tumour == 1
    assert hard.patient == hard.name == "petct-s1-shift-near_bladder-00000"
    assert 18 <= hard.covariates["age_years"] <= 88
    assert 1 <= hard.covariates["stage"] <= 4
    assert hard.mask is not None
    assert hard.mask.shape == hard.image.shape[1:]


def test_a_head_is_drawn_in_the_contrast_asked_for() -> None:
    """A fixed contrast holds for every patient, and the sample is on the recipe's grid."""
    fixed = replace(cohort("brain"), contrast="T1C")
    drawn = draw(fixed, 0)
    assert drawn.source == "phantom T1C"
    assert drawn.spacing == recipe("brain").spacing
    assert drawn.image.shape[0] == 1


def test_stage_adds_its_hazard() -> None:
    """The log hazard is the phantom's own and a known step per stage over 1; no tumour is stage 0."""
    rng = np.random.default_rng(1)
    ill, well = (petct(PetCtRequest(seed=3, lesions=k, spacing=(8.0, 8.0, 8.0), randomise=True)) for k in (1, 0))
    covariates, hazard = clinical(rng, ill)
    assert hazard == pytest.approx(ill.log_hazard + STAGE_HAZARD * (covariates["stage"] - 1))
    assert clinical(rng, well)[0]["stage"] == 0
    assert clinical(rng, well)[1] == well.log_hazard


def test_follow_up_has_the_hazard_it_was_drawn_from() -> None:
    """A Cox model of many drawn patients finds the coefficient 1 of the true log hazard."""
    rng = np.random.default_rng(7)
    hazard = rng.normal(0, 1, 1500)
    drawn = [follow_up(rng, float(h), 1 / 900, 2200) for h in hazard]
    table = DataFrame({"hazard": hazard, "days": [d for d, _ in drawn], "event": [e for _, e in drawn]})
    fit = CoxPHFitter().fit(table, "days", "event")
    assert fit.params_["hazard"] == pytest.approx(1, abs=0.1)
    assert 0.3 < table["event"].mean() < 0.9


def test_the_oracle_is_perfect_where_deaths_follow_the_hazard() -> None:
    """Deaths in order of hazard give 1, in reverse 0, no comparable pair nan; counts are counted."""
    base = draw(cohort(), 0)
    ordered = [replace(base, log_hazard=float(h), time_days=10.0 - h, event=1, strata=("small",)) for h in range(5)]
    assert summarise(ordered).oracle_c_index == 1
    assert summarise([replace(s, log_hazard=-(s.log_hazard or 0)) for s in ordered]).oracle_c_index == 0
    assert np.isnan(summarise([replace(s, event=0) for s in ordered]).oracle_c_index)
    assert summarise(ordered).strata == {"small": 5}


def test_bad_options_are_refused_in_words() -> None:
    """Unknown stratum, contrast and share name what would do."""
    with pytest.raises(ValueError, match="near bladder"):
        cohort(stratum="near skull")
    with pytest.raises(ValueError, match="no contrasts"):
        Cohort(kind="petct", seed=1, recipe=recipe("petct"), contrast="FLAIR")
    with pytest.raises(ValueError, match="use 0 to 1"):
        Cohort(kind="petct", seed=1, recipe=recipe("petct"), normal_fraction=2)
    with pytest.raises(ValueError, match="at least 1"):
        write(cohort(), Path("unused"), 0)


def test_names_tell_cohorts_apart() -> None:
    """No two variants share a file name."""
    variants = [
        cohort(),
        cohort(shifted=True),
        cohort(stratum="small"),
        cohort(stratum="small", shifted=True),
        cohort(seed=2),
    ]
    assert len({name(variant, 0) for variant in variants}) == len(variants)


def test_the_command_writes_samples_and_prints_the_oracle(tmp_path: Path) -> None:
    """Files, summary and table agree; a bad stratum leaves with 2 and one sentence."""
    app = typer.Typer()
    app.command()(synth)
    arguments = ["petct", "--patients", "2", "--seed", "5", "--workers", "1", "--out", str(tmp_path / "a")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "oracle C-index" in result.output
    document = json.loads((tmp_path / "a" / "cohort.json").read_text(encoding="utf-8"))
    assert document["summary"]["patients"] == len(list((tmp_path / "a").glob("*.npz"))) == 2
    refused = CliRunner().invoke(app, [*arguments, "--stratum", "near skull"])
    assert refused.exit_code == 2
