"""The house rules that no linter checks."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("daemon", "training", "dicom_fixtures", "demo", "benchmarks", "tests")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40
NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def _sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def _span(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _is_docstring(node: ast.AST) -> TypeGuard[ast.Expr]:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _code_lines(source: str) -> set[int]:
    """Return the lines that hold code: neither blank, comment nor docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(_span(node))
    return lines


def _functions(source: str) -> Iterator[tuple[str, int]]:
    lines = _code_lines(source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, sum(line in lines for line in _span(node))


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    """No file is over 400 lines and no function over 40 code lines."""
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_FILE_LINES
    assert [(name, size) for name, size in _functions(source) if size > MAX_FUNCTION_LINES] == []


def test_documents_link_to_files_that_exist() -> None:
    """Every relative link in the documents leads somewhere."""
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_alembic_folder_does_not_shadow_the_library() -> None:
    """`import alembic` must find the library, so our folder is no package."""
    assert not (ROOT / "alembic" / "__init__.py").exists()


def test_no_secret_or_machine_path_is_tracked() -> None:
    """No tracked text names a private key or a folder of a developer's machine."""
    git = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    patterns = ("-----BEGIN " + "PRIVATE KEY", "/work" + "/main", "/work" + "/shared", "/home" + "/")
    found = [
        name
        for name in git.stdout.splitlines()
        if name.endswith((".py", ".md", ".toml", ".sh", ".txt", ".json", ".ini", "Makefile"))
        and any(pattern in (ROOT / name).read_text(encoding="utf-8") for pattern in patterns)
    ]
    assert found == []
