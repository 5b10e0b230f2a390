"""init writes a configuration that holds, or none."""

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.cli.main import app
from daemon.config import CONFIG_NAME, load
from daemon.errors import FatalError
from daemon.runtime import RUNNING, marked

RUNNER = CliRunner()


@pytest.mark.parametrize(
    "wrong",
    [
        ("--port", "99999"),
        ("--ae-title", "LONGER-THAN-SIXTEEN"),
        ("--allow", "BACK\\SLASH"),
        ("--destination", "pacs"),
        ("--destination", "pacs=PACS@127.0.0.1:0"),
        ("--destination", "pacs=A@h:1", "--destination", "pacs=B@h:2"),
    ],
    ids=" ".join,
)
def test_a_wrong_option_leaves_nothing_behind(wrong: tuple[str, ...], tmp_path: Path) -> None:
    """A wrong value is wrong usage, writes no file, and does not stand in the way of the next init."""
    site = tmp_path / "site"
    assert RUNNER.invoke(app, ["init", str(site), *wrong]).exit_code == 2
    assert not site.exists()
    assert RUNNER.invoke(app, ["init", str(site)]).exit_code == 0


def test_options_come_back_from_the_file(tmp_path: Path) -> None:
    """What init was told is what the configuration says; neither it nor the data is anyone else's to read."""
    options = ["--ae-title", "SECOND READ", "--port", "1104", "--allow", "MR1", "--destination", "pacs=PACS@::1:104"]
    told = RUNNER.invoke(app, ["init", str(tmp_path), *options])
    assert told.exit_code == 0, told.output
    settings = load(tmp_path)
    rights = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (settings.data.folder, tmp_path / CONFIG_NAME)}
    assert rights == {"data": 0o700, CONFIG_NAME: 0o600}
    assert (settings.listener.ae_title, settings.listener.port) == ("SECOND READ", 1104)
    assert settings.listener.allowed_callers == ("MR1",)
    assert [(d.name, d.ae_title, d.host, d.port) for d in settings.destination] == [("pacs", "PACS", "::1", 104)]


def test_a_ledger_is_not_changed_under_a_part_that_runs(tmp_path: Path) -> None:
    """Whichever it is; once it has ended the ledger is migrated."""
    assert RUNNER.invoke(app, ["init", str(tmp_path)]).exit_code == 0
    older = ["ledger", "downgrade", "0007", "--config", str(tmp_path)]
    with marked(tmp_path / "data" / RUNNING, "deliver"):
        told = RUNNER.invoke(app, older)
        assert (type(told.exception), "`overread deliver` runs" in str(told.exception)) == (FatalError, True)
    assert RUNNER.invoke(app, older).exit_code == 0
    with marked(tmp_path / "data" / RUNNING, "work"):
        told = RUNNER.invoke(app, ["init", str(tmp_path)])
        assert "`overread work` runs" in str(told.exception)
    assert RUNNER.invoke(app, ["init", str(tmp_path)]).exit_code == 0
