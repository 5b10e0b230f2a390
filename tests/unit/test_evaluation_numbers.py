"""Detection, survival, calibration and doubt: against libraries, values worked by hand and known distributions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines.utils import concordance_index
from monai.metrics.calibration import CalibrationErrorMetric
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score, roc_auc_score
from torchsurv.metrics.cindex import ConcordanceIndex
from torchsurv.stats.ipcw import get_ipcw

from daemon.domain.finding import RiskClass
from daemon.inference.mc_dropout import Inference, binary_entropy
from daemon.inference.reader import numbers as raw_numbers
from tests.manifests import CALIBRATION
from tests.tiny_predictions import Asked, calibration, cohort, make
from training.evaluation.bootstrap import Bootstrap
from training.evaluation.cases import Case, case_of, origin
from training.evaluation.concordance import FollowUp, comparable, concordance, concordant, uno_weights
from training.evaluation.cox import cross_validate
from training.evaluation.detection import auroc, detection
from training.evaluation.evaluate import measure
from training.evaluation.patients import one_each
from training.evaluation.segmentation import segmentation
from training.evaluation.subject import load_subject
from training.evaluation.survival import curves, harrell, survival
from training.evaluation.survival_plots import kaplan_meier
from training.evaluation.uncertainty import (
    VOXEL_BINS,
    aurc,
    one_study,
    reliability,
    risk_coverage,
    spearman,
    uncertainty,
)
from training.evaluation.values import Options

FEW = Options(resamples=40)
CUTS = CALIBRATION.risk_cuts


def _cases(count: int = 60) -> list[Case]:
    return [case_of(p, CALIBRATION, 2.0) for p in cohort(count)]


def _bootstrap(cases: list[Case]) -> Bootstrap:
    return Bootstrap([c.patient for c in cases], FEW.resamples, 0)


def test_detection_agrees_with_scikit_learn() -> None:
    """Every score at the threshold, and the area, equal the library's; the estimate lies in its interval."""
    cases = _cases()
    label = np.array([c.tumour for c in cases])
    probability = np.array([c.probability for c in cases])
    found = probability >= 0.5
    scores = detection(cases, 0.5, _bootstrap(cases))
    assert scores.accuracy.value == pytest.approx(accuracy_score(label, found))
    assert scores.precision.value == pytest.approx(precision_score(label, found))
    assert scores.recall.value == pytest.approx(recall_score(label, found))
    assert scores.specificity.value == pytest.approx(recall_score(1 - label, ~found))
    assert scores.f1.value == pytest.approx(f1_score(label, found))
    area = float(roc_auc_score(label, probability))
    assert scores.roc_auc.value == pytest.approx(area)
    assert scores.roc_auc.low is not None
    assert scores.roc_auc.high is not None
    assert scores.roc_auc.low < area <= scores.roc_auc.high


def test_the_precision_recall_area_by_hand() -> None:
    """Tumour, none, tumour, the most probable first: precision 1 at half the recall, 2/3 at all of it."""
    ranked = ((True, 3.0), (False, 2.0), (True, 1.0))
    asked = [Asked(name=f"p{i}", tumour=tumour, logit=logit) for i, (tumour, logit) in enumerate(ranked)]
    cases = [case_of(make(one), CALIBRATION, 2.0) for one in asked]
    assert detection(cases, 0.5, _bootstrap(cases)).pr_auc.value == pytest.approx((1 + 2 / 3) / 2)


def test_auroc_counts_ties_half() -> None:
    """One positive above, one level with the only negative: (1 + .5) / 2."""
    assert auroc(np.array([True, True, False]), np.array([2.0, 1.0, 1.0])) == pytest.approx(0.75)


def test_without_negatives_an_area_says_why_it_is_missing() -> None:
    """Studies with tumours alone have a sensitivity, but no specificity and no area."""
    cases = [c for c in _cases(20) if c.tumour]
    scores = detection(cases, 0.5, _bootstrap(cases))
    assert scores.recall.value is not None
    assert scores.specificity.value is None
    assert scores.roc_auc.missing == "no study without a tumour is among them"


