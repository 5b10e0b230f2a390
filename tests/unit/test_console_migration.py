"""What the console's migration makes of a ledger that was there before it."""

from collections.abc import Callable
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from alembic import command
from daemon.ledger.engine import connect
from daemon.ledger.migrate import _config
from daemon.ledger.queries import Queries

STUDY = (
    "INSERT INTO studies (uid, first_at, last_at, instances, dirty, verdict, evidence, refusal)"
    " VALUES ('1.2', :at, :at, 1, 0, '', '', '')"
)
JOB = (
    "INSERT INTO jobs (id, key, study_uid, bundle, bundle_version, bundle_digest, series, digests, state, reason,"
    " detail, attempts, created_at, not_before, worker, fence, findings, seconds)"
    " VALUES (:id, :key, '1.2', 'b', '1', 'd', '{}', '[]', 'COMPLETED', '', '', 1, :at, :at, '', 1, :findings, '{}')"
)


def move(engine: Engine, run: Callable[[Config, str], None], revision: str) -> None:
    """Bring the ledger to a revision."""
    with engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        run(config, revision)


def test_answers_are_taken_from_the_findings_and_back(tmp_path: Path) -> None:
    """A job that answered has its answer in a column of its own; one without findings has none; and it goes back."""
    (console,) = [s for s in ScriptDirectory.from_config(_config()).walk_revisions() if s.path.endswith("_console.py")]
    before = str(console.down_revision)
    engine = connect(f"sqlite:///{tmp_path / 'ledger.db'}")
    move(engine, command.upgrade, before)
    at = "2026-01-01 12:00:00.000000"
    with engine.begin() as connection:
        connection.execute(text(STUDY), {"at": at})
        for number, findings in ((1, '{"answer": "uncertain"}'), (2, "{}")):
            row = {"id": number, "key": str(number), "at": at, "findings": findings}
            connection.execute(text(JOB), row)
    move(engine, command.upgrade, console.revision)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT answer FROM jobs ORDER BY id")).scalars().all() == ["uncertain", ""]
    move(engine, command.downgrade, before)
    assert "answer" not in {column["name"] for column in inspect(engine).get_columns("jobs")}
    move(engine, command.upgrade, "head")
    assert len(Queries(engine).jobs()) == 2
    engine.dispose()
