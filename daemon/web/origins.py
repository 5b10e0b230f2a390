"""Every setting with where its value came from; what is secret is not shown."""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel
from sqlalchemy import make_url

from daemon.config import Settings
from daemon.config.sections import DestinationSection

ENVIRONMENT, FILE, DEFAULT = "environment", "file", "default"
_PREFIX = "OVERREAD_"
WITH_PASSWORD = frozenset({"data.ledger_url", "queue.broker_url"})
# Lists of NAME=... with a digest of the password behind it, which can be guessed at.
SECRET = frozenset({"listener.users", "web.logins", "web.tokens"})


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One key: its value for people, where that came from, what it is, and whether it is what it would be anyway."""

    key: str
    value: str
    origin: str
    text: str
    usual: bool


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the file."""

    name: str
    title: str
    text: str
    settings: tuple[Setting, ...]


def tables(settings: Settings, environment: Mapping[str, str] | None = None) -> tuple[Table, ...]:
    """Return the settings as this process has them, by table; of the file it is asked only what stands there."""
    given = _Given(settings.path, os.environ if environment is None else environment)
    found = [_table(name, getattr(settings, name), given) for name in Settings.model_fields if name != "destination"]
    return (*found, *(_table("destination", section, given) for section in settings.destination))


class _Given:
    """Which keys the environment and the file give."""

    def __init__(self, path: Path | None, environment: Mapping[str, str]) -> None:
        self._environment = {key.upper(): value for key, value in environment.items() if value}
        self._file = tomllib.loads(path.read_text(encoding="utf-8")) if path else {}

    def origin(self, table: str, key: str) -> str:
        whole = f"{_PREFIX}{table}".upper()
        if f"{whole}__{key}".upper() in self._environment or key in _keys(self._environment.get(whole, "")):
            return ENVIRONMENT
        return FILE if key in _keys_of(self._file.get(table)) else DEFAULT


def _keys(text: str) -> frozenset[str]:
    """Return the keys of a table that the environment gives whole, as JSON."""
    try:
        return _keys_of(json.loads(text)) if text else frozenset()
    except ValueError:
        return frozenset()


def _keys_of(found: object) -> frozenset[str]:
    parts = found if isinstance(found, list) else [found]
    return frozenset(str(key) for part in parts if isinstance(part, dict) for key in part)


def _table(name: str, section: BaseModel, given: _Given) -> Table:
    settings = tuple(
        Setting(
            key=key,
            value=_shown(f"{name}.{key}", getattr(section, key)),
            origin=given.origin(name, key),
            text=field.description or "",
            usual=getattr(section, key) == field.default,
        )
        for key, field in type(section).model_fields.items()
    )
    title = f"[[destination]] {section.name}" if isinstance(section, DestinationSection) else f"[{name}]"
    return Table(name=name, title=title, text=type(section).__doc__ or "", settings=settings)


def _shown(name: str, value: object) -> str:
    if name in SECRET and isinstance(value, tuple | list):
        return ", ".join(str(entry).partition("=")[0] for entry in value)
    if name in WITH_PASSWORD and value:
        return make_url(str(value)).render_as_string(hide_password=True)
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
