"""What one part of the daemon commits that another waits for."""

from enum import StrEnum


class News(StrEnum):
    """What is new in the ledger."""

    STUDY = "study"  # an association or an inquiry ended, a notification came: a study may be complete now
    JOB = "job"
    OUTPUT = "output"
