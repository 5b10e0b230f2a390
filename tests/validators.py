"""Independent validators of DICOM objects: David Clunie's dciodvfy and Pixelmed."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.peers import need

PROGRAM = Path(__file__).parent / "java" / "Pixelmed.java"
# Pixelmed asks for Laterality whenever a body part is named; PS3.3 C.7.3.1 only where the part is paired.
UNPAIRED = "Error: GeneralSeriesModule/Laterality"
# Pixelmed takes any letter beyond ASCII for illegal in a name, whatever the character set; the bytes are the source's.
BEYOND_ASCII = "Error: PatientModule/PatientName/: PatientName/value[1]/: Illegal character(s)"


def dciodvfy(path: Path) -> list[str]:
    """Return the errors that dciodvfy finds."""
    need("dciodvfy")
    told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False)
    return [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")]


def pixelmed(paths: Sequence[Path]) -> list[str]:
    """Return the errors that Pixelmed finds in any of the files, but for the two that are its own."""
    need("javac")
    if not Path("/usr/share/java/pixelmed.jar").exists():
        pytest.skip("pixelmed.jar is not installed; install Debian's libpixelmed-java")
    options = " ".join(f"-Djdk.xml.xpath{limit}Limit=0" for limit in ("TotalOp", "ExprOp", "ExprGrp"))
    told = subprocess.run(
        ["java", "-Xmx2g", "-cp", "/usr/share/java/*", str(PROGRAM), *map(str, paths)],
        capture_output=True,
        text=True,
        env={**os.environ, "JAVA_TOOL_OPTIONS": options},
        check=True,
    )
    lines = told.stdout.splitlines()
    assert sum("validation complete" in line for line in lines) == len(paths)
    return [line for line in lines if line.startswith("Error") and not line.startswith((UNPAIRED, BEYOND_ASCII))]
