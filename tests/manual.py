"""The command line's reference and man page, made from Typer's commands: `python -m tests.manual` writes both anew."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from daemon import __version__
from daemon.cli.main import app

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "cli-reference.md"
MAN_PAGE = ROOT / "docs" / "overread.1"
_NOTE = "Made from the commands by `python -m tests.manual`; the short guide is [Command line](cli.md)."


def reference() -> str:
    """Return what `typer utils docs` writes of the commands, and where it is from."""
    title = "Command line reference"
    made = subprocess.run(
        [sys.executable, "-m", "typer", "daemon.cli.main", "utils", "docs", "--name", "overread", "--title", title],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.replace(f"# {title}\n", f"# {title}\n{_NOTE}\n", 1).rstrip() + "\n"


def man_page() -> str:
    """Return the man page, in the macros of man(7)."""
    whole = typer.main.get_command(app)
    lines = [
        f'.TH OVERREAD 1 "" "Overread {__version__}" "User Commands"',
        ".SH NAME",
        f"overread \\- {_roff(str(whole.help))}",
        ".SH SYNOPSIS",
        ".B overread",
        ".I COMMAND",
        "[\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]",
        ".SH COMMANDS",
        *_commands(whole, "overread"),
        ".SH ENVIRONMENT",
        ".TP\n.B OVERREAD_CONFIG\nThe configuration, or its folder, where \\-\\-config names none.",
        ".TP\n.B OVERREAD_SECTION__KEY\nOverrides a key of the configuration.",
        ".SH EXIT STATUS",
        "0 done, 1 failed, 2 wrong usage, 3 study not processed.",
    ]
    return "\n".join(lines) + "\n"


def _commands(group: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - Typer hides the types of its commands
    """Yield a section for each command below `group`."""
    for name, command in group.commands.items():
        where = f"{path} {name}"
        if hasattr(command, "commands"):
            yield from _commands(command, where)
            continue
        yield f".SS {_roff(where)}"
        yield _roff(" ".join(str(command.help).split()))
        for parameter in command.params:
            known = getattr(parameter, "help", None)
            if not known:
                continue
            names = ", ".join((*parameter.opts, *parameter.secondary_opts))
            label = names if names.startswith("-") else str(parameter.name).upper()
            yield f".TP\n.B {_roff(label)}\n{_roff(' '.join(str(known).split()))}"


def _roff(text: str) -> str:
    """Return text that troff shows as it is: a hyphen is one, and no line is a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    REFERENCE.write_text(reference(), encoding="utf-8")
    MAN_PAGE.write_text(man_page(), encoding="utf-8")