def test_resamples_take_whole_patients() -> None:
    """Two studies of a patient come together or not at all, so copies of a study narrow nothing."""
    values = np.random.default_rng(1).normal(size=12)
    once = Bootstrap([str(i) for i in range(12)], 400, 3).spread(values, "")
    twice = Bootstrap([str(i) for i in range(12)] * 2, 400, 3).spread(np.tile(values, 2), "")
    assert once.mean.model_dump(exclude={"n"}) == pytest.approx(twice.mean.model_dump(exclude={"n"}))
    assert twice.mean.n == 24


def test_an_interval_of_the_mean_covers_the_truth_as_often_as_it_says() -> None:
    """Of 200 samples of 40 normal numbers, about 95 % of the intervals hold the true mean."""
    rng = np.random.default_rng(5)
    patients = [str(i) for i in range(40)]
    held = 0
    for seed in range(200):
        mean = Bootstrap(patients, 200, seed).spread(rng.normal(size=40), "").mean
        assert mean.low is not None
        assert mean.high is not None
        held += mean.low <= 0 <= mean.high
    assert 0.88 <= held / 200 <= 0.99


def test_a_share_of_one_has_the_exact_interval() -> None:
    """20 of 20 right: the lower end is .025 to the 1/20, not 1."""
    share = Bootstrap([str(i) for i in range(20)], 50, 0).share(np.ones(20, bool), np.ones(20, bool), "")
    assert share.low == pytest.approx(0.025 ** (1 / 20))
    assert share.high == 1


def test_concordance_agrees_with_lifelines_and_torchsurv_with_ties() -> None:
    """Harrell's and Uno's C over pairs equal the libraries', tied times and risks included."""
    rng = np.random.default_rng(4)
    follow_up = FollowUp(time=rng.integers(1, 15, 50).astype(float), died=rng.random(50) < 0.6)
    risk = rng.integers(0, 8, 50).astype(float)
    pairs, everyone = comparable(follow_up), np.arange(50)
    ours = concordance(pairs, concordant(pairs, risk), everyone)
    assert ours == pytest.approx(concordance_index(follow_up.time, -risk, follow_up.died))
    assert np.isnan(concordance(pairs, concordant(pairs, risk), np.array([0, 0])))
    died, time = follow_up.tensors()
    weighted = pairs * uno_weights(follow_up)[:, None]
    theirs = ConcordanceIndex()(torch.from_numpy(risk).float(), died, time, weight=get_ipcw(died, time))
    assert concordance(weighted, concordant(weighted, risk), everyone) == pytest.approx(float(theirs), abs=1e-5)


def test_survival_is_measured_against_simpler_models_and_the_oracle() -> None:
    """With a risk that is nearly the hazard, the model beats age and volume alone and reaches the oracle."""
    result = survival(_cases(150), FEW, CUTS)
    by_name = {r.name: r for r in result.rankings}
    model, oracle = by_name["this model"], by_name["oracle (the phantoms' known hazard)"]
    clinical = by_name["Cox on clinical numbers"]
    assert model.harrell.value is not None
    assert clinical.harrell.value is not None
    assert model.harrell.value > clinical.harrell.value > 0.5
    assert clinical.gain_of_model.value == pytest.approx(model.harrell.value - clinical.harrell.value)
    assert oracle.harrell.value is not None
    assert result.share_of_oracle.value == pytest.approx(model.harrell.value / oracle.harrell.value)
    assert [y.years for y in result.years] == [1, 2, 5]
    assert result.log_rank_p.value is not None
    assert result.log_rank_p.value < 0.01


