"""A real port where nothing listens, then a real PACS there."""

from pathlib import Path

import pytest

from daemon.dimse.courier import Courier
from daemon.dimse.requestor import Limits
from daemon.domain.delivery import Destination
from daemon.ledger.engine import connect
from daemon.ledger.migrate import upgrade
from demo.ports import HOST, free_port
from tests.dicom_files import ct_file
from tests.houses import House
from tests.peers import storescp

QUICK = Limits(connect_seconds=20, association_seconds=30, answer_seconds=30)


class Deaf:
    """Takes no commitment reports: none is asked for."""

    def on_commitment(self, transaction_uid: str, committed: object, failed: object) -> None:
        """Refuse to be called."""
        raise AssertionError(transaction_uid, committed, failed)


@pytest.mark.peers
def test_a_dead_port_is_probed_and_then_everything_goes_out(tmp_path: Path) -> None:
    """Three refused connections open the circuit; when a PACS comes up there, one probe closes it."""
    port = free_port()
    engine = connect(f"sqlite:///{tmp_path / 'ledger.db'}")
    upgrade(engine)
    house = House(tmp_path, engine)
    house.places = {"pacs": Destination(name="pacs", ae_title="PACS", host=HOST, port=port, commitment=False)}
    files = [ct_file(tmp_path / f"{n}.dcm", f"1.2.3.{n}") for n in range(3)]
    house.completed(*(file.read_bytes() for file in files))
    deliver, confirm = house.post(Courier("OVERREAD", Deaf(), QUICK))
    for _ in range(3):
        assert deliver.step("pacs") == 3
        assert deliver.step("pacs") == 0
        house.clock.at = house.circuits.all()["pacs"].next_at
    circuit = house.circuits.all()["pacs"]
    assert circuit.open
    assert str(port) in circuit.reason
    with storescp(tmp_path / "peer", "+xa", ae_title="PACS", port=port) as peer:
        assert [deliver.step("pacs"), deliver.step("pacs")] == [1, 2]
        assert len(list(peer.folder.iterdir())) == 3
    assert house.circuits.all() == {}
    assert house.states() == ["SENT"] * 3
    assert confirm.step("pacs") == 3
    assert house.circuits.all()["pacs"].failures == 1
    engine.dispose()
