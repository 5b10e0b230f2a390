"""Which settings changed since they were last looked at, by keyed digests: no value is written down."""

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from pathlib import Path


class Marks:
    """A digest for each setting, in a file; `key` is the installation's own."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._path = path
        self._key = key

    def changed(self, settings: Mapping[str, object]) -> list[str]:
        """Return the names of settings that are not as remembered, in order; none where nothing is remembered."""
        try:
            before = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return []
        except ValueError:
            before = {}
        now = self._digests(settings)
        return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))

    def remember(self, settings: Mapping[str, object]) -> None:
        """Keep the digests of now.

        Raises:
            OSError: they cannot be written.
        """
        fresh = self._path.with_suffix(".new")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            json.dump(self._digests(settings), file)
        fresh.rename(self._path)

    def _digests(self, settings: Mapping[str, object]) -> dict[str, str]:
        return {
            name: hmac.new(self._key, json.dumps([name, value]).encode(), hashlib.sha256).hexdigest()
            for name, value in settings.items()
        }
