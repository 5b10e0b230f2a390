"""What nearly every arrival is, a new instance of a known study with room, written by SQLite's driver itself.

SQLAlchemy takes three times as long for the same two statements as the driver does for the whole transaction. They are
its own, compiled once; whatever else an arrival may be is for `daemon.ledger.intake` alone.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Engine, Insert, PoolProxiedConnection, Update

from daemon.ledger.engine import begin_immediately

Values = Mapping[str, Any]


class _Prepared:
    """A statement as SQLite's driver takes it, whose values are given by their names."""

    def __init__(self, statement: Insert | Update, engine: Engine, columns: Sequence[str] | None = None) -> None:
        compiled = statement.compile(dialect=engine.dialect, column_keys=columns)
        self.sql = str(compiled)
        self._order = compiled.positiontup or []
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}
        # A name may stand for several values of one meaning, of which not each has its type.
        types = [(name, bind.type.dialect_impl(engine.dialect)) for bind, name in compiled.bind_names.items()]
        found = [(name, one.bind_processor(engine.dialect)) for name, one in types]
        self._processors: dict[str, Callable[[Any], Any]] = {name: processor for name, processor in found if processor}

    def values(self, given: Values) -> list[Any]:
        """Return the values in the order in which the statement has them."""
        known = {**self._fixed, **given}
        for name, processor in self._processors.items():
            known[name] = processor(known[name])
        return [known[name] for name in self._order]


class Arrivals:
    """Writes batches of such arrivals; `add` counts one where its study is known and has room, `row` inserts it."""

    def __init__(self, engine: Engine, add: Update, row: Insert, columns: Sequence[str]) -> None:
        self._engine = engine
        self._add = _Prepared(add, engine)
        self._row = _Prepared(row, engine, columns)
        # Kept between batches: taking one from the pool and giving it back costs a third of what is written with it.
        self._lent: PoolProxiedConnection | None = None
        self._pool = engine.pool

    def write(self, batch: Sequence[tuple[Values, Values]]) -> bool:
        """Commit a batch, each with the values of both statements; return False, and write nothing, where one is other.

        Raises:
            sqlite3.Error: the transaction failed; nothing was written, or nobody knows.
        """
        connection = self._connection()
        try:
            begin_immediately(connection)
            if not all(self._written(connection, counted, row) for counted, row in batch):
                connection.rollback()
                return False
            connection.commit()
        except BaseException:
            self._give_back()
            raise
        return True

    def close(self) -> None:
        """Give the connection back, if there is one; the next batch takes another."""
        self._give_back()

    def _connection(self) -> sqlite3.Connection:
        if self._pool is not self._engine.pool:  # whoever disposed of the connections meant this one, too
            self._give_back()
        if self._lent is None:
            self._pool = self._engine.pool
            self._lent = self._engine.raw_connection()
        connection: Any = self._lent.driver_connection
        return cast("sqlite3.Connection", connection)

    def _give_back(self) -> None:
        lent, self._lent = self._lent, None
        if lent is not None:
            lent.close()  # rolls back

    def _written(self, connection: sqlite3.Connection, counted: Values, row: Values) -> bool:
        if connection.execute(self._add.sql, self._add.values(counted)).rowcount != 1:
            return False
        connection.execute(self._row.sql, self._row.values(row))
        return True
