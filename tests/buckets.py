"""An S3 service for tests: rclone on loopback, whose objects are files that a test can age and damage."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.bucket import Acknowledge, BucketPlace
from demo.ports import HOST, free_port, listens
from tests.certificates import Pair
from tests.peers import wait_until

NAME = "overread-spool"
USER, SECRET = "OVERREADTESTKEY00", "a-secret-that-nobody-may-see"


@dataclass(kw_only=True)
class Service:
    """A service with one bucket, which outlives its processes."""

    folder: Path
    pair: Pair | None = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Serve the bucket, and wait until it answers."""
        assert self.process is None
        (self.folder / "store" / NAME).mkdir(parents=True, exist_ok=True)
        told = ("--cert", str(self.pair.certificate), "--key", str(self.pair.key)) if self.pair else ()
        with (self.folder / "rclone.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(_program(), "serve", "s3", str(self.folder / "store"), "--addr", f"{HOST}:{self.port}"),
                    *("--auth-key", f"{USER},{SECRET}", "--config", os.devnull, "--dir-cache-time", "50ms", *told),
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: listens(self.port), 60, "the S3 service to listen")

    def kill(self) -> None:
        """End it without a word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let nobody serve it while the block runs, for what is done to its files: it holds in memory what it knows."""
        self.kill()
        yield
        self.start()

    @property
    def credentials(self) -> Path:
        """Return a file with what it wants."""
        path = self.folder / "credentials"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(f"[default]\naws_access_key_id = {USER}\naws_secret_access_key = {SECRET}\n")
        return path

    def place(self, acknowledge: Acknowledge = Acknowledge.BUCKET, **changes: Any) -> BucketPlace:  # noqa: ANN401 - a place's
        """Return where it is; `changes` are what else a place has."""
        scheme = "https" if self.pair else "http"
        given = {"name": NAME, "prefix": "spool", "endpoint": f"{scheme}://{HOST}:{self.port}"}
        return BucketPlace(**{**given, "credentials_file": self.credentials, "acknowledge": acknowledge, **changes})

    def table(self, acknowledge: Acknowledge = Acknowledge.BUCKET) -> str:
        """Return the table [bucket] of a configuration."""
        place = self.place(acknowledge)
        lines = {
            "url": place,
            "endpoint": place.endpoint,
            "credentials_file": self.credentials,
            "acknowledge": acknowledge,
        }
        return "\n".join(("[bucket]", *(f'{key} = "{value}"' for key, value in lines.items()), ""))

    def objects(self, digest: str = "*") -> list[Path]:
        """Return the files of its objects, all or those of a digest."""
        return sorted((self.folder / "store" / NAME / "spool/objects").glob(f"{digest}/*"))


def _program() -> str:
    here = Path(sys.executable).parent / "rclone"
    found = str(here) if here.exists() else shutil.which("rclone")
    if not found:
        pytest.skip("rclone is not installed; `make setup` installs it")
    return found


@contextmanager
def service(folder: Path, pair: Pair | None = None) -> Iterator[Service]:
    """Run one until the block ends."""
    made = Service(folder=folder, pair=pair)
    made.start()
    try:
        yield made
    finally:
        made.kill()
