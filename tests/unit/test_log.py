"""The log: one JSON object a line, nothing of a patient in it."""

import json
import logging
import subprocess
import sys
import threading
import warnings

import pytest

from daemon import log


def test_an_error_is_logged_by_class_and_place_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """A trace may quote a data set's values, so neither its text nor its message is written."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        log.configure()
        try:
            int("Doe^Jane")
        except ValueError:
            logging.getLogger("daemon.test").exception("job %d failed", 7)
    finally:
        root.handlers[:], root.level = before
    (line,) = capsys.readouterr().err.splitlines()
    document = json.loads(line)
    assert (document["level"], document["event"], document["error"]) == ("error", "job 7 failed", "ValueError")
    assert document["at"].rpartition(":")[0].endswith("test_log.py")
    assert "Doe" not in line


@pytest.mark.parametrize("name", ["pynetdicom", "pydicom", "highdicom", "sqlalchemy", "dicomweb_client"])
def test_libraries_that_quote_data_sets_are_silent(name: str) -> None:
    """These write identifiers and values, as errors too: an exception's words are what it could not read."""
    logger = logging.getLogger(name)
    before, hook = logger.level, threading.excepthook
    try:
        with warnings.catch_warnings(record=True) as caught:
            log.hush()
            warnings.warn("PatientName Doe^Jane is odd", UserWarning, stacklevel=1)
        assert not logger.isEnabledFor(logging.ERROR)
        assert caught == []
    finally:
        logger.setLevel(before)
        threading.excepthook = hook


BROKEN = """
import sys, threading
from daemon import log
from daemon.cli.main import app, main

@app.command()
def broken(beside: bool = False) -> None:
    if beside:
        log.configure()
        thread = threading.Thread(target=int, args=("Doe^Jane",), name="beside")
        thread.start()
        thread.join()
    else:
        int("Doe^Jane")

main()
"""


@pytest.mark.parametrize(("options", "code"), [((), 1), (("--beside",), 0)], ids=["command", "thread"])
def test_an_unexpected_error_shows_no_words_of_its_own(options: tuple[str, ...], code: int) -> None:
    """Neither where it ends a command nor where it ends a thread: class and place alone."""
    ran = subprocess.run(
        [sys.executable, "-c", BROKEN, "broken", *options], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (code, "")
    assert "ValueError" in ran.stderr
    assert "Doe" not in ran.stderr
    assert "Traceback" not in ran.stderr
