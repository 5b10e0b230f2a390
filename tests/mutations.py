"""Random changes of bytes, for tests of what reads them."""

from collections.abc import Iterable

from hypothesis import strategies as st

# Where (a share of the content), how many bytes go, and what comes instead.
Change = tuple[float, int, bytes]
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=12)), min_size=1, max_size=4)


def changed(content: bytes, changes: Iterable[Change]) -> bytes:
    """Return the content with its changes."""
    for share, gone, instead in changes:
        at = int(share * len(content))
        content = content[:at] + instead + content[at + gone :]
    return content
