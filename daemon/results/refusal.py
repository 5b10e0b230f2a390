"""How the conformance gate says no."""

from daemon.domain.reasons import Reason
from daemon.errors import UnprocessableError


def held(kind: str, message: str) -> UnprocessableError:
    """Return the error that keeps an object of `kind` here; nothing of it names a patient."""
    return UnprocessableError(Reason.CONFORMANCE, f"{kind} held: {message}")
