"""`python -m tests.fuzz [TARGET ...] --seconds 60`: fuzz what strangers send, guided by coverage (`make fuzz`).

What is found lies in build/fuzz/TARGET: inputs that reached something new in `corpus`, used again by the next run, and
inputs that broke a promise beside it. Each target has a process of its own, which libFuzzer ends.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import atheris
import typer

# Tables read no bytes, and instrumenting them would take minutes.
TABLES = [f"pydicom.{name}" for name in ("_dicom_dict", "_private_dict", "_uid_dict")]
TABLES += [f"pydicom.sr.{name}" for name in ("_cid_dict", "_concepts_dict", "_snomed_dict", "codedict", "coding")]
TABLES += ["pynetdicom.sop_class", "pynetdicom.status"]

with atheris.instrument_imports(["daemon", "pydicom", "pynetdicom"], TABLES, enable_loader_override=False):
    from tests.fuzzing import TARGETS

BUILD = Path(__file__).parents[1] / "build" / "fuzz"
LIMITS = ("-timeout=30", "-rss_limit_mb=4096", "-max_len=65536", "-print_final_stats=1")


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(TARGETS)}; all where none is named.")
    ] = None,
    seconds: Annotated[int, typer.Option(help="How long each is fuzzed.")] = 60,
    only: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Fuzz each target; exit 1 where one broke a promise."""
    if only:
        _fuzz(only, seconds)
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", str(seconds), "--only"]
    ended = {name: subprocess.run([*command, name], check=False).returncode for name in names or TARGETS}
    for name, code in ended.items():
        typer.echo(f"{name}: {'nothing found' if code == 0 else f'ended with {code}; see {BUILD / name}'}")
    raise typer.Exit(int(any(ended.values())))


def _fuzz(name: str, seconds: int) -> None:
    """Fuzz one target until its time is over; libFuzzer ends the process."""
    corpus = BUILD / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    target = TARGETS[name](Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)))  # noqa: S108
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    found = f"-artifact_prefix={BUILD / name}/"
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", found, *LIMITS, str(corpus)], target.take)
    atheris.Fuzz()


if __name__ == "__main__":
    typer.run(main)
