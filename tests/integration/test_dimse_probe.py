"""What destinations say that they take."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.cli.main import app
from daemon.dimse.contexts import (
    COMPREHENSIVE_3D_SR_STORAGE,
    SEGMENTATION_STORAGE,
    STORAGE_COMMITMENT,
    STUDY_ROOT_FIND,
    VERIFICATION,
)
from daemon.dimse.listener import Listener, ListenerSettings
from daemon.dimse.probe import WANTED, probe
from daemon.domain.delivery import Destination
from daemon.errors import RetryableError
from demo.ports import HOST, free_port
from tests.peers import orthanc, storescp
from tests.receptions import RememberingReception

RUNNER = CliRunner()


def taken(ae_title: str, port: int) -> dict[str, tuple[str, ...]]:
    """Return the accepted transfer syntaxes by SOP class UID."""
    destination = Destination(name="pacs", ae_title=ae_title, host=HOST, port=port)
    return {service.uid: service.transfer_syntaxes for service in probe(destination, "OVERREAD")}


@pytest.mark.peers
def test_orthanc_takes_everything(tmp_path: Path) -> None:
    """A PACS with storage commitment and queries accepts all, in both uncompressed syntaxes; results in more."""
    with orthanc(tmp_path, known={"OVERREAD": free_port()}) as archive:
        found = taken(archive.ae_title, archive.port)
    assert set(found) == set(WANTED)
    uncompressed = ("Explicit VR Little Endian", "Implicit VR Little Endian")
    assert {syntaxes[:2] for syntaxes in found.values()} == {uncompressed}
    assert "Deflated Explicit VR Little Endian" in found[COMPREHENSIVE_3D_SR_STORAGE]


@pytest.mark.peers
def test_a_plain_store_lacks_commitment(tmp_path: Path) -> None:
    """DCMTK's storescp stores and echoes, and does nothing else."""
    with storescp(tmp_path) as peer:
        found = taken(peer.ae_title, peer.port)
    assert found[STORAGE_COMMITMENT] == ()
    assert found[VERIFICATION]
    assert found[SEGMENTATION_STORAGE]
    assert found[COMPREHENSIVE_3D_SR_STORAGE]


def test_one_that_takes_no_reports_says_so() -> None:
    """A node that knows none of our reports accepts none of them."""
    settings = ListenerSettings(ae_title="OTHER", port=0, allow_any_caller=True)
    with Listener(settings, RememberingReception()) as listener:
        found = taken("OTHER", listener.port)
    assert found[COMPREHENSIVE_3D_SR_STORAGE] == ()
    assert found[VERIFICATION]


def test_one_that_is_down_is_no_answer() -> None:
    """That nobody listens is an error, not a list of refusals."""
    with pytest.raises(RetryableError, match="nothing listens"):
        taken("PACS", free_port())


@pytest.mark.peers
def test_the_command_shows_it_and_fails_where_results_are_refused(tmp_path: Path) -> None:
    """An administrator sees a line for each service; the exit code tells a script."""
    other = ListenerSettings(ae_title="OTHER", port=0, allow_any_caller=True)
    with storescp(tmp_path / "store") as good, Listener(other, RememberingReception()) as bad:
        places = [f"good={good.ae_title}@{HOST}:{good.port}", f"bad=OTHER@{HOST}:{bad.port}"]
        options = [word for place in places for word in ("--destination", place)]
        assert RUNNER.invoke(app, ["init", str(tmp_path), *options]).exit_code == 0
        told = {
            name: RUNNER.invoke(app, ["destinations", "probe", name, "--json", "--config", str(tmp_path)])
            for name in ("good", "bad")
        }
    assert {name: result.exit_code for name, result in told.items()} == {"good": 0, "bad": 1}
    refused = {row["uid"]: row["mend"] for row in json.loads(told["bad"].output)}
    assert "`overread deliveries replay --destination bad --state DEAD`" in refused[COMPREHENSIVE_3D_SR_STORAGE]
    assert {row["uid"]: bool(row["transfer_syntaxes"]) for row in json.loads(told["good"].output)} == {
        uid: uid not in {STORAGE_COMMITMENT, STUDY_ROOT_FIND} for uid in WANTED
    }
