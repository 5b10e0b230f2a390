"""From numbers to an answer."""

import math
from dataclasses import replace

import pytest

from daemon.domain.decision import RawNumbers, decide
from daemon.domain.finding import Answer, Doubt, Lesion, RiskClass
from tests.manifests import CALIBRATION, UNFITTED

LESION = Lesion(
    number=1,
    volume_ml=5.0,
    volume_sd_ml=0.5,
    longest_mm=20.0,
    centre_mm=(0, 0, 0),
    bounds_mm=((0, 0, 0), (1, 1, 1)),
    slices=(0, 3),
    key_slice=1,
    probability=0.9,
)
SURE = RawNumbers(tumour_logits=(4.0, 4.2, 3.8), risks=(0.0, 0.0, 0.0), entropy_score=0.1, seed=1)


def test_likely_with_an_outline() -> None:
    """A high probability with an outline is LIKELY and needs no review."""
    findings = decide(SURE, [LESION], CALIBRATION)
    assert findings.answer is Answer.LIKELY
    assert not findings.uncertainty.flag
    assert findings.lesions == (LESION,)


def test_not_likely_without_an_outline() -> None:
    """A low probability without outline is NOT LIKELY."""
    findings = decide(replace(SURE, tumour_logits=(-4.0, -4.0)), [], CALIBRATION)
    assert (findings.answer, findings.lesions) == (Answer.NOT_LIKELY, ())


@pytest.mark.parametrize(
    ("logits", "lesions", "doubt"),
    [
        ((0.0, 0.1), [LESION], Doubt.BAND),
        ((4.0, -4.0, 4.0, 4.0), [LESION], Doubt.DISAGREEMENT),
        ((4.0, 4.0), [], Doubt.NO_OUTLINE),
        ((-4.0, -4.0), [LESION], Doubt.STRAY_OUTLINE),
    ],
)
def test_contradictions_are_uncertain_and_say_why(
    logits: tuple[float, ...], lesions: list[Lesion], doubt: Doubt
) -> None:
    """Whatever speaks against a plain answer makes it UNCERTAIN, with that reason."""
    findings = decide(replace(SURE, tumour_logits=logits), lesions, CALIBRATION)
    assert findings.answer is Answer.UNCERTAIN
    assert doubt in findings.uncertainty.doubts


def test_a_vague_outline_is_flagged_but_answered() -> None:
    """Entropy above its limit asks for review without taking the answer back."""
    findings = decide(replace(SURE, entropy_score=0.9), [LESION], CALIBRATION)
    assert findings.answer is Answer.LIKELY
    assert findings.uncertainty.doubts == (Doubt.VAGUE_OUTLINE,)


def test_an_unfamiliar_study_is_flagged_but_answered() -> None:
    """Novelty above its limit asks for review, also where nothing is outlined; at the limit it does not."""
    limited = replace(CALIBRATION, novelty_limit=1.0)
    calm = replace(SURE, tumour_logits=(-4.0, -4.0), novelty=1.1)
    findings = decide(calm, [], limited)
    assert findings.answer is Answer.NOT_LIKELY
    assert findings.uncertainty.doubts == (Doubt.UNFAMILIAR,)
    assert not decide(replace(calm, novelty=1.0), [], limited).uncertainty.flag
    assert not decide(calm, [], CALIBRATION).uncertainty.flag


def test_the_volume_interval_is_the_calibrations() -> None:
    """5 ml at a spread of ln 2 is 2 to 11 ml; small outlines end at 0; nothing outlined or no spread, no interval."""
    known = replace(CALIBRATION, volume_log_spread=math.log(2), volume_coverage=0.8)
    interval = decide(SURE, [LESION], known).volume_ml
    assert interval is not None
    assert interval.low == pytest.approx(2)
    assert interval.high == pytest.approx(11)
    assert interval.coverage == 0.8
    small = decide(SURE, [replace(LESION, volume_ml=0.4)], known).volume_ml
    assert small is not None
    assert small.low == 0
    assert decide(replace(SURE, tumour_logits=(-4.0, -4.0)), [], known).volume_ml is None
    assert decide(SURE, [LESION], CALIBRATION).volume_ml is None


def test_survival_follows_breslow() -> None:
    """S(t) = S0(t) ** exp(risk): at risk ln 2 the baseline is squared."""
    findings = decide(replace(SURE, risks=(0.6931471805599453,) * 3), [LESION], CALIBRATION)
    assert findings.survival[1].mean == pytest.approx(0.81)
    assert findings.survival[5].mean == pytest.approx(0.16)
    assert findings.survival[1].sd == 0
    assert findings.risk_class is RiskClass.HIGH


@pytest.mark.parametrize("invented", [{}, {1: 0.8, 2: 0.6, 5: 0.3}])
def test_a_survival_that_was_never_fitted_gives_no_risk(invented: dict[int, float]) -> None:
    """Neither risk, class nor survival, also of a bundle of before whose baseline was made up; the rest is as ever."""
    raw = replace(SURE, risks=(0.7, 0.8, 0.9))
    findings = decide(raw, [LESION], replace(UNFITTED, baseline_survival=invented))
    assert (findings.survival_risk, findings.risk_class, findings.survival) == (None, None, {})
    known = decide(raw, [LESION], CALIBRATION)
    silent = replace(known, survival_risk=None, risk_class=None, survival={})
    assert findings == silent


def test_a_fit_on_less_than_a_year_keeps_risk_and_class() -> None:
    """No year is known, but patients can be told apart."""
    short = replace(CALIBRATION, baseline_survival={}, risk_centre=0.2)
    findings = decide(replace(SURE, risks=(0.1, 0.1, 0.1)), [LESION], short)
    assert (findings.risk_class, findings.survival) == (RiskClass.MODERATE, {})
    assert findings.survival_risk
    assert findings.survival_risk.mean == pytest.approx(-0.1)
