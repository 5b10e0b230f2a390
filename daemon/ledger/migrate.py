"""Migrations, run by Alembic from the checkout or from where the wheel put them."""

import sys
from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from alembic import command
from daemon.errors import FatalError


def scripts() -> Path:
    """Return the folder of the migrations.

    Raises:
        FatalError: neither the checkout nor the installation holds it.
    """
    places = (Path(__file__).parents[2] / "alembic", Path(sys.prefix) / "share" / "overread" / "alembic")
    for place in places:
        if (place / "env.py").is_file():
            return place
    raise FatalError(f"migrations not found in {places[0]} or {places[1]}; install overread anew")


def upgrade(engine: Engine) -> None:
    """Bring the ledger to the newest revision."""
    with engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def behind(engine: Engine) -> bool:
    """Return whether the ledger lacks a migration."""
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    return current != ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts()))
    return config