def test_predicted_survival_passes_through_the_bundles_years() -> None:
    """At 0, 1, 2 and 5 years the curve is the bundle's; between them it falls."""
    case = _cases(3)[0]
    times = np.array([0.0, 1, 1.5, 2, 5]) * 365.25
    curve = curves([case], times)[0]
    said = [case.findings.survival[y].mean for y in (1, 2, 5)]
    assert curve[[0, 1, 3, 4]] == pytest.approx([1.0, *said])
    assert curve[1] > curve[2] > curve[3]


def test_calibrated_survival_is_found_calibrated() -> None:
    """Deaths drawn from the very curves that are predicted: observed and predicted agree at every year."""
    rng = np.random.default_rng(8)
    cases = []
    for index in range(250):
        risk = float(rng.normal(0, 0.7))
        made = make(Asked(name=f"s{index}", risk=risk))
        grid = np.linspace(0, 8, 400)
        case = case_of(made, CALIBRATION, 2.0)
        curve = curves([case], grid * 365.25)[0]
        gone = np.flatnonzero(curve < rng.random())
        died = grid[gone[0]] * 365.25 if gone.size else 9999.0
        cases.append(replace(case, time_days=min(died, 7 * 365.25) + 0.5, event=int(died < 7 * 365.25)))
    result = survival(cases, FEW, CUTS)
    for year in result.years:
        assert year.difference.value is not None
        assert abs(year.difference.value) < 0.07
        assert year.difference.low is not None
    brier = {r.name: r.integrated_brier.value for r in result.rankings}
    assert (brier["this model"] or 1) < (brier["Kaplan-Meier (no predictor)"] or 0)


def test_each_patient_has_one_fate(tmp_path: Path) -> None:
    """Four studies a patient change neither log-rank, Kaplan-Meier, counts and medians nor the curves drawn."""
    once, subject = _cases(40), load_subject(calibration(tmp_path / "c.toml"))
    often = [c for c in once for _ in range(4)]
    (one,), (four,) = (measure(cases, subject, FEW).parts for cases in (once, often))
    assert (four.data.studies, four.data.follow_up, four.data.deaths) == (160, 40, one.data.deaths)
    wanted = {"patients", "deaths", "years", "groups", "log_rank_p"}
    assert four.survival.model_dump(include=wanted) == one.survival.model_dump(include=wanted)
    assert one.survival.deaths == one.data.deaths
    drawn = [kaplan_meier(one, cases, subject) for cases in (once, often)]
    told = [[label.get_text() for label in made.axes[0].get_xticklabels()] for made in drawn if made]
    assert told[0] == told[1]


def test_the_patients_risk_is_the_mean_of_the_studies() -> None:
    """Risks of -1 and 2 are .5, which is high by cuts of -.5 and .5; the longest follow-up counts."""
    low, high = (replace(case_of(make(Asked(risk=risk)), CALIBRATION, 2.0), event=1) for risk in (-1.0, 2.0))
    (one,) = one_each([replace(low, time_days=90.0), replace(high, time_days=80.0)], CUTS)
    assert one.risk == pytest.approx(0.5)
    assert (one.findings.risk_class, one.time_days) == (RiskClass.HIGH, 90.0)
    assert one.findings.survival[1].mean == pytest.approx((0.9 ** np.exp(-1) + 0.9 ** np.exp(2)) / 2)


def test_a_cox_model_on_too_few_patients_says_so() -> None:
    """Ten patients are no cohort, nor nine deaths in two studies each; a covariate that never varies is none."""
    few = FollowUp(time=np.arange(1.0, 11), died=np.ones(10, bool))
    names = [str(i) for i in range(10)]
    assert "at least 20 patients" in str(cross_validate(pd.DataFrame({"age": np.arange(10.0)}), few, names, few.time))
    twice = FollowUp(time=np.arange(40.0) + 1, died=np.arange(40) % 20 < 9)
    ages, owners = pd.DataFrame({"age": np.arange(40.0)}), [str(i % 20) for i in range(40)]
    assert "there are 20 and 9" in str(cross_validate(ages, twice, owners, few.time))
    assert "no clinical number" in str(cross_validate(pd.DataFrame({"age": np.ones(10)}), few, names, few.time))


