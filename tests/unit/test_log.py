"""The log: one JSON object a line, nothing of a patient in it."""

import json
import logging
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


@pytest.mark.parametrize("name", ["pynetdicom", "pydicom", "highdicom", "sqlalchemy"])
def test_libraries_that_quote_data_sets_are_silent(name: str) -> None:
    """Below ERROR these write identifiers and values."""
    logger = logging.getLogger(name)
    before = logger.level
    try:
        with warnings.catch_warnings(record=True) as caught:
            log.hush()
            warnings.warn("PatientName Doe^Jane is odd", UserWarning, stacklevel=1)
        assert not logger.isEnabledFor(logging.WARNING)
        assert caught == []
    finally:
        logger.setLevel(before)
