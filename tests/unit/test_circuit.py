"""A destination that is not reached: probed ever more rarely, holding nothing else, closed by the first answer."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from daemon.domain.delivery import DeliveryState, Selection
from daemon.ledger.queries import Queries
from tests.houses import PACS, House
from tests.instances import NOW


@pytest.fixture
def house(tmp_path: Path, engine: Engine) -> House:
    """A fresh house."""
    return House(tmp_path, engine)


def attempts(house: House) -> list[int]:
    return [d.attempts for d in reversed(Queries(house.engine).deliveries())]


def next_try(house: House) -> None:
    """Set the clock to when the destination is tried again."""
    circuit = house.circuits.get(PACS.name)
    assert circuit is not None
    house.clock.at = circuit.next_at


def test_a_dead_destination_is_probed_with_one_object_and_waits_count_nothing(house: House) -> None:
    """All are tried until the circuit opens, then one at growing intervals; the first answer lets all go."""
    house.completed(b"one", b"two", b"three")
    house.courier.down = True
    deliver, _ = house.post()
    waits = []
    for _ in range(6):
        deliver.step(PACS.name)
        before = house.clock.at
        assert deliver.step(PACS.name) == 0
        next_try(house)
        waits.append(house.clock.at - before)
    assert house.courier.calls == [3, 3, 3, 1, 1, 1]
    assert waits[-1] > timedelta(seconds=60) > timedelta(seconds=10) > waits[0]
    circuit = house.circuits.all()[PACS.name]
    assert (circuit.open, circuit.failures, circuit.since) == (True, 6, NOW)
    assert "no association" in circuit.reason
    assert attempts(house) == [0, 0, 0]
    house.courier.down = False
    assert [deliver.step(PACS.name), deliver.step(PACS.name)] == [1, 2]
    assert house.states() == ["SENT"] * 3
    assert house.circuits.all() == {}


def test_days_go_by_for_what_waits_on_a_dead_destination(house: House) -> None:
    """What waited is given up after its days, with the destination's reason, though its turn never came."""
    house.completed(b"one", b"two")
    house.courier.down = True
    deliver, _ = house.post()
    deliver.step(PACS.name)
    house.clock.at = NOW + timedelta(days=1)
    deliver.step(PACS.name)
    assert house.states() == ["DEAD", "DEAD"]
    assert "gave up after 1 days: pacs: no association" in Queries(house.engine).deliveries()[0].detail


def test_an_object_that_breaks_associations_holds_no_other(house: House) -> None:
    """What failed goes last, so the others are sent on the next association."""
    poison, _ = house.completed(b"one", b"two")
    house.courier.poison = {poison}
    deliver, _ = house.post()
    for _ in range(3):
        deliver.step(PACS.name)
        if house.circuits.all():
            next_try(house)
    assert house.states() == ["PENDING", "SENT"]
    assert attempts(house)[0] >= 1


def test_confirming_waits_with_a_dead_destination_too(house: House) -> None:
    """A destination that was lost after storing is not asked in between, and its days end all the same."""
    house.completed(b"one")
    deliver, confirm = house.post()
    deliver.step(PACS.name)
    confirm.step(PACS.name)
    house.courier.down = True
    house.clock.at = NOW + timedelta(seconds=61)
    assert confirm.step(PACS.name) == 1
    circuit = house.circuits.all()[PACS.name]
    assert circuit.failures == 1
    house.circuits.hasten(NOW + timedelta(days=8))
    house.clock.at = NOW + timedelta(days=7)
    assert confirm.step(PACS.name) == 0
    assert house.states() == ["UNCONFIRMED"]


def test_a_replay_tries_the_destination_at_once(house: House) -> None:
    """Whoever replays has mended something, so the next probe does not wait its turn."""
    house.completed(b"one")
    house.courier.down = True
    deliver, _ = house.post()
    deliver.step(PACS.name)
    house.clock.at = NOW + timedelta(days=1)
    deliver.step(PACS.name)
    assert house.states() == ["DEAD"]
    house.courier.down = False
    house.circuits.hasten(NOW + timedelta(days=9))
    assert house.deliveries.replay(Selection(destination=PACS.name), house.clock.at) == 1
    assert deliver.step(PACS.name) == 1
    assert house.states() == ["SENT"]


def test_what_goes_to_a_destination_that_is_no_more_ends_too(house: House) -> None:
    """A delivery to a name that nobody configures is not forgotten: after its days it is dead and says so."""
    house.completed(b"one", b"two")
    deliver, confirm = house.post()
    deliver.step(PACS.name)
    house.places = {}
    assert deliver.step(PACS.name) == confirm.step(PACS.name) == 0
    house.clock.at = NOW + timedelta(days=7)
    confirm.bury()
    assert house.states() == ["UNCONFIRMED"] * 2
    house.deliveries.replay(Selection(), NOW)
    deliver.bury()
    assert house.states() == [DeliveryState.DEAD.value] * 2
    assert "no destination of that name" in Queries(house.engine).deliveries()[0].detail
