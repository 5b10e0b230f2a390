"""Calibration and its guarantees on distributions that are known."""

import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from scipy.stats import binom

from training.calibration.guarantees import (
    LearnThenTest,
    cases_needed,
    conformal_quantile,
    per_patient,
    risk_threshold,
    sensitivity_threshold,
    volume_scores,
)
from training.calibration.novelty import fit_novelty
from training.calibration.scaling import Scale, chance_error, expected_error, fit_scale, logit, sigmoid
from training.calibration.survival import Baseline, fit_baseline

GRID = np.linspace(0.01, 0.99, 99)


def test_platt_recovers_a_known_calibration() -> None:
    """Labels drawn from sigmoid(2x - 1) give slope near 2 and intercept near -1."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=20000)
    labels = (rng.random(20000) < sigmoid(2 * x - 1)).astype(int)
    scale = fit_scale(x, labels)
    assert scale.slope == pytest.approx(2, abs=0.1)
    assert scale.intercept == pytest.approx(-1, abs=0.1)


def test_a_temperature_keeps_the_middle() -> None:
    """Labels drawn from sigmoid(x / 3) give slope near 1/3, and .5 stays .5."""
    rng = np.random.default_rng(2)
    x = rng.normal(0, 4, 20000)
    labels = (rng.random(20000) < sigmoid(x / 3)).astype(int)
    scale = fit_scale(x, labels, "temperature")
    assert scale.slope == pytest.approx(1 / 3, abs=0.02)
    assert scale(np.zeros(1))[0] == 0.5


def test_a_calibrated_classifier_stays_calibrated() -> None:
    """What is calibrated already keeps its error of almost 0; what was distorted is mended."""
    rng = np.random.default_rng(3)
    true = rng.normal(0, 2, 8000)
    labels = (rng.random(8000) < sigmoid(true)).astype(int)
    assert expected_error(fit_scale(true[:4000], labels[:4000])(true[4000:]), labels[4000:]) < 0.025
    wrong = 5 * true + 3
    assert expected_error(sigmoid(wrong[4000:]), labels[4000:]) > 0.1
    assert expected_error(fit_scale(wrong[:4000], labels[:4000])(wrong[4000:]), labels[4000:]) < 0.025


def test_the_mean_over_passes_is_what_is_calibrated() -> None:
    """Passes that scatter widely are calibrated in their mean, which the daemon decides by."""
    rng = np.random.default_rng(4)
    true = rng.normal(0, 2, 6000)
    labels = (rng.random(6000) < sigmoid(true)).astype(int)
    passes = 2 * true[:, None] + rng.normal(0, 3, (6000, 10))
    scale = fit_scale(passes[:3000], labels[:3000])
    assert expected_error(scale(passes[3000:]), labels[3000:]) < 0.03


def test_order_never_turns_round() -> None:
    """Scores that mislead get a flat scale, not a falling one; one class alone still gives finite numbers."""
    x = np.linspace(-3, 3, 50)
    assert 0 < fit_scale(x, (x < 0).astype(int)).slope < 0.1
    alone = fit_scale(x, np.ones(50, dtype=int))
    assert np.isfinite([alone.slope, alone.intercept]).all()


def test_no_labels_is_an_error() -> None:
    """Nothing to calibrate with says what to do."""
    with pytest.raises(ValueError, match="predict studies"):
        fit_scale(np.zeros(0), np.zeros(0, dtype=int))


def test_the_error_of_bins_by_hand() -> None:
    """Two bins: (.2, .2 | 0, 1) is off by .3 and (.9, .9 | 1, 1) by .1, each half of the cases."""
    probability, labels = np.array([0.2, 0.2, 0.9, 0.9]), np.array([0, 1, 1, 1])
    assert expected_error(probability, labels, bins=2) == pytest.approx(0.2)
    assert logit(sigmoid(np.array([1.5])))[0] == pytest.approx(1.5)
    assert Scale()(np.array([[0.0, 0.0]])).shape == (1,)


def test_learn_then_test_errs_no_more_than_it_says() -> None:
    """Over 600 drawn sets, at most delta of the highest thresholds that pass have a true sensitivity below the goal."""
    goal, delta = 0.9, 0.2
    rng = np.random.default_rng(5)
    test = LearnThenTest(grid=GRID, goal=goal, delta=delta)
    counts = np.array([test.passed(rng.random(80)) for _ in range(600)])
    assert (counts > 0).mean() > 0.8
    # Probabilities are uniform, so a threshold's true sensitivity is one minus it.
    wrong = float((1 - GRID[counts[counts > 0] - 1] < goal).sum() / 600)
    assert wrong < delta + 3 * np.sqrt(delta * (1 - delta) / 600)
    # The procedure spends its budget: far below delta would mean thresholds that are needlessly low.
    assert wrong > delta / 3


def test_one_threshold_is_the_exact_binomial_test() -> None:
    """Two of 300 missed passes at goal .98 and delta .1; eleven do not."""
    p = np.concatenate([np.full(2, 0.1), np.full(298, 0.9)])
    test = LearnThenTest(grid=np.array([0.5]), goal=0.98, delta=0.1)
    assert binom.cdf(2, 300, 0.02) < 0.1
    assert test.passed(p) == 1
    p[:11] = 0.1
    assert test.passed(p) == 0


def test_studies_of_one_patient_are_one() -> None:
    """Two of 30 patients missed in all four contrasts pass as 120 studies would, seldom; as 30 patients never."""
    patients = [str(index // 4) for index in range(120)]
    test = LearnThenTest(grid=np.array([0.5]), goal=0.98, delta=0.1)
    assert test.passed(np.full(120, 0.9)) == 1
    assert test.passed(-per_patient(-np.full(120, 0.9), patients)) == 0
    highest = per_patient(np.array([[1.0, 5.0], [9.0, 9.0], [3.0, 2.0]]), ["b", "a", "b"])
    assert highest.tolist() == [[3.0, 5.0], [9.0, 9.0]]
    assert per_patient(np.zeros(0), []).tolist() == []


def test_of_those_that_pass_the_best_is_taken() -> None:
    """Negatives at .2 and positives at .8: the middle between them, which is .5 on an even grid."""
    test = LearnThenTest(grid=GRID, goal=0.98, delta=0.1)
    found = sensitivity_threshold(np.full(200, 0.805), np.full(50, 0.195), test)
    assert (found.guaranteed, found.reached) == (True, 1.0)
    assert found.value == pytest.approx(0.5, abs=0.011)


def test_too_few_tumours_promise_nothing() -> None:
    """Fewer than `cases_needed` never pass; a threshold that misses nobody is taken, and said not to be guaranteed."""
    needed = cases_needed(0.98, 0.1)
    test = LearnThenTest(grid=GRID, goal=0.98, delta=0.1)
    assert needed == 114
    few = sensitivity_threshold(np.full(needed - 1, 0.775), np.array([0.765, 0.1]), test)
    assert (few.guaranteed, few.reached) == (False, 1.0)
    assert few.value == pytest.approx(0.77)
    assert sensitivity_threshold(np.full(needed, 0.77), np.zeros(0), test).guaranteed
    with pytest.raises(ValueError, match="no study with tumour"):
        sensitivity_threshold(np.zeros(0), np.zeros(0), test)


def test_testing_stops_at_the_first_failure() -> None:
    """A threshold past one that fails is never reached, whatever it would say."""
    assert LearnThenTest(grid=np.array([0.1, 0.6, 0.2]), goal=0.9, delta=0.1).passed(np.full(200, 0.5)) == 1


def test_conformal_risk_control_holds_on_average() -> None:
    """The expected share missed by the next study is at most the limit, and close to it."""
    rng = np.random.default_rng(6)
    limit, reached = 0.1, []
    for _ in range(400):
        steepness = rng.uniform(0.5, 4, 41)
        losses = GRID[None, :] ** steepness[:, None]
        found = risk_threshold(losses[:40], GRID, limit)
        assert found.guaranteed
        reached.append(losses[40, int(np.argmin(np.abs(GRID - found.value)))])
    assert limit * 0.6 < np.mean(reached) < limit + 0.015


def test_risk_control_needs_enough_studies_and_a_rising_loss() -> None:
    """Eight studies cannot bound a risk of .1; a loss that falls is refused."""
    assert not risk_threshold(np.zeros((8, 99)), GRID, 0.1).guaranteed
    assert risk_threshold(np.zeros((9, 99)), GRID, 0.1).value == pytest.approx(0.99)
    with pytest.raises(ValueError, match="monotone"):
        risk_threshold(np.linspace(1, 0, 99)[None], GRID, 0.1)


def test_conformal_volumes_cover_as_often_as_said() -> None:
    """Over drawn sets the next study's volume lies in its interval 9 times of 10."""
    rng = np.random.default_rng(7)
    inside = []
    for _ in range(1500):
        true = rng.lognormal(2, 1, 61)
        outlined = true * rng.lognormal(0.1, 0.3, 61)
        scores = volume_scores(outlined, true)
        inside.append(scores[60] <= conformal_quantile(scores[:60], 0.9))
    assert 0.88 < np.mean(inside) < 0.93


