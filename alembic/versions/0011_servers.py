"""PostgreSQL: numbers of 64 bits, UIDs compared by bytes; one instance of a UID that is no conflict, as a constraint"""

import sqlalchemy as sa

from alembic import op

revision = "0011"
down_revision = "0010"

_NUMBERS = {
    "instances": ("id",),
    "listings": ("id",),
    "jobs": ("id", "supersedes"),
    "outputs": ("id", "job_id"),
    "deliveries": ("id", "output_id"),
    "feedback": ("id", "job_id"),
    "transitions": ("id", "subject_id"),
}
_UIDS = {
    "instances": ("sop_instance_uid", "digest", "study_uid", "series_uid"),
    "studies": ("uid",),
    "listings": ("study_uid", "series_uid"),
    "inquiries": ("study_uid",),
    "jobs": ("study_uid", "bundle_digest"),
    "outputs": ("sop_class_uid", "sop_instance_uid", "series_uid", "digest"),
    "deliveries": ("transaction_uid",),
    "sessions": ("digest",),
    "feedback": ("study_uid", "sop_instance_uid", "digest"),
}
_FIRST = sa.text("NOT conflict")


def _change(number: str, sequence: str, uid: str) -> None:
    """Give numbers and UIDs these types; SQLite's are as wanted."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in sorted({*_NUMBERS, *_UIDS}):
        types = {**dict.fromkeys(_NUMBERS.get(table, ()), number), **dict.fromkeys(_UIDS.get(table, ()), uid)}
        op.execute(f"ALTER TABLE {table} " + ", ".join(f"ALTER {name} TYPE {kind}" for name, kind in types.items()))
    for table in _NUMBERS:
        op.execute(f"ALTER SEQUENCE {table}_id_seq AS {sequence}")


def upgrade() -> None:
    _change("bigint", "bigint", 'varchar(64) COLLATE "C"')
    # The constraint on UID and digest finds all of a UID already.
    op.drop_index(op.f("ix_instances_sop_instance_uid"), "instances")
    op.create_index(
        "uq_instances_first",
        "instances",
        ["sop_instance_uid"],
        unique=True,
        sqlite_where=_FIRST,
        postgresql_where=_FIRST,
    )


def downgrade() -> None:
    op.drop_index("uq_instances_first", "instances")
    op.create_index(op.f("ix_instances_sop_instance_uid"), "instances", ["sop_instance_uid"])
    _change("integer", "integer", 'varchar(64) COLLATE "default"')
