"""A ledger as many studies leave it, written by the database itself in a few statements (`ledger_rows.sql`).

Every study is of two instances, has a completed job, a SEG and an SR, their confirmed deliveries and every step. They
came evenly over 90 days; the files of the last seven are still there.
"""

import json
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, func, select, text, update

from benchmarks.console import FOUND
from daemon.ledger.rows import instance_json
from daemon.ledger.tables import Base, DeliveryRow, InstanceRow, JobRow, OutputRow, StudyRow, TransitionRow
from tests.instances import series

DAYS, KEPT = 90, 7
# So many jobs of the last studies wait for a worker.
BACKLOG = 1000
TABLES: tuple[type[Base], ...] = (StudyRow, InstanceRow, JobRow, OutputRow, DeliveryRow, TransitionRow)
_COUNTED = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :studies) "
_AT = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%S.000000', :began, '+' || CAST(i * :apart + {0} AS INTEGER) || ' seconds')",
    "postgresql": "CAST(:began AS timestamptz) + (i * :apart + {0}) * interval '1 second'",
}
_JSON = {"sqlite": ":{0}", "postgresql": "CAST(:{0} AS json)"}


def fill(engine: Engine, studies: int, now: datetime) -> None:
    """Write the ledger."""
    documents = {"facts": instance_json(series(1)[0]), "findings": FOUND, "digests": ["d" * 64] * 20, "empty": {}}
    values = {
        "studies": studies,
        "began": (now - timedelta(days=DAYS)).strftime("%Y-%m-%d %H:%M:%S"),
        "apart": DAYS * 86400 / studies,
        "gone": studies - studies * KEPT // DAYS,
        **{name: json.dumps(document) for name, document in documents.items()},
    }
    dialect = engine.dialect.name
    words = {
        "uid": "'1.2.826.0.1.3680043.8.498.' || i",
        # Digests come in no order.
        "scattered": "'digest' || (CAST(i AS bigint) * 1103515245 % 2147483647) || '-'",
        **{name: _AT[dialect].format(later) for name, later in (("came", 0), ("made", 30), ("done", 35))},
        **{name: _JSON[dialect].format(name) for name in documents},
    }
    template = Path(__file__).with_name("ledger_rows.sql").read_text(encoding="utf-8")
    with engine.begin() as connection:
        for part in template.format(**words).split(";"):
            head, _, tail = part.strip().partition("\nSELECT ")
            statement = text(f"{head}\n{_COUNTED}SELECT {tail}")
            connection.execute(statement, {name: values[name] for name in statement.compile().params})
        waiting = update(JobRow).where(JobRow.id > studies - BACKLOG)
        connection.execute(waiting.values(state="SCHEDULED", finished_at=None, answer="", findings={}))
        for table in TABLES[1:] if dialect == "postgresql" else ():
            sequence = func.pg_get_serial_sequence(table.__tablename__, "id")
            connection.execute(select(func.setval(sequence, select(func.max(table.id)).scalar_subquery())))  # type: ignore[attr-defined]
    if dialect == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


def sizes(engine: Engine) -> dict[str, tuple[int, float]]:
    """Return the rows of each table, and the bytes of one with its share of the indexes."""
    # Of SQLite `pageno` counts pages; their bytes, `pgsize`, would not fit into its 32 bits.
    pages = text(
        "SELECT pg_total_relation_size(CAST(:name AS regclass))"
        if engine.dialect.name == "postgresql"
        else "SELECT sum(pageno) * (SELECT page_size FROM pragma_page_size) FROM dbstat"
        " WHERE aggregate = TRUE AND name IN (SELECT name FROM sqlite_master WHERE tbl_name = :name)"
    )
    found = {}
    with engine.connect() as connection:
        for table in TABLES:
            rows = connection.scalar(select(func.count()).select_from(table)) or 0
            found[table.__tablename__] = (rows, float(connection.scalar(pages, {"name": table.__tablename__})) / rows)
    return found
