"""small indexes: of jobs that wait, of those that are worked on, of studies with news, of instances that conflict"""

import sqlalchemy as sa

from alembic import op

revision = "0016"
down_revision = "0015"

# name -> table, columns, of which rows
_SOME = {
    "ix_jobs_waiting": ("jobs", ["state", "priority", "created_at", "id"], "state = 'SCHEDULED'"),
    "ix_jobs_under_way": ("jobs", ["state", "lease_until"], "state = 'IN PROGRESS'"),
    "ix_studies_news": ("studies", ["dirty", "first_at", "uid"], "dirty"),
    "ix_instances_conflicting": ("instances", ["study_uid"], "conflict"),
}


def upgrade() -> None:
    for name, (table, columns, which) in _SOME.items():
        op.create_index(name, table, columns, sqlite_where=sa.text(which), postgresql_where=sa.text(which))
    op.drop_index("ix_jobs_oldest", "jobs")
    op.drop_index(op.f("ix_studies_dirty"), "studies")


def downgrade() -> None:
    op.create_index(op.f("ix_studies_dirty"), "studies", ["dirty"])
    op.create_index("ix_jobs_oldest", "jobs", ["state", "priority", "created_at", "id"])
    for name, (table, _, _) in _SOME.items():
        op.drop_index(name, table)
