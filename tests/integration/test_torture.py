"""A short torture on each database: the long one is `python -m tests.torture`."""

from pathlib import Path

import pytest

from tests.ledgers import DATABASES, ledger
from tests.torture import torture


@pytest.mark.parametrize("database", DATABASES)
def test_random_kills_lose_nothing(database: str, tmp_path: Path) -> None:
    """SIGKILLs while two studies are pushed over a bad network: nothing lost, each answered exactly once."""
    with ledger(database, tmp_path / "site") as kept:
        figures = torture(kills=3, studies=2, seed=3, kept=kept, folder=tmp_path)
    assert (figures.lost, figures.answered_once, figures.wrong) == (0, 2, {}), str(figures)
