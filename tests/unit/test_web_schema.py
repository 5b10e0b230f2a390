"""The OpenAPI schema of the console, and that a running console keeps to it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.domain.console import ConsoleToken, Role
from daemon.runtime import LISTENING, marked
from tests.consoles import Site, configured, console
from tests.tiny_bundle import make_tiny_bundle

TOKEN = "operator's"  # noqa: S105 - of these tests alone
# That a file is an image no schema can say; that there is another answer in between is up to the reading process.
RULES = """
[[operations]]
include-name = "POST /predict_multitask"
checks.positive_data_acceptance.expected-statuses = [200, 415, 422]
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A console whose every token is the same, beside a listener."""
    make_tiny_bundle(tmp_path / "models" / "brain-mri" / "0.0.1")
    (tmp_path / "token").write_text(TOKEN)
    tokens = json.dumps([str(ConsoleToken.of("x", Role.OPERATOR, TOKEN))])
    keys = {"tokens": tokens, "metrics_token_file": '"token"'}
    house = configured(tmp_path, '[inference]\nmodels = "models"\n', **keys)
    with console(house) as running, marked(house.settings.data.folder / LISTENING, "127.0.0.1:1"):
        yield running


def test_the_console_keeps_to_its_schema(site: Site, tmp_path: Path) -> None:
    """Schemathesis finds no fault: with what the schema allows, what it forbids, and without a token."""
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    schema = site.browser().get("/openapi.json", headers=bearer).json()
    wanted = {"/healthz", "/readyz", "/metrics", "/model/info", "/predict_multitask"}
    assert set(schema["paths"]) == wanted
    (tmp_path / "openapi.json").write_text(json.dumps(schema))
    (tmp_path / "schemathesis.toml").write_text(RULES)
    options = ["--max-examples", "10", "--seed", "1", "--request-timeout", "120", "--no-color"]
    program = [sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", site.url]
    header = ["--header", f"Authorization: {bearer['Authorization']}"]
    told = subprocess.run(
        [*program, *header, *options, "--suppress-health-check", "all"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "5 selected / 5 total" in told.stdout
    assert "Authentication failed" not in told.stdout
