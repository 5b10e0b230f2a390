"""the console: sessions, a job's answer by itself, and what its pages and figures are found by"""

import sqlalchemy as sa

import daemon.ledger.tables
from alembic import op

revision = "0009"
down_revision = "0008"

_REFUSED = sa.text("refusal <> ''")


def upgrade() -> None:
    moment = daemon.ledger.tables.Moment(timezone=True)
    op.create_table(
        "sessions",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("user", sa.String(length=64), nullable=False),
        sa.Column("entry", sa.String(length=64), nullable=False),
        sa.Column("began_at", moment, nullable=False),
        sa.Column("used_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.add_column("jobs", sa.Column("answer", sa.String(length=20), nullable=False, server_default=""))
    names = ("answer", "refusal", "state")
    jobs = sa.table("jobs", sa.column("findings", sa.JSON()), *(sa.column(name, sa.String()) for name in names))
    answer = jobs.c.findings["answer"].as_string()
    op.execute(sa.update(jobs).where(answer.is_not(None)).values(answer=answer))
    reported = (jobs.c.refusal != "") & (jobs.c.state == "COMPLETED")
    op.execute(sa.update(jobs).where(reported).values(answer="not-processed"))
    op.create_index("ix_jobs_newest", "jobs", ["state", "id"])
    op.create_index("ix_jobs_counts", "jobs", ["state", "bundle", "bundle_version", "answer", "reason"])
    op.create_index("ix_studies_newest", "studies", ["first_at", "uid"])
    op.create_index("ix_studies_refused", "studies", ["refusal"], sqlite_where=_REFUSED, postgresql_where=_REFUSED)
    op.create_index("ix_deliveries_counts", "deliveries", ["state", "destination"])
    op.create_index(op.f("ix_deliveries_sent_at"), "deliveries", ["sent_at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_deliveries_sent_at"), "deliveries")
    op.drop_index("ix_deliveries_counts", "deliveries")
    op.drop_index("ix_studies_refused", "studies")
    op.drop_index("ix_studies_newest", "studies")
    op.drop_index("ix_jobs_counts", "jobs")
    op.drop_index("ix_jobs_newest", "jobs")
    op.drop_column("jobs", "answer")
    op.drop_table("sessions")
