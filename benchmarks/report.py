"""Every benchmark, in one report, and a history that shows a loss.

Run as `python -m benchmarks.report [--only receive send]`, which `make bench` does. Each benchmark runs us and its
peers in turn and prints tables; they go to build/bench/report.md as they are, and their figures as one line to
benchmarks/history.jsonl. What differs by more than a quarter from the last line of the same kind of machine is told at
the end: on a busy machine look at the ratios first.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HISTORY = ROOT / "benchmarks" / "history.jsonl"
REPORT = ROOT / "build" / "bench" / "report.md"
NAMES = ("start", "receive", "send", "inference", "steps", "answer", "throughput", "console", "ledger")
NOTABLE = 1.25
# benchmark -> row -> column -> figure
Figures = Mapping[str, Mapping[str, Mapping[str, float]]]


def main() -> None:
    """Run them, write the report and the history, tell what changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=NAMES, choices=NAMES)
    names = parser.parse_args().only
    told = {name: _run(name) for name in names}
    figures = {name: dict(figures_of(text)) for name, text in told.items()}
    machine = f"{_processor()}, {os.cpu_count()} cores"
    entry = {
        "at": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": machine,
        "load": round(os.getloadavg()[0], 1),
        "figures": figures,
    }
    before = _last(machine)
    with HISTORY.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")
    changes = list(changed(before, figures))
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    title = f"# Benchmarks\n{entry['at']}, commit {entry['commit']}, {machine}, load {entry['load']}\n"
    parts = [f"## {name}\n`python -m benchmarks.{name}`\n\n{text.strip()}\n" for name, text in told.items()]
    since = [
        "## Changed since the last run on such a machine\n" + "\n".join(changes or ["nothing by a quarter"]) + "\n"
    ]
    REPORT.write_text("\n".join([title, *parts, *since]), encoding="utf-8")
    print("\n".join([f"\nreport in {REPORT.relative_to(ROOT)}; {len(changes)} figures changed by a quarter", *changes]))


def figures_of(text: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the rows of all tables in `text`: the words that lead each, and its figures by column."""
    columns: Sequence[str] = ()
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            columns = ()
        elif not columns:
            columns = cells
        elif set("".join(cells)) - set("-: "):
            numbers = [_number(cell) for cell in cells]
            first = next((n for n, number in enumerate(numbers) if number is not None and n), len(cells))
            found = {c: n for c, n in zip(columns[first:], numbers[first:], strict=False) if n is not None}
            yield ", ".join(cells[:first]), found


def changed(before: Figures, now: Figures) -> Iterator[str]:
    """Yield a line for each figure that grew or shrank by more than a quarter."""
    for name, rows in now.items():
        for row, columns in rows.items():
            for column, figure in columns.items():
                old = before.get(name, {}).get(row, {}).get(column)
                if old and figure and not 1 / NOTABLE <= figure / old <= NOTABLE:
                    yield f"- {name}: {row}, {column}: {old:g} -> {figure:g}"


def _number(cell: str) -> float | None:
    try:
        return float(cell.split(maxsplit=1)[0].strip("`%"))
    except (ValueError, IndexError):
        return None


def _run(name: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    print(f"## {name}\n\n{ended.stdout}", flush=True)
    if ended.returncode:
        raise SystemExit(f"benchmarks.{name} ended with {ended.returncode}; nothing was written")
    return ended.stdout


def _last(machine: str) -> Figures:
    """Return the newest figures of such a machine, each benchmark's from when it was last run."""
    found: dict[str, Any] = {}
    for line in HISTORY.read_text(encoding="utf-8").splitlines() if HISTORY.exists() else ():
        entry = json.loads(line)
        if entry["machine"] == machine:
            found.update(entry["figures"])
    return found


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
