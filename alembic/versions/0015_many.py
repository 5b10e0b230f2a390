"""indexes for a million studies: which are kept, files by digest, the oldest job; whose an association is"""

import sqlalchemy as sa

import daemon.ledger.tables
from alembic import op

revision = "0015"
down_revision = "0014"

_KEPT, _THERE = sa.text("kept"), sa.text("NOT freed")


def upgrade() -> None:
    # All of them, until retention has looked: it marks what it finds freed.
    op.add_column("studies", sa.Column("kept", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.create_index("ix_studies_kept", "studies", ["first_at"], sqlite_where=_KEPT, postgresql_where=_KEPT)
    op.create_index(op.f("ix_instances_digest"), "instances", ["digest"])
    op.create_index("ix_instances_arriving", "instances", ["association"], sqlite_where=_THERE, postgresql_where=_THERE)
    op.create_index(op.f("ix_outputs_digest"), "outputs", ["digest"])
    op.drop_index("ix_jobs_claim", "jobs")
    op.create_index("ix_jobs_oldest", "jobs", ["state", "priority", "created_at", "id"])

    op.add_column("associations", sa.Column("listener", sa.String(length=128), nullable=False, server_default=""))
    op.add_column("associations", sa.Column("seen_at", daemon.ledger.tables.Moment(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("associations", "seen_at")
    op.drop_column("associations", "listener")
    op.drop_index("ix_jobs_oldest", "jobs")
    op.create_index("ix_jobs_claim", "jobs", ["state", "not_before"])
    op.drop_index(op.f("ix_outputs_digest"), "outputs")
    op.drop_index("ix_instances_arriving", "instances")
    op.drop_index(op.f("ix_instances_digest"), "instances")
    op.drop_index("ix_studies_kept", "studies")
    op.drop_column("studies", "kept")