def test_too_few_studies_give_no_interval() -> None:
    """Eight scores bound no 90 %; nine do, by the largest."""
    assert conformal_quantile(np.arange(8.0), 0.9) == float("inf")
    assert conformal_quantile(np.arange(9.0), 0.9) == 8.0


def alone(count: int) -> list[str]:
    """Return so many patients, each of one study."""
    return [str(index) for index in range(count)]


def test_novelty_leaves_whole_patients_out() -> None:
    """Four nearly equal studies each: a study's neighbours are other patients, so few new patients are flagged."""
    rng = np.random.default_rng(8)
    means = rng.normal(0, 1, (460, 12)).astype(np.float32)
    known = np.repeat(means[:60], 4, axis=0) + rng.normal(0, 0.01, (240, 12)).astype(np.float32)
    fitted = fit_novelty(known, [str(index // 4) for index in range(240)], neighbours=3, coverage=0.9)
    assert fitted is not None
    assert np.mean([fitted.bank.distance(row) > fitted.limit for row in means[60:]]) < 0.2
    assert fit_novelty(known[:7], ["a"] * 4 + ["b", "c", "d"], neighbours=3, coverage=0.9) is None
    assert fit_novelty(known[:8], ["a"] * 4 + ["b", "c", "d", "e"], neighbours=3, coverage=0.9) is not None


def test_novelty_flags_the_foreign_and_few_others() -> None:
    """Of new studies like the known ones about 5 % lie beyond the limit; shifted ones all do."""
    rng = np.random.default_rng(8)
    mix = np.concatenate([rng.normal(0, 1, (150, 12)), rng.normal(6, 1, (150, 12))]).astype(np.float32)
    fitted = fit_novelty(mix, alone(300), neighbours=3, coverage=0.95)
    assert fitted is not None
    new = [fitted.bank.distance(row) > fitted.limit for row in rng.normal(6, 1, (400, 12)).astype(np.float32)]
    assert 0.005 < np.mean(new) < 0.12
    between = [fitted.bank.distance(row) > fitted.limit for row in rng.normal(3, 1, (50, 12)).astype(np.float32)]
    assert np.mean(between) > 0.95


def test_few_studies_state_the_coverage_they_allow() -> None:
    """Twenty studies give a limit at 20 of 21; three give none."""
    rows = np.random.default_rng(9).normal(size=(20, 4)).astype(np.float32)
    fitted = fit_novelty(rows, alone(20), neighbours=3, coverage=0.99)
    assert fitted is not None
    assert fitted.coverage == pytest.approx(20 / 21)
    assert fit_novelty(rows[:3], alone(3), neighbours=3, coverage=0.99) is None


def test_breslow_at_equal_risk_is_the_usual_curve() -> None:
    """With no difference in risk the baseline is Kaplan-Meier's curve, but for Breslow's exponent."""
    rng = np.random.default_rng(10)
    died, censored = rng.exponential(900, 400), rng.uniform(300, 2500, 400)
    days, event = np.minimum(died, censored), (died <= censored).astype(int)
    fitted = fit_baseline(np.full(400, 0.7), days.tolist(), event.tolist())
    curve = KaplanMeierFitter().fit(days, event)
    assert fitted.centre == pytest.approx(0.7)
    for year in (1, 2, 5):
        assert fitted.survival[year] == pytest.approx(float(curve.predict(year * 365.25)), abs=0.02)


def test_nobody_followed_up_is_said() -> None:
    """Without follow-up, of one study or without a death nothing is fitted, and the baseline is of 0 cases."""
    for count, died in ((0, 0), (1, 1), (40, 0)):
        none = fit_baseline(np.linspace(1, 2, count), [900.0] * count, [died] * count)
        assert none == Baseline()


def test_no_survival_is_told_beyond_the_longest_follow_up() -> None:
    """Of 40 patients followed for 700 days at most, survival is known at one year and at no later one."""
    days = np.linspace(30, 700, 40).tolist()
    fitted = fit_baseline(np.zeros(40), days, [1, 0] * 20)
    assert list(fitted.survival) == [1]
    assert fitted.cases == 40
    assert fit_baseline(np.zeros(2), [100.0, 365.0], [1, 0]).survival == {}


def test_right_probabilities_err_by_chance_alone() -> None:
    """The mean over many draws is what one draw shows, and sixteen times the studies show a quarter of it."""
    rng = np.random.default_rng(5)
    probability = rng.random(6400)
    few, many = chance_error(probability[:400]), chance_error(probability)
    shown = [expected_error(probability[:400], (rng.random(400) < probability[:400]).astype(int)) for _ in range(100)]
    assert few == pytest.approx(np.mean(shown), rel=0.05)
    assert few / many == pytest.approx(4, rel=0.15)
