"""scores: each answer's numbers by themselves, by which drift is told"""

import math
from typing import Any

import sqlalchemy as sa

from alembic import op
from daemon.ledger.types import Number, Uid

revision = "0012"
down_revision = "0011"

BATCH = 1000


def upgrade() -> None:
    op.create_table(
        "scores",
        sa.Column("id", Number, nullable=False),
        sa.Column("job_id", Number, nullable=False),
        sa.Column("bundle_digest", Uid, nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.Column("risk", sa.Double(), nullable=False),
        sa.Column("volume_ml", sa.Double(), nullable=False),
        sa.Column("entropy", sa.Double(), nullable=False),
        sa.Column("novelty", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id"),
    )
    op.create_index("ix_scores_of_bundle", "scores", ["bundle_digest", "id"])
    _fill()


def _fill() -> None:
    """Give the answers of before their rows, oldest first."""
    jobs = sa.table(
        "jobs", sa.column("id", sa.Integer()), sa.column("bundle_digest", sa.String()), sa.column("findings", sa.JSON())
    )
    names = ("job_id", "bundle_digest", "probability", "risk", "volume_ml", "entropy")
    scores = sa.table("scores", *(sa.column(name) for name in names))
    connection, last = op.get_bind(), 0
    while rows := connection.execute(sa.select(jobs).where(jobs.c.id > last).order_by(jobs.c.id).limit(BATCH)).all():
        last = rows[-1].id
        found = [_values(*row) for row in rows if "tumour_probability" in (row.findings or {})]
        if found:
            connection.execute(sa.insert(scores), found)


def _values(job: int, digest: str, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "job_id": job,
        "bundle_digest": digest,
        "probability": found["tumour_probability"]["mean"],
        # As `ledger.scores` says that there is none: the column takes no NULL.
        "risk": (found["survival_risk"] or {"mean": math.inf})["mean"],
        "volume_ml": sum(lesion["volume_ml"] for lesion in found["lesions"]),
        "entropy": found["uncertainty"]["score"],
    }


def downgrade() -> None:
    op.drop_table("scores")
