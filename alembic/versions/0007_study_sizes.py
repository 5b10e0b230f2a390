"""how large a study is, and how large one was that was refused; how many workers ended at a job"""

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"
_COLUMNS = ("size", "refused_size")


def upgrade() -> None:
    for name in _COLUMNS:
        op.add_column("studies", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE studies SET size = COALESCE("
        "(SELECT SUM(instances.size) FROM instances WHERE instances.study_uid = studies.uid), 0)"
    )
    op.execute("UPDATE studies SET refusal = 'study-too-large' WHERE refusal = 'too-many-instances'")
    op.add_column("jobs", sa.Column("deaths", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("jobs", "deaths")
    op.execute("UPDATE studies SET refusal = 'too-many-instances' WHERE refusal = 'study-too-large'")
    for name in reversed(_COLUMNS):
        op.drop_column("studies", name)
