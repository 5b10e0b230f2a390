"""kinds of output by longer names, and which of them destinations get"""

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    with op.batch_alter_table("outputs") as outputs:
        outputs.alter_column("kind", existing_type=sa.String(length=8), type_=sa.String(length=16))
    op.add_column("destinations", sa.Column("outputs", sa.String(), nullable=False, server_default="SEG,SR"))
    op.add_column("destinations", sa.Column("fallback", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("destinations", "fallback")
    op.drop_column("destinations", "outputs")
    with op.batch_alter_table("outputs") as outputs:
        outputs.alter_column("kind", existing_type=sa.String(length=16), type_=sa.String(length=8))