def test_without_follow_up_survival_says_why() -> None:
    """No follow-up, and follow-up without a death, each give a reason instead of a number."""
    bare = [case_of(make(Asked(name=str(i))), CALIBRATION, 2.0) for i in range(3)]
    assert survival(bare, FEW, CUTS).missing == "no study has follow-up"
    alive = [replace(c, time_days=100.0, event=0) for c in bare]
    assert survival(alive, FEW, CUTS).missing == "no patient died while another was still followed"


def test_a_bundle_without_survival_still_orders_patients() -> None:
    """A calibration without follow-up gives no year: the model keeps its C, and has no Brier score to compare."""
    result = survival([replace(c, findings=replace(c.findings, survival={})) for c in _cases(60)], FEW, CUTS)
    model, kaplan_meier = result.rankings[0], result.rankings[-1]
    assert model.harrell.value is not None
    assert model.integrated_brier.missing == "it tells the order of risks, not how many live on"
    assert kaplan_meier.integrated_brier.value is not None
    assert result.years == ()


def test_a_survival_that_was_not_fitted_is_not_measured() -> None:
    """Neither C nor risk groups of a head that learnt nothing; each number says why."""
    bare = [replace(c, findings=replace(c.findings, survival_risk=None, risk_class=None)) for c in _cases(20)]
    result = survival(bare, FEW, CUTS)
    assert result.missing == "the bundle's survival was not fitted"
    assert (result.rankings, result.groups, result.years) == ((), (), ())
    assert result.log_rank_p.missing == harrell(bare, FEW).missing == result.missing


def test_calibration_of_known_distributions() -> None:
    """Labels drawn from the probabilities give an error near 0; probabilities squeezed by .2 give about .2."""
    rng = np.random.default_rng(2)
    p = rng.random(4000)
    y = (rng.random(4000) < p).astype(float)
    drawn = Bootstrap([str(i) for i in range(4000)], 5, 0)
    good = reliability(np.array([one_study(*pair) for pair in zip(p, y, strict=True)]), 10, drawn, "")
    assert good.ece.value is not None
    assert good.ece.value < 0.03
    assert good.adaptive_ece.value is not None
    assert good.adaptive_ece.value < 0.03
    always = reliability(np.array([one_study(0.7, float(v)) for v in rng.random(4000) < 0.9]), 10, drawn, "")
    assert always.ece.value == pytest.approx(0.2, abs=0.02)
    assert len(always.bins) == 1


def test_the_calibration_error_is_monais() -> None:
    """ECE over bins of equal width equals the library's."""
    rng = np.random.default_rng(6)
    p, y = rng.random(900), (rng.random(900) < 0.3).astype(float)
    sums = np.array([one_study(*pair) for pair in zip(p, y, strict=True)])
    ours = reliability(sums, VOXEL_BINS, Bootstrap([str(i) for i in range(900)], 2, 0), "").ece
    metric = CalibrationErrorMetric(num_bins=VOXEL_BINS)
    metric(torch.from_numpy(p)[None, None], torch.from_numpy(y)[None, None])
    assert ours.value == pytest.approx(float(metric.aggregate()), abs=1e-6)


def test_risk_coverage_by_hand() -> None:
    """Losses 0, .5, 1 in the right order: running means 0, .25, .5; of tied scores the expected order counts."""
    loss = np.array([0.5, 0.0, 1.0])
    assert risk_coverage(loss, np.array([2.0, 1, 3])) == pytest.approx([0, 0.25, 0.5])
    assert aurc(loss, np.array([2.0, 1, 3])) == pytest.approx(0.25)
    assert aurc(loss, np.ones(3)) == pytest.approx(0.5)
    assert spearman(loss, np.array([2.0, 1, 3])) == pytest.approx(1.0)
    assert np.isnan(spearman(loss, np.ones(3)))


