"""What a destination refuses is named with object, destination and mend, where an administrator looks."""

import json
from pathlib import Path

from daemon.dimse.contexts import COMPREHENSIVE_3D_SR_STORAGE
from daemon.dimse.listener import Listener, ListenerSettings
from tests.daemons import overread
from tests.deliverers import deliveries, delivering, site
from tests.oddities import OddPacs, running
from tests.peers import wait_until
from tests.receptions import RememberingReception


def test_a_refusal_names_object_destination_and_mend(tmp_path: Path) -> None:
    """Of the SOP class: what the probe shows, and the replay. Of one object, by a status: where to look."""
    images, strict = OddPacs(name="images"), OddPacs(name="strict", store=0xA900)
    config = site(tmp_path / "site", images, strict, sop_class=COMPREHENSIVE_3D_SR_STORAGE)
    settings = ListenerSettings(ae_title="IMAGES", port=images.port, allow_any_caller=True)
    with Listener(settings, RememberingReception()), running(strict), delivering(config):
        wait_until(lambda: {d.state for d in deliveries(config).values()} == {"DEAD"}, 240, "refusals")
    found = {d.destination: d for d in deliveries(config).values()}
    listed = json.loads(overread("deliveries", "list", "--json", "--config", str(config)).stdout)
    details = {row["destination"]: row["detail"] for row in listed}
    assert "refuses Comprehensive 3D SR Storage in every transfer syntax" in details["images"]
    assert "`overread destinations probe images` shows what it accepts" in details["images"]
    assert f"`overread deliveries replay {found['images'].id}`" in details["images"]
    assert "status 0xA900 (the data set does not match the SOP class); its own log says why" in details["strict"]
    assert "mend it at strict" in details["strict"]
    shown = overread("deliveries", "show", str(found["images"].id), "--config", str(config))
    assert json.loads(shown.stdout)["delivery"]["sop_instance_uid"] == "9.0"
