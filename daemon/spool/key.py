"""The key that hides patients in the ledger, beside the spool."""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from daemon.errors import FatalError
from daemon.spool.store import sync_folder

NAME = "patient.key"
_SIZE = 32


def patient_key(folder: Path) -> bytes:
    """Return the key of a data folder; made once, of which others see all or nothing, and on the disk on return.

    Raises:
        FatalError: what is there is no key.
    """
    path = folder / NAME
    if not path.exists():
        handle, draft = tempfile.mkstemp(prefix=".key-", dir=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_SIZE))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first, and its key is the one
            os.link(draft, path)
        Path(draft).unlink()
    sync_folder(folder)
    key = path.read_bytes()
    if len(key) != _SIZE:
        raise FatalError(f"{NAME} in the data folder is not {_SIZE} bytes long; restore it from a backup")
    return key
