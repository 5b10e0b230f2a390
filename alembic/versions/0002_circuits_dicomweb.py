"""circuits, and destinations by url"""

import sqlalchemy as sa

import daemon.ledger.tables
from alembic import op

revision = "0002"
down_revision = "0001"
_COLUMNS = ("url", "token_file", "password_file", "ca_file")


def upgrade() -> None:
    op.create_table(
        "circuits",
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("since", daemon.ledger.tables.Moment(timezone=True), nullable=False),
        sa.Column("next_at", daemon.ledger.tables.Moment(timezone=True), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("destination"),
    )
    for name in _COLUMNS:
        op.add_column("destinations", sa.Column(name, sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    for name in _COLUMNS:
        op.drop_column("destinations", name)
    op.drop_table("circuits")
