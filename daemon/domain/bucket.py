"""Where a bucket is, and when an instance that goes into it counts as kept."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Acknowledge(StrEnum):
    """What a C-STORE success stands for: durable on this machine's disk, or in the bucket as well."""

    LOCAL = "local"
    BUCKET = "bucket"


@dataclass(frozen=True, kw_only=True)
class BucketPlace:
    """A bucket of an S3 service; an empty `endpoint` is Amazon's, without `credentials_file` the environment counts."""

    name: str
    prefix: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    credentials_file: Path | None = None
    ca_file: Path | None = None
    acknowledge: Acknowledge = Acknowledge.BUCKET

    def __str__(self) -> str:
        """Return its URL."""
        return f"s3://{self.name}/{self.prefix}".removesuffix("/")
