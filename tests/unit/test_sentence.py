"""What a report says in plain words."""

from dataclasses import replace

import pytest

from daemon.domain.finding import Answer, Doubt, Estimate, Findings, Interval, Lesion, RiskClass, Uncertainty
from daemon.results.sentence import conclusion, no_survival, spread, sureness


def found(answer: Answer, estimate: tuple[float, float], volumes: tuple[float, ...] = (), *doubts: Doubt) -> Findings:
    lesions = tuple(
        Lesion(
            number=number,
            volume_ml=volume,
            volume_sd_ml=0.1,
            longest_mm=9.0,
            centre_mm=(0, 0, 0),
            bounds_mm=((0, 0, 0), (1, 1, 1)),
            slices=(3, 4),
            key_slice=3,
            probability=0.9,
        )
        for number, volume in enumerate(volumes, 1)
    )
    return Findings(
        answer=answer,
        tumour_probability=Estimate(mean=estimate[0], sd=estimate[1]),
        survival_risk=Estimate(mean=0, sd=0),
        risk_class=RiskClass.LOW,
        survival={},
        uncertainty=Uncertainty(score=0.25, flag=bool(doubts), doubts=doubts),
        lesions=lesions,
        passes=30,
        seed=1,
    )


SENTENCES = {
    "Tumour likely (0.93, 95 % 0.88-0.97). One lesion, 14.2 mL.": found(Answer.LIKELY, (0.927, 0.023), (14.23,)),
    "Tumour likely (>0.99, 95 % 0.96-1.00). 3 lesions, 12.1 mL in all, the largest 9.0 mL. Needs review: the outline "
    "is uncertain.": found(Answer.LIKELY, (0.997, 0.02), (9.0, 3.05, 0.02), Doubt.VAGUE_OUTLINE),
    "Tumour not likely (0.03, 95 % 0.00-0.07).": found(Answer.NOT_LIKELY, (0.03, 0.02)),
    "Uncertain, needs review: the tumour probability lies in the uncertain band; the images are unlike those that the "
    "model was trained on (0.50, 95 % 0.30-0.70). One lesion, 0.043 mL.": found(
        Answer.UNCERTAIN, (0.5, 0.1), (0.0432,), Doubt.BAND, Doubt.UNFAMILIAR
    ),
}


@pytest.mark.parametrize("sentence", list(SENTENCES))
def test_a_conclusion_is_a_sentence_with_its_numbers(sentence: str) -> None:
    """Answer, probability and its spread, lesions, and why a person should look; never a certainty."""
    assert conclusion(SENTENCES[sentence]) == sentence


def test_the_interval_is_what_mean_and_spread_of_the_passes_give() -> None:
    """Mean plus or minus 1.96 SD, cut to what a probability can be."""
    assert spread(Estimate(mean=0.5, sd=0.1)) == pytest.approx((0.304, 0.696))
    assert spread(Estimate(mean=0.99, sd=0.1)) == pytest.approx((0.794, 1.0))
    assert spread(Estimate(mean=0.01, sd=0.1)) == pytest.approx((0.0, 0.206))


def test_how_sure_says_what_the_interval_is_and_bounds_the_volume_where_they_are_known() -> None:
    """The passes by number, no promise of truth; the volume's bounds only from a bundle that states them."""
    plain = found(Answer.LIKELY, (0.9, 0.02), (5.0,))
    assert "30 passes" in sureness(plain)
    assert "not the chance that it is right" in sureness(plain)
    assert "volume" not in sureness(plain)
    bounded = replace(plain, volume_ml=Interval(low=2.5, high=9.26, coverage=0.9))
    assert "The volume lies within 2.5-9.3 mL in 90 % of studies like those of the calibration." in sureness(bounded)


def test_why_there_is_no_survival() -> None:
    """Never fitted, or on a follow-up that reaches no year: two things, told apart."""
    known = found(Answer.LIKELY, (0.9, 0.1))
    assert "no year" in no_survival(known)
    assert no_survival(replace(known, survival_risk=None, risk_class=None)).startswith("Survival: not fitted.")
