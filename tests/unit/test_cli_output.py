"""What people read: every word of it, whatever it has in it and wherever it goes."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.cli.main import app, main
from daemon.cli.output import table

RUNNER = CliRunner()
WORDS = "put it below [web]; run `pip install overread[web]` [/store] fd00:a:1234::1"


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    uid: str
    detail: str


def test_a_table_says_all_of_its_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets and colons are no markup; in a pipe no UID is cut."""
    monkeypatch.delenv("COLUMNS", raising=False)
    row = Row(uid=f"1.2.826.0.1.{'9' * 52}", detail=WORDS)
    table("rows", [row], ("uid", "detail"), as_json=False)
    told = capsys.readouterr().out
    assert (row.uid in told, WORDS in told) == (True, True)


def test_a_narrow_table_folds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit goes on in the next line."""
    monkeypatch.setenv("COLUMNS", "30")
    table("rows", [Row(uid="1" * 40, detail="")], ("uid", "detail"), as_json=False)
    assert capsys.readouterr().out.count("1") == 40


@pytest.mark.parametrize("command", [("jobs", "list"), ("deliveries", "list"), ("feedback", "list")], ids=" ".join)
def test_a_state_that_is_none_is_told(command: tuple[str, str], tmp_path: Path) -> None:
    """As wrong usage, with what there is; case does not matter."""
    assert RUNNER.invoke(app, ["init", str(tmp_path)]).exit_code == 0
    states = {"jobs": "failed", "deliveries": "dead", "feedback": "linked"}
    for state, code in ((states[command[0]], 0), ("no-state", 2)):
        told = RUNNER.invoke(app, [*command, "--config", str(tmp_path), "--state", state])
        assert told.exit_code == code, told.output


def test_a_file_that_cannot_be_read_is_no_fault_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was typed is named with the system's reason, a place where nobody typed it."""
    (tmp_path / "file").touch()
    monkeypatch.setattr("sys.argv", ["overread", "init", str(tmp_path / "file" / "site")])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert (ended.value.code, "Not a directory" in told, "report" in told) == (1, True, False)
    assert str(tmp_path / "file" / "site") in told


def test_nothing_to_verify_is_not_verified(tmp_path: Path) -> None:
    """A folder without a model is an error."""
    told = RUNNER.invoke(app, ["models", "verify", "--models", str(tmp_path)])
    assert "no model bundle" in str(told.exception)
