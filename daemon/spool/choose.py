"""Which spool: a folder, or a bucket with a folder before it."""

from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

from daemon.domain.bucket import BucketPlace
from daemon.errors import FatalError
from daemon.spool.store import Spool


def choose(root: Path, headroom: int, bucket: BucketPlace | None, keep: timedelta, key: Callable[[], bytes]) -> Spool:
    """Return the spool in the folder `root`; for `bucket`, copies stay `keep` and `key` gives patient.key.

    Raises:
        FatalError: what a bucket is reached with is not installed, or a file that it names cannot be used.
    """
    if bucket is None:
        return Spool(root, headroom)
    if not find_spec("obstore"):
        raise FatalError("bucket.url needs obstore; run `pip install overread[s3]`, or leave bucket.url empty")
    from daemon.spool.bucket import BucketSpool, Terms
    from daemon.spool.s3 import Bucket

    terms = Terms(acknowledge=bucket.acknowledge, keep=keep, key=key)
    return BucketSpool(root, headroom, Bucket(bucket), terms)
