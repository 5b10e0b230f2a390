"""messages: how soon and by whom a job is done, when workers were told of it, and how often they were"""

import sqlalchemy as sa

import daemon.ledger.tables
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("priority", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("resource", sa.String(length=12), server_default="cpu", nullable=False))
    op.add_column("jobs", sa.Column("told_at", daemon.ledger.tables.Moment(timezone=True), nullable=True))
    op.create_table(
        "tallies",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def downgrade() -> None:
    op.drop_table("tallies")
    for column in ("told_at", "resource", "priority"):
        op.drop_column("jobs", column)
