"""The lines of docs/security.md, as they stand there: a copy made while the daemon runs, and the machine lost."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from demo.ports import free_port
from dicom_fixtures.studies import StudyRequest, make_petct
from tests.daemons import Ledgers, counted, init, kill, overread, results, serving
from tests.peers import need, orthanc, storescu, wait_until

pytestmark = pytest.mark.peers
ROOT = Path(__file__).parents[2]
QUICK = {"OVERREAD_INFERENCE__PASSES": "2"}
ANSWER_SECONDS = 180.0


def documented() -> list[str]:
    """Return the blocks of commands: backup, restore, and what lets it go on."""
    section = (ROOT / "docs/security.md").read_text(encoding="utf-8").partition("## Backup and restore\n")[2]
    blocks = re.findall(r"^```\n(.*?)^```$", section.partition("\n## ")[0], re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    return blocks


def run(folder: Path, commands: str) -> None:
    """Run commands in a shell in `folder`, up to the first that fails; `overread` is this checkout's."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    command = programs / "overread"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m daemon "$@"\n')
    command.chmod(0o755)
    place = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=folder,
        env={**os.environ, **place},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr


def without(commands: str, *names: str) -> str:
    """Return commands but those of `overread` that are run otherwise; each must be there."""
    kept = [line for line in commands.splitlines() if not line.startswith(tuple(f"overread {n} " for n in names))]
    assert len(commands.splitlines()) - len(kept) == len(names)
    return "\n".join(kept)


def test_a_lost_machine_is_restored_from_a_copy_made_while_it_ran(tmp_path: Path) -> None:
    """One study answered before the copy, one whose results wait, one that arrives meanwhile: each answered once."""
    if Ledgers.server:
        pytest.skip("what is copied is the ledger's file; a server's is pg_dump's")
    need("sqlite3")
    backup, restore, go_on = documented()
    done, waits, arrives = (make_petct(StudyRequest(seed=7, salt=f"b{n}"), tmp_path / f"study{n}") for n in range(3))
    site, port = tmp_path / "site", free_port()
    with orthanc(tmp_path / "pacs", known={"OVERREAD": port}, http=True) as archive, ThreadPoolExecutor(1) as pool:
        config = init(site, port, archive, report_wait_seconds="3")

        def confirmed(count: int) -> None:
            what = f"{count} results to be confirmed"
            wait_until(lambda: counted(config, "deliveries", "CONFIRMED") == count, ANSWER_SECONDS, what)

        with serving(site, port, QUICK) as daemon:
            assert storescu(port, [done.folder]).returncode == 0
            confirmed(2)
            run(tmp_path, "overread pause --no-jobs --deliveries --config site")
            assert storescu(port, [waits.folder]).returncode == 0
            wait_until(lambda: counted(config, "deliveries", "PENDING") == 2, ANSWER_SECONDS, "results that wait")
            before = counted(config, "instances", "stored")
            push = pool.submit(storescu, port, [arrives.folder], quiet=True)
            wait_until(lambda: counted(config, "instances", "stored") > before, 60, "the study to begin")
            run(tmp_path, backup)
            assert push.result(120).returncode == 0
            run(tmp_path, go_on)
            confirmed(6)
            kill(daemon.process)
        site.rename(tmp_path / "lost")
        run(tmp_path, without(restore, "doctor", "serve"))
        checks = json.loads(overread("doctor", "--config", str(site), "--json").stdout)
        assert {"ledger", "spool"} <= {check["check"] for check in checks if check["ok"]}
        assert counted(config, "deliveries", "CONFIRMED") == 2
        with serving(site, port, QUICK):
            assert storescu(port, [arrives.folder]).returncode == 0
            run(tmp_path, go_on)
            confirmed(6)
        for study in (done, waits, arrives):
            found = results(archive, study.study_instance_uid)
            assert {kind: len(ids) for kind, ids in found.items()} == {"SEG": 1, "SR": 1}
    assert overread("audit", "verify", "--config", str(config)).returncode == 0
