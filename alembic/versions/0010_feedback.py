"""feedback: corrected outlines that came back, and people's word on results"""

import sqlalchemy as sa

import daemon.ledger.tables
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    moment = daemon.ledger.tables.Moment(timezone=True)
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=True),
        sa.Column("evidence", sa.String(length=24), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("dice", sa.Double(), nullable=True),
        sa.Column("ml", sa.Double(), nullable=True),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("freed", sa.Boolean(), nullable=False),
        sa.Column("association", sa.String(length=80), nullable=False),
        sa.Column("patient_key", sa.String(length=64), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", moment, nullable=False),
        sa.Column("exported_at", moment, nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("sop_instance_uid", "digest"),
    )
    op.create_index("ix_feedback_due", "feedback", ["state", "due_at"])
    op.create_index(op.f("ix_feedback_study_uid"), "feedback", ["study_uid"])
    op.create_index(op.f("ix_feedback_job_id"), "feedback", ["job_id"])
    op.create_index(op.f("ix_feedback_association"), "feedback", ["association"])


def downgrade() -> None:
    op.drop_table("feedback")
