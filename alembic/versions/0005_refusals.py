"""jobs that report why a study was not processed, and what jobs leave unread"""

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("refusal", sa.String(length=40), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("unread", sa.JSON(), nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("jobs", "unread")
    op.drop_column("jobs", "refusal")
