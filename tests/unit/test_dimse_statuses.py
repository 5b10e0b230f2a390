"""Statuses and verdicts, as tables."""

import pytest

from daemon.dimse.statuses import COMMENT_LENGTH, answer
from daemon.domain.delivery import SendOutcome
from daemon.domain.reception import Verdict
from daemon.domain.statuses import judge


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_an_answer_and_only_what_is_kept_is_a_success(verdict: Verdict) -> None:
    """No verdict is without a status, and success means that the bytes are kept."""
    kept = verdict in {Verdict.STORED, Verdict.DUPLICATE, Verdict.OURS, Verdict.CONFLICT}
    status = answer(verdict)
    assert (status.code == 0) is kept
    assert bool(status.comment) is not kept
    assert len(status.comment) <= COMMENT_LENGTH


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x0000, SendOutcome.STORED),
        (0xB000, SendOutcome.STORED),
        (0xB006, SendOutcome.STORED),
        (0xB007, SendOutcome.STORED),
        (0x0107, SendOutcome.STORED),
        (0x0111, SendOutcome.STORED),
        (0xA700, SendOutcome.RETRY),
        (0xA7FF, SendOutcome.RETRY),
        (0x0110, SendOutcome.RETRY),
        (0x0213, SendOutcome.RETRY),
        (0xFE00, SendOutcome.RETRY),
        (0x1234, SendOutcome.RETRY),
        (0xA900, SendOutcome.REFUSED),
        (0xA9FF, SendOutcome.REFUSED),
        (0xC000, SendOutcome.REFUSED),
        (0xC123, SendOutcome.REFUSED),
        (0x0122, SendOutcome.REFUSED),
        (0x0124, SendOutcome.REFUSED),
        (0x0211, SendOutcome.REFUSED),
    ],
)
def test_each_status_of_a_peer_has_one_meaning(status: int, outcome: SendOutcome) -> None:
    """Success and warnings are stored, what may pass is tried again, the rest is refused."""
    assert judge(status).outcome is outcome


def test_a_judgement_says_the_status_in_words_and_names_data_elements() -> None:
    """The sentence for people has the standard's meaning and tags; of many tags the first."""
    assert judge(0xA7FF).detail.endswith("status 0xA7FF (out of resources)")
    assert judge(0x1234).detail.endswith("status 0x1234")
    assert judge(0xB000, [0x00080018, 0x0020000D]).detail == (
        "stored with a warning: status 0xB000 (it changed data elements: (0008,0018), (0020,000D))"
    )
    many = judge(0xC000, range(100)).detail
    assert many.count("(0000,00") == 8
    assert many.endswith("and more)")