def test_the_shipped_score_of_doubt_is_the_daemons() -> None:
    """Mean entropy equals what the daemon computes for the same maps, as far as half precision keeps them."""
    made = make(Asked(doubt=0.3))
    p = made.probability.astype(np.float32)
    made = replace(made, entropy=binary_entropy(p).astype(np.float16))
    raw = Inference(
        probability=p,
        sd=p,
        mutual_information=p,
        cam=p,
        tumour_logits=(1.0,),
        risks=(0.0,),
        seed=0,
        embedding=np.zeros(3, np.float32),
    )
    assert case_of(made, CALIBRATION, 2.0).quality.mean_entropy == pytest.approx(
        raw_numbers(raw, CALIBRATION.mask_threshold).entropy_score, abs=5e-4
    )


def test_expected_dice_and_volume_variation_by_hand() -> None:
    """All p = .8 in the outline and 0 elsewhere: expected Dice 2*.8/(1+.8); sd from 2 p (1-p) MI."""
    made = make(Asked(doubt=0.2))
    inside = made.probability > 0.5
    clean = replace(
        made,
        probability=np.where(inside, 0.8, 0).astype(np.float16),
        mutual_information=np.where(inside, 0.02, 0).astype(np.float16),
    )
    quality = case_of(clean, CALIBRATION, 2.0).quality
    assert quality.expected_dice_loss == pytest.approx(1 - 1.6 / 1.8, abs=1e-3)
    assert quality.volume_cv == pytest.approx(np.sqrt(2 * 0.8 * 0.2 * 0.02) / 0.8, rel=1e-3)


def test_doubt_that_grows_with_error_finds_the_failures() -> None:
    """Outlines whose doubt was made to grow with their shift: every score finds failures better than chance."""
    cases = _cases(80)
    result = uncertainty(cases, _bootstrap(cases), FEW)
    assert 0 < result.failures < result.judged
    assert result.best
    assert all(row.failure_auroc.value is not None and row.failure_auroc.value > 0.6 for row in result.scores)


def test_a_perfect_set_has_no_failures_to_find() -> None:
    """Without a failure there is no failure-AUROC, and nothing is called best."""
    cases = [case_of(make(Asked(name=str(i))), CALIBRATION, 2.0) for i in range(6)]
    result = uncertainty(cases, _bootstrap(cases), FEW)
    assert (result.failures, result.best) == (0, "")
    assert result.scores[0].failure_auroc.missing == "no outline failed (Dice below .6)"
    assert segmentation(cases, _bootstrap(cases)).dice.mean.value == 1


def test_lesion_rates_are_pooled_and_false_alarms_have_their_own() -> None:
    """One hit, one miss, one false alarm, one clean normal: sensitivity 1/2, precision 1/2, alarms 1/2."""
    asked = [
        Asked(name="hit"),
        Asked(name="miss", miss=True),
        Asked(name="alarm", tumour=False, alarm=True),
        Asked(name="clean", tumour=False),
    ]
    cases = [case_of(make(a), CALIBRATION, 2.0) for a in asked]
    scores = segmentation(cases, _bootstrap(cases))
    assert (scores.lesion_sensitivity.value, scores.lesion_precision.value) == (0.5, 0.5)
    assert (scores.missed_studies.value, scores.false_alarm_studies.value) == (0.5, 0.5)
    assert scores.dice.mean.value == pytest.approx(0.5)
    assert scores.dice_any.mean.value == pytest.approx(1 / 3)
    assert scores.dice.mean.low is None


def test_a_known_hazard_or_a_name_tells_made_studies() -> None:
    """Only made studies have a known hazard; readers of real data name neither."""
    assert origin("anything", 0.3) == "synthetic"
    assert origin("phantom T2", None) == "synthetic"
    assert origin("real head", None) == "real"


def test_a_mask_of_another_shape_is_refused_by_name() -> None:
    """The error names the study and the mend."""
    made = replace(make(Asked(name="odd")), truth=np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(ValueError, match="odd: its mask is"):
        case_of(made, CALIBRATION, 2.0)
