"""Conditions that few of many rows meet, in the words of the index that holds those rows alone.

Its condition and the statement's must be the same words: with a bound value a database could not tell that it applies.
"""

from sqlalchemy import ColumnElement, literal_column, text

from daemon.domain.job import JobState
from daemon.ledger.tables import JobRow, StudyRow

# Twice: once in the index's words, once as SQLite enters it.
WITH_NEWS = (text("studies.dirty"), StudyRow.dirty)
CONFLICTING = text("instances.conflict")
KEPT = text("studies.kept")
REFUSED = text("studies.refusal <> ''")


def in_state(state: JobState) -> ColumnElement[bool]:
    """Return the condition that a job is in `state`."""
    return JobRow.state == literal_column(f"'{state.value}'")
