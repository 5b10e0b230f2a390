"""second reads: what another bundle says of a job that was answered"""

import sqlalchemy as sa

from alembic import op
from daemon.ledger.types import Moment, Number, Uid, Words

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    moment = Moment(timezone=True)
    op.create_table(
        "second_reads",
        sa.Column("id", Number, nullable=False),
        sa.Column("job_id", Number, nullable=False),
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("bundle_version", sa.String(length=32), nullable=False),
        sa.Column("bundle_digest", Uid, nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.Column("asked", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("detail", Words(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("due_at", moment, nullable=False),
        sa.Column("finished_at", moment, nullable=True),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.JSON(), nullable=False),
        sa.Column("answer", sa.String(length=20), nullable=False),
        sa.Column("probability", sa.Double(), nullable=True),
        sa.Column("dice", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id", "bundle_digest"),
    )
    op.create_index("ix_second_reads_due", "second_reads", ["state", "due_at"])
    op.create_index("ix_second_reads_of_bundle", "second_reads", ["bundle_digest", "state", "id"])


def downgrade() -> None:
    op.drop_table("second_reads")
