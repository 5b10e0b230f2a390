"""How long the command line and the daemon take to start.

Run as `python -m benchmarks.start [--rounds 3]`: `overread --help`; and `overread serve` with its console, from its
start to the first C-ECHO answered, to the models loaded in the worker (before it looks for a job), and to the console's
first answer. The daemon's bytecode is there, as in an installation. CPU seconds are of the whole daemon up to then: on
a busy machine they say more than the clock.
"""

import argparse
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from benchmarks.processes import cpu_seconds
from demo.ports import HOST, free_port
from tests.daemons import OVERREAD, compiled, init, stop
from tests.peers import echoscu, storescp, wait_until

Spent = tuple[float, float]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    compiled()
    spent: dict[str, list[Spent]] = {"`overread --help`": [helped() for _ in range(3 * rounds)]}
    with tempfile.TemporaryDirectory(prefix="overread-start-") as folder, storescp(Path(folder) / "peer") as archive:
        for number in range(rounds):
            site, port = Path(folder) / str(number), free_port()
            init(site, port, archive)
            for what, taken in started(site, port).items():
                spent.setdefault(what, []).append(taken)
    print(f"medians, load {os.getloadavg()[0]:.1f}\n\n| | seconds | CPU seconds |\n|---|---|---|")
    for what, times in spent.items():
        clock, cpu = (statistics.median(one[n] for one in times) for n in range(2))
        print(f"| {what} | {clock:.2f} | {cpu:.2f} |")


def helped() -> Spent:
    """Return what the help takes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*OVERREAD, "--help"], check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def started(site: Path, port: int) -> dict[str, Spent]:
    """Return what a daemon takes until each of its parts is ready."""
    web, log = free_port(), site / "serve.log"
    environment = {**os.environ, "OVERREAD_WEB__ENABLED": "true", "OVERREAD_WEB__PORT": str(web)}
    signs: dict[str, Callable[[], bool]] = {
        "`overread serve` to the first C-ECHO answered": lambda: _echoes(port),
        "to the models loaded in the worker": lambda: "models loaded" in log.read_text(encoding="utf-8"),
        "to the console's first answer": lambda: _lives(f"http://{HOST}:{web}/healthz"),
    }
    found: dict[str, Spent] = {}
    with log.open("wb") as sink:
        began = time.perf_counter()
        process = subprocess.Popen(
            [*OVERREAD, "serve", "--config", str(site)], stderr=sink, env=environment, start_new_session=True
        )

    def look() -> bool:
        for what in [what for what, sign in signs.items() if what not in found and sign()]:
            found[what] = (time.perf_counter() - began, cpu_seconds(process.pid))
        return len(found) == len(signs)

    try:
        wait_until(look, 120, "the daemon to be ready")
    finally:
        stop(process)
    return {what: found[what] for what in signs}


def _echoes(port: int) -> bool:
    return echoscu(port, calling_ae="STORESCU").returncode == 0


def _lives(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
