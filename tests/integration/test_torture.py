"""A short torture: the long one is `python -m tests.torture`."""

from pathlib import Path

from tests.torture import torture


def test_random_kills_lose_nothing(tmp_path: Path) -> None:
    """Five SIGKILLs while two studies are pushed over a bad network: nothing lost, each answered exactly once."""
    figures = torture(kills=5, studies=2, seed=3, folder=tmp_path)
    assert (figures.lost, figures.answered_once, figures.wrong) == (0, 2, {}), str(figures)
