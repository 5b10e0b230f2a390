"""`python -m tests.fault_tests`: the files of every test that docs/reliability.md names, for `make torture`."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reliability.md"


def named(page: str) -> list[str]:
    """Return the files below `tests/` of the tests that the text names as `test_something`, each once.

    Raises:
        ValueError: there is no file of a name.
    """
    found: set[Path] = set()
    for name in sorted(set(re.findall(r"`(test_\w+)`", page))):
        files = list((ROOT / "tests").glob(f"*/{name}.py"))
        if not files:
            raise ValueError(f"{PAGE.name} names {name}, and there is no tests/*/{name}.py; correct the page")
        found.update(files)
    return sorted(str(path.relative_to(ROOT)) for path in found)


if __name__ == "__main__":
    print(*named(PAGE.read_text(encoding="utf-8")), sep="\n")  # noqa: T201 - this is what it is for
