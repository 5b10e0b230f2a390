"""What a PACS says in its own words, which may name a patient, is kept nowhere: status and meaning are."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from daemon.dimse.archive import Archive
from daemon.dimse.courier import Courier
from daemon.dimse.getting import Getter
from daemon.domain.evidence import Wanted
from daemon.domain.references import Reference
from daemon.errors import RetryableError
from tests.daemons import overread
from tests.deliverers import deliveries, delivering, site
from tests.dicom_files import CT, SERIES, STUDY
from tests.oddities import OddPacs, running
from tests.peers import wait_until
from tests.receptions import RememberingReception

NAME = "Plantedname^Maria 19010203"
PLANTED = (b"plantedname", b"19010203")


def test_no_comment_of_a_peer_is_kept_anywhere(tmp_path: Path) -> None:
    """Refused, out of resources, stored with a warning and not committed: each with a name in its comment."""
    places = (
        OddPacs(name="refuses", store=0xC123, comment=NAME),
        OddPacs(name="full", store=0xA700, comment=NAME),
        OddPacs(name="warns", store=0xB007, action=0x0110, query=0xC001, comment=NAME),
    )
    config = site(tmp_path / "site", *places)
    with ExitStack() as stack:
        for place in places:
            stack.enter_context(running(place))
        with delivering(config):
            wait_until(lambda: deliveries(config)["refuses"].state == "DEAD", 240, "a refusal")
            wait_until(lambda: "0xA700" in deliveries(config)["full"].detail, 240, "a retry")
            wait_until(lambda: deliveries(config)["warns"].state == "SENT", 240, "a warning")
            wait_until(lambda: b"N-ACTION" in (tmp_path / "site/deliver.log").read_bytes(), 240, "a request to commit")
        told = [
            overread(*command, "--config", str(config))
            for command in (
                ("deliveries", "list", "--json"),
                ("deliveries", "show", "1"),
                ("status",),
                ("destinations", "list", "--json"),
                ("destinations", "echo"),
                ("destinations", "probe", "refuses"),
                ("send", str(tmp_path / "site/ct.dcm"), "--to", "full"),
                ("audit", "list"),
            )
        ]
    shown = json.loads(told[0].stdout)
    assert (
        "status 0xC123 (it cannot understand the data set" in {d["destination"]: d for d in shown}["refuses"]["detail"]
    )
    texts = [(ran.stdout + ran.stderr).encode() for ran in told]
    files = [p for p in (tmp_path / "site").rglob("*") if p.is_file()]
    assert {"ledger.db", "audit.log", "deliver.log"} <= {p.name for p in files}
    for found in (*texts, *(p.read_bytes() for p in files)):
        assert not any(planted in found.lower() for planted in PLANTED)


class Deaf:
    """Takes no reports: none comes."""

    def on_commitment(self, transaction_uid: str, committed: object, failed: object) -> None:
        """Refuse to be called."""
        raise AssertionError(transaction_uid, committed, failed)


@pytest.mark.parametrize("asked", ["list", "read back", "commit"])
def test_no_exception_holds_what_a_peer_said(asked: str) -> None:
    """Queries and requests to commit that fail say status and meaning."""
    one = Reference(study_instance_uid=STUDY, series_instance_uid=SERIES, sop_class_uid=CT, sop_instance_uid="1.2.3")
    wanted = Wanted(study_instance_uid=STUDY, series=frozenset({SERIES}), modality="")
    courier = Courier("OVERREAD", Deaf())
    with running(OddPacs(query=0xA700, action=0xA700, comment=NAME)) as pacs:
        ask: dict[str, Callable[[], object]] = {
            "list": lambda: Archive("OVERREAD").listed(pacs.destination, wanted),
            "read back": lambda: courier.present(pacs.destination, [one]),
            "commit": lambda: courier.ask_commitment(pacs.destination, "2.25.7", [one]),
        }
        with pytest.raises(RetryableError, match=r"status 0xA700 \(out of resources\)") as failed:
            ask[asked]()
    assert "Plantedname" not in str(failed.value)


def test_nothing_of_what_is_said_of_a_retrieval_is_kept() -> None:
    """What came of a C-GET that fails is told by its status alone, and nothing was received."""
    reception = RememberingReception()
    archive = Archive("OVERREAD", getter=Getter(calling_ae="OVERREAD", reception=reception))
    with running(OddPacs(get=0xA702, comment=NAME)) as pacs:
        fetched = archive.fetch(pacs.destination, STUDY, {SERIES: frozenset({"1.2.3"})})
    assert (fetched.sent, fetched.fault) == (0, "it is out of resources (0xA702)")
    assert reception.objects == []
