"""Which revision a ledger has, and which this release needs: told without Alembic, which takes long to load."""

from sqlalchemy import Engine, inspect, text

# The last of alembic/versions.
NEWEST = "0016"


def revision(engine: Engine) -> str | None:
    """Return the ledger's revision; None where it has no table yet."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def behind(engine: Engine) -> bool:
    """Return whether the ledger lacks a migration, or has one that this release does not know."""
    return revision(engine) != NEWEST
