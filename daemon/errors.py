"""Exceptions whose class says what happens next.

Retryable: try again later. Refused: the input is at fault, answer the sender.
Unprocessable: the job ends FAILED with a coded reason and is kept. Fatal: stop the process.
"""


class OverreadError(Exception):
    """Something went wrong; the message names the input, the cause and the mend."""


class RetryableError(OverreadError):
    """A passing fault: the same step is tried again later."""


class UnreachableError(RetryableError):
    """A destination is not there, hangs up, does not answer in time, or rejects us."""


class RefusedError(OverreadError):
    """The input is refused and the sender is told; nothing was stored."""


class UnprocessableError(OverreadError):
    """The job cannot be done with this input; it ends FAILED with `reason` and is kept."""

    def __init__(self, reason: str, message: str) -> None:
        """Hold the coded `reason` (a `daemon.domain.reasons.Reason` value) beside the message."""
        super().__init__(message)
        self.reason = reason


class FatalError(OverreadError):
    """The process cannot go on: a broken configuration, ledger or bundle."""
