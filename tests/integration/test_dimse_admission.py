"""Who gets in depends on what stands at the time: places that are taken, destinations that are known."""

import pytest

from daemon.errors import RetryableError
from tests.integration.test_dimse_refusals import asked, associate, listening
from tests.peers import wait_until
from tests.receptions import RememberingReception


def test_one_peer_does_not_take_all_places() -> None:
    """The limit of a calling AE title is its own: another gets in, and it again once it has let go."""
    reception = RememberingReception()
    with listening(reception, max_per_peer=1) as listener:
        first = associate(listener)
        reason = r"association rejected \(transient\): local limit exceeded"
        with pytest.raises(RetryableError, match=reason), asked(listener):
            pytest.fail("a second association was accepted")
        other = associate(listener, calling_ae="OTHER")
        assert other.is_established
        other.release()
        first.release()
        wait_until(lambda: len(reception.closed) == 2, 60, "both associations to close")
        third = associate(listener)
        assert third.is_established
        third.release()


def test_a_destination_gets_in_from_the_moment_it_is_one() -> None:
    """It reports its commitments without a restart of the listener, and once removed it is a stranger again."""
    known: list[str] = []
    with listening(RememberingReception(), allow_any_caller=False, destinations=lambda: known) as listener:
        for titles, accepted in (([], False), (["TESTER"], True), ([], False)):
            known[:] = titles
            association = associate(listener)
            assert association.is_established is accepted
            if accepted:
                association.release()
