"""Fixtures that many tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from daemon.ledger.engine import connect
from daemon.ledger.migrate import upgrade


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Return an empty ledger on disk."""
    made = connect(f"sqlite:///{tmp_path / 'ledger.db'}")
    upgrade(made)
    yield made
    made.dispose()
