"""Runs migrations on the connection that `daemon.ledger.migrate` hands in, or on `-x url=...`."""

from sqlalchemy import Connection

from alembic import context
from daemon.ledger.engine import connect
from daemon.ledger.tables import Base


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    with connect(context.get_x_argument(as_dictionary=True)["url"]).begin() as opened:
        _run(opened)
