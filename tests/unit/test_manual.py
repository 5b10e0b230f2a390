"""The reference and the man page say what the commands say, and the shell completes them."""

import os
import re
import subprocess
import sys

from tests.manual import MAN_PAGE, REFERENCE, ROOT, man_page, reference
from tests.peers import need


def test_they_are_those_of_the_commands() -> None:
    """`python -m tests.manual` writes them anew."""
    assert REFERENCE.read_text(encoding="utf-8") == reference()
    assert MAN_PAGE.read_text(encoding="utf-8") == man_page()


def test_every_command_is_in_both() -> None:
    """Those of groups too."""
    for name in ("init", "doctor", "ledger downgrade", "outputs list", "destinations probe"):
        assert f"## `overread {name}`" in REFERENCE.read_text(encoding="utf-8")
        assert f".SS overread {name}\n" in MAN_PAGE.read_text(encoding="utf-8")


def test_groff_finds_no_fault_with_the_man_page() -> None:
    """Every macro is known and every line is shown."""
    need("groff")
    told = subprocess.run(
        ["groff", "-man", "-ww", "-T", "ascii", str(MAN_PAGE)], capture_output=True, text=True, check=True
    )
    assert told.stderr == ""
    assert "--destination" in re.sub(r".\x08|\x1b\[[0-9;]*m", "", told.stdout)


def test_the_shell_completes_commands() -> None:
    """As `overread --install-completion` sets it up for bash."""
    asked = {"_OVERREAD_COMPLETE": "complete_bash", "COMP_WORDS": "overread led", "COMP_CWORD": "1"}
    program = "import sys; sys.argv = ['overread']; from daemon.cli.main import main; main()"
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stdout.split() == ["ledger"]
