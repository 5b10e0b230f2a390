"""What `studies show` draws of a study's steps."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.cli.main import app
from tests.consoles import configured
from tests.houses import House as Ledger


def test_steps_come_in_order_from_the_first_instance_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instances, the job's states, each delivery's: as lines for people, whole for programs."""
    monkeypatch.setenv("COLUMNS", "200")
    site = configured(tmp_path)
    Ledger(tmp_path / "data", site.engine).completed(b"one", b"two")
    command = ["studies", "show", "1.2", "--config", str(tmp_path)]
    steps = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)["timeline"]
    assert [step["what"] for step in steps][:2] == ["first instance", "last instance"]
    said = [step["what"] for step in steps]
    assert said.index("job 1: SCHEDULED") < said.index("job 1: IN PROGRESS") < said.index("job 1: COMPLETED")
    assert [step["after"] for step in steps] == sorted(step["after"] for step in steps)
    places = [step["line"].index("●") for step in steps]
    assert places == sorted(places)
    assert {len(step["line"]) for step in steps} == {24}
    drawn = CliRunner().invoke(app, command).stdout
    assert "job 1 b 1 COMPLETED" in drawn
    assert all(step["what"] in drawn for step in steps)
    site.engine.dispose()
