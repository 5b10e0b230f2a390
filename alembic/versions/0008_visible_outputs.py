"""kinds of output by longer names, and which of them destinations get"""

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    # SQLite knows no lengths, and would have to make the table anew, which deliveries refer to.
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("outputs", "kind", type_=sa.String(length=16))
    op.add_column("destinations", sa.Column("outputs", sa.String(), nullable=False, server_default="SEG,SR"))
    op.add_column("destinations", sa.Column("fallback", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    # The kind stays as wide as it is: longer names may be there.
    op.drop_column("destinations", "fallback")
    op.drop_column("destinations", "outputs")
