"""what others list of a study, and what came of asking"""

import sqlalchemy as sa

import daemon.ledger.tables
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    moment = daemon.ledger.tables.Moment(timezone=True)
    op.create_table(
        "listings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("series_uid", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=12), nullable=False),
        sa.Column("modality", sa.String(length=16), nullable=False),
        sa.Column("retrieve_ae", sa.String(length=16), nullable=False),
        sa.Column("notices", sa.Integer(), nullable=False),
        sa.Column("sop_instance_uids", sa.JSON(), nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("study_uid", "series_uid", "source"),
    )
    op.create_index(op.f("ix_listings_at"), "listings", ["at"])
    op.create_table(
        "inquiries",
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("rounds", sa.Integer(), nullable=False),
        sa.Column("until", moment, nullable=False),
        sa.Column("under_way", sa.Boolean(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("study_uid"),
    )


def downgrade() -> None:
    op.drop_table("inquiries")
    op.drop_index(op.f("ix_listings_at"), "listings")
    op.drop_table("listings")
