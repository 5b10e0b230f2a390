"""The card's goals: what was aimed at stands beside what was reached, short ones in bold."""

from training.calibration.figures import Scores
from training.card import goals_section
from training.settings import Goals


def scores(dice: float) -> Scores:
    """Return the figures of a set without follow-up."""
    return Scores(
        studies=9, dice_mean=dice, dice_median=dice, auc=0.99, sensitivity=1.0, specificity=1.0, c_index=0.6,
        c_index_oracle=0.8,
    )  # fmt: skip


def test_a_goal_is_reached_short_or_not_measured() -> None:
    """Each figure that has a goal has a line, in the words of the figures' table."""
    goals = {
        "ours": Goals(dice_mean=0.7, auc=0.99, c_index_share=0.95),
        "theirs": Goals(dice_mean=0.5),
    }
    lines = goals_section(goals, {"ours": scores(0.6)}).splitlines()
    assert "| ours | Dice mean | 0.7 | 0.600 | **short** |" in lines
    assert "| ours | AUC | 0.99 | 0.990 | reached |" in lines
    assert "| ours | C-index, share of the oracle's | 0.95 | 0.750 | **short** |" in lines
    assert "| theirs | Dice mean | 0.5 | n/a | not measured |" in lines


def test_without_goals_there_is_no_section() -> None:
    """A model of one's own need not have any."""
    assert not goals_section({}, {"ours": scores(0.6)})
