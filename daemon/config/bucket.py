"""The table [bucket]."""

import re
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from daemon.config.sections import URL, Section
from daemon.domain.bucket import Acknowledge, BucketPlace

# S3's own rule for names; a prefix of what needs no encoding.
_BUCKET = r"s3://(?P<name>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/[A-Za-z0-9._-]+)*)/?"
_LOOPBACK = frozenset({"127.0.0.1", "localhost"})


class BucketSection(Section):
    """An S3 bucket that holds what the spool holds, for several machines and against the loss of one."""

    url: str = Field(
        "",
        pattern=rf"^({_BUCKET})?$",
        description="s3://NAME/PREFIX; needs `pip install overread[s3]`. Empty: the spool is a folder alone.",
    )
    endpoint: str = Field("", pattern=rf"^$|{URL}", description="The S3 service, https://HOST:PORT; empty is Amazon's.")
    region: str = Field("us-east-1", pattern=r"^[a-z0-9-]+$", description="Its region.")
    credentials_file: Path | None = Field(
        None,
        description="File as ~/.aws/credentials is, of which [default] counts; left out, AWS_* or the machine's role.",
    )
    ca_file: Path | None = Field(None, description="File with certificates to trust beside the public ones.")
    allow_http: bool = Field(default=False, description="Speak http, readable by all between, beyond this machine.")
    acknowledge: Acknowledge = Field(
        Acknowledge.BUCKET,
        description="bucket: success to a sender once an instance is in the bucket, too; local: once it is on this "
        "machine's disk, which is lost with the machine until it is uploaded.",
    )

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        parts = urlsplit(self.endpoint)
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not self.allow_http:
            raise ValueError("endpoint is http, which all between can read; use https, or set allow_http = true")
        if self.ca_file and parts.scheme != "https":
            raise ValueError("ca_file needs an endpoint with https")
        return self

    @property
    def place(self) -> BucketPlace | None:
        """Return `url` and what belongs to it; None where there is no bucket."""
        found = re.fullmatch(_BUCKET, self.url)
        return found and BucketPlace(
            name=found["name"],
            prefix=found["prefix"].strip("/"),
            endpoint=self.endpoint,
            region=self.region,
            credentials_file=self.credentials_file,
            ca_file=self.ca_file,
            acknowledge=self.acknowledge,
        )
