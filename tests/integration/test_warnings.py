"""A destination that stores with a warning (PS3.4 B.2.3): the remark is kept, and what it changed is not sent twice."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from daemon.domain.delivery import DeliveryState
from daemon.domain.work import Change
from daemon.ledger.engine import connect
from daemon.ledger.migrate import upgrade
from tests import houses
from tests.daemons import overread
from tests.deliverers import deliveries, delivering, site
from tests.instances import NOW
from tests.oddities import OddPacs, running
from tests.peers import wait_until

TRANSACTION = "2.25.7"


def test_warnings_are_kept_and_what_was_given_another_uid_is_not_sent_again(tmp_path: Path) -> None:
    """Listed under our UIDs: CONFIRMED with its remark. Coerced and not listed: a person looks for it."""
    listed = {
        "elements": OddPacs(name="elements", store=0xB000, coerced={"PatientName": "Other^Name"}),
        "discards": OddPacs(name="discards", store=0xB006, action=None),
        "mismatch": OddPacs(name="mismatch", store=0xB007, action=None),
        "there": OddPacs(name="there", store=0x0111, action=None),
    }
    coerced = {
        "instance": OddPacs(name="instance", store=0xB000, coerced={"SOPInstanceUID": "1.2.3.4"}),
        "series": OddPacs(name="series", store=0xB000, action=None, coerced={"SeriesInstanceUID": "1.2.3.5"}),
    }
    places = {**listed, **coerced}
    config = site(tmp_path / "site", *places.values())
    with ExitStack() as stack:
        for place in places.values():
            stack.enter_context(running(place))
        with delivering(config):
            ended = {DeliveryState.CONFIRMED, DeliveryState.UNCONFIRMED}
            wait_until(lambda: all(d.state in ended for d in deliveries(config).values()), 240, "all to end")
    found = deliveries(config)
    assert {name: found[name].state for name in places} == {
        **dict.fromkeys(listed, "CONFIRMED"),
        **dict.fromkeys(coerced, "UNCONFIRMED"),
    }
    assert {len(place.kept) for place in places.values()} == {1}
    assert {found[name].detail for name in listed} == {
        "read back; stored with a warning: status 0xB000 (it changed data elements)",
        "read back; stored with a warning: status 0xB006 (it discarded data elements)",
        "read back; stored with a warning: status 0xB007 (it finds that the data set does not match the SOP class)",
        "read back; stored with a warning: status 0x0111 (duplicate SOP instance)",
    }
    for name, tag in (("instance", "(0008,0018)"), ("series", "(0020,000E)")):
        assert "it may keep it under another UID" in found[name].detail
        shown = overread("deliveries", "show", str(found[name].id), "--config", str(config))
        assert any(tag in event["detail"] for event in json.loads(shown.stdout)["events"])


@pytest.fixture
def stored(tmp_path: Path) -> houses.House:
    """A house whose one result was stored, and coerced, and is to be committed."""
    engine = connect(f"sqlite:///{tmp_path / 'ledger.db'}")
    upgrade(engine)
    house = houses.House(tmp_path, engine)
    house.completed(b"one")
    sent = Change(id=1, state=DeliveryState.SENT, due_at=NOW, detail="", transaction_uid=TRANSACTION, warning=0xB000)
    house.deliveries.change([sent], NOW)
    return house


def test_a_denial_of_what_was_coerced_is_for_a_person(stored: houses.House) -> None:
    """Not sent again, however often it is denied; a report that has it after all confirms it."""
    for _ in range(2):
        stored.deliveries.committed(TRANSACTION, [], {"9.0": 0x0112}, NOW)
        assert stored.states() == ["UNCONFIRMED"]
    stored.deliveries.committed(TRANSACTION, ["9.0"], {}, NOW)
    assert stored.states() == ["CONFIRMED"]
