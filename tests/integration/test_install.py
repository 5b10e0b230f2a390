"""What stands in deploy/, held against the tools that judge it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from daemon.config.sections import InferenceSection, ListenerSection
from daemon.runtime import DRAIN_SECONDS
from tests.peers import need

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs/install.md").read_text(encoding="utf-8")
UNIT = DEPLOY / "overread.service"


def directives() -> dict[str, str]:
    """Return the unit's directives; the last value of each."""
    lines = (line.partition("=") for line in UNIT.read_text().splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in lines if value}


def test_the_unit_gives_the_daemon_time_to_stop_and_keeps_one_loss_from_being_all() -> None:
    """Its limit is over what the parts and the supervisor allow themselves by default."""
    unit = directives()
    longest = max(InferenceSection.model_fields["stop_seconds"].default, ListenerSection().stop_seconds)
    assert float(unit["TimeoutStopSec"]) > longest + DRAIN_SECONDS
    assert (unit["OOMPolicy"], unit["KillMode"], unit["User"]) == ("continue", "mixed", "overread")
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert compose["services"]["overread"]["stop_grace_period"] == f"{unit['TimeoutStopSec']}s"
    for key in ("ReadWritePaths", "WorkingDirectory"):
        assert f"overread init {unit[key]} " in PAGE
    assert unit["Environment"] == f"OVERREAD_CONFIG={unit['ReadWritePaths']}/overread.toml"


def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    """Every directive is known and right, and what the process may do is little."""
    need("systemd-analyze")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/overread/bin/overread", shutil.which("true") or ""))
    checked = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (checked.returncode, [line for line in checked.stderr.splitlines() if UNIT.name in line]) == (0, [])
    judge = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(copy)]
    judged = subprocess.run(judge, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout
    said = re.search(r"exposure level for overread.service: ([0-9.]+)", judged.stdout)
    assert said
    assert f"gives it {said[1]}" in PAGE


def test_hadolint_finds_no_fault_with_the_containerfile() -> None:
    """Nothing at all, not even in style."""
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("hadolint is not installed; `make setup` installs it")
    told = subprocess.run([program, str(DEPLOY / "Containerfile")], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (0, "")


def test_the_container_runs_as_nobody_in_particular_and_copies_what_there_is() -> None:
    """Neither root nor torch; every file it wants is tracked."""
    lines = (DEPLOY / "Containerfile").read_text().replace("\\\n", "").splitlines()
    (user,) = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert user.partition(":")[0] not in {"root", "0"}
    assert "training]" not in " ".join(lines)
    wanted = [
        name for line in lines if line.startswith("COPY ") and "--from" not in line for name in line.split()[1:-1]
    ]
    tracked = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", *wanted], cwd=ROOT, capture_output=True, text=True, check=True
    )
    roots = {name.partition("/")[0] for name in tracked.stdout.splitlines()}
    assert roots == set(wanted)


def test_compose_starts_two_that_know_each_other() -> None:
    """What Orthanc knows of Overread is what the image listens as, and it is built from a file that is there."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    build = services["overread"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Containerfile"
    known = json.loads(services["orthanc"]["environment"]["ORTHANC__DICOM_MODALITIES"])["OVERREAD"]
    listener = ListenerSection()
    assert (known["AET"], known["Port"], known["Host"]) == (listener.ae_title, listener.port, "overread")
    assert "pacs=ORTHANC@orthanc:4242" in (DEPLOY / "compose.yaml").read_text()
