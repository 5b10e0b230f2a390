"""Column types that SQLite and PostgreSQL both keep faithfully."""

import json
import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Integer, String, TypeDecorator
from sqlalchemy.engine import Dialect

# A NUL, or a surrogate: in JSON text a part of a pair is no harm, and is looked at for nothing.
_ODD_JSON = re.compile(r"\\u(?:0000|d[89a-f])", re.IGNORECASE)
_ODD = re.compile("[\x00\ud800-\udfff]")
_REPLACEMENT = "\ufffd"

# Rows that are counted for years: 32 bits end after ten days of a nation's instances. SQLite's are of 64 bits anyway.
Number = BigInteger().with_variant(Integer(), "sqlite")
# Compared by bytes, as SQLite does: a language's order ignores the dots of a UID, and takes longer.
Uid = String(64).with_variant(String(64, collation="C"), "postgresql")


class Moment(TypeDecorator[datetime]):
    """An aware UTC time; SQLite stores it without zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time in UTC."""
        del dialect
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time as aware."""
        del dialect
        return None if value is None else value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Words(TypeDecorator[str]):
    """Text that may quote a peer: what PostgreSQL keeps in no text (NUL, half a surrogate pair) is replaced."""

    impl = String()
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the text, clean."""
        del dialect
        return None if value is None else clean(value)


def clean(text: str) -> str:
    """Return text without what PostgreSQL does not keep."""
    return _ODD.sub(_REPLACEMENT, text)


def document(value: object) -> str:
    """Return a value as JSON that PostgreSQL takes apart, too; beside an escaped NUL it reads nothing."""
    text = json.dumps(value)
    return json.dumps(_cleaned(value)) if _ODD_JSON.search(text) else text


def _cleaned(value: Any) -> Any:  # noqa: ANN401 - JSON is of any shape
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): _cleaned(one) for key, one in value.items()}
    return [_cleaned(one) for one in value] if isinstance(value, list) else value
