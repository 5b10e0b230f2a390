"""Migrations, run by Alembic from the checkout or from where the wheel put them; a copy of the ledger comes first."""

import os
import sys
from datetime import datetime
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from alembic import command
from daemon.errors import FatalError
from daemon.ledger.engine import alone
from daemon.ledger.revision import revision


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
    """Bring the ledger to the newest revision; of several machines that begin at once, one does it."""
    with engine.begin() as connection, Session(connection) as session:
        alone(session, "migration")
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def downgrade(engine: Engine, to: str) -> None:
    """Bring the ledger back to a revision that `older` names; what only newer ones know is dropped."""
    with engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.downgrade(config, to)


def older(found: str | None) -> list[str]:
    """Return the revisions before `found`, newest first.

    Raises:
        FatalError: it is not a revision of this release, but of a newer one.
    """
    try:
        walk = ScriptDirectory.from_config(_config()).iterate_revisions(found, "base") if found else ()
        return [script.revision for script in walk][1:]
    except RevisionError as error:
        raise FatalError(
            f"the ledger is at revision {found}, which this release does not know: install the release that made it, "
            "or `overread ledger downgrade` with that one first"
        ) from error


def copy(engine: Engine, folder: Path, at: datetime) -> Path:
    """Return a synced copy of an SQLite ledger, named by its revision and the time, readable by its owner alone.

    Raises:
        FatalError: the ledger is on a server, whose own means copy it.
    """
    if engine.dialect.name != "sqlite":
        raise FatalError(
            f"a ledger on {engine.dialect.name} is copied by the server's own means, such as pg_dump; do that, then "
            "say so with --copied"
        )
    path = folder / f"ledger-{revision(engine)}-{at:%Y%m%dT%H%M%SZ}.db"
    # VACUUM INTO would give it the rights of the umask; it takes an empty file that is there.
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("VACUUM INTO ?", (str(path),))
    except BaseException:
        path.unlink()
        raise
    finally:
        connection.close()
    for place in (path, folder):
        handle = os.open(place, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    return path


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts()))
    return config
