"""pauses, studies that are too large, added destinations by TLS"""

import sqlalchemy as sa

import daemon.ledger.tables
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "pauses",
        sa.Column("activity", sa.String(length=12), nullable=False),
        sa.Column("since", daemon.ledger.tables.Moment(timezone=True), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("activity"),
    )
    op.add_column("studies", sa.Column("oversize", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("destinations", sa.Column("tls", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("destinations", "tls")
    op.drop_column("studies", "oversize")
    op.drop_table("pauses")
