"""A real Orthanc as the archive that is asked what a study holds, and to send what lacks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import RLELossless
from pynetdicom import AE, build_context, evt

from daemon.bootstrap import House
from daemon.cli import doctor
from daemon.config import load
from daemon.dimse.archive import Archive
from daemon.dimse.contexts import STUDY_ROOT_FIND
from daemon.dimse.getting import Getter
from daemon.dimse.requestor import association
from daemon.dimse.sender import send
from daemon.domain.assembly import Asking, Patience, Retrieval
from daemon.domain.delivery import Destination, SendOutcome
from daemon.errors import OverreadError
from daemon.ledger.listings import Listings
from daemon.services.inquire import Archives, Inquire
from demo.ports import HOST, free_port
from tests.daemons import init, overread, serving
from tests.peers import dcmqrscp, orthanc, storescu, wait_until
from tests.pushes import QUIET, STUDY, Site, saved, site, stack

ASKING = Asking(answer=timedelta(seconds=60))


@dataclass(kw_only=True)
class Asked:
    """A site whose archive is asked."""

    site: Site
    archive: Destination
    paused: bool = False

    def keep(self, images: list[FileDataset], folder: Path) -> None:
        """Put images into the archive."""
        results = list(send(self.archive, saved(images, folder), "OVERREAD"))
        assert {result.outcome for result in results} == {SendOutcome.STORED}

    def patient(self, retrieve: Retrieval) -> None:
        """Say how what lacks is fetched."""
        self.site.patience = Patience(quiet=QUIET, asking=replace(ASKING, retrieve=retrieve))

    def ask(self, seconds: float = 0) -> int:
        """Let time go by, then ask about what is due; return how many studies that were."""
        self.site.house.clock.at += timedelta(seconds=seconds)
        house = self.site.house
        archives = Archives(network=self.network(), destinations=lambda: {"archive": self.archive}, name="archive")
        return Inquire(house.jobs, Listings(house.engine), archives, house.clock, self.site.patience).step()

    def network(self) -> Archive:
        """Return the way to the archive; what it fetches goes where what is pushed goes."""
        getter = Getter(calling_ae="OVERREAD", reception=self.site.house.reception, paused=lambda: self.paused)
        how = self.site.patience.asking
        return Archive("OVERREAD", getter=getter if how and how.retrieve is Retrieval.GET else None)

    def settle(self) -> int:
        """Assemble, once with and once without whatever association the archive still holds open."""
        self.site.house.clock.at += self.site.patience.settled
        return self.site.assemble()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Asked]:
    """A site and an Orthanc that know each other."""
    port = free_port()
    with site(tmp_path / "site", port) as made, orthanc(tmp_path / "archive", known={"OVERREAD": port}) as peer:
        archive = Destination(name="archive", ae_title=peer.ae_title, host=peer.host, port=peer.port)
        asked = Asked(site=made, archive=archive)
        asked.patient(Retrieval.OFF)
        yield asked


@pytest.mark.peers
def test_what_the_archive_lists_makes_a_study_complete(here: Asked, tmp_path: Path) -> None:
    """The archive is asked when the quiet time is over, once, and its word takes the place of presuming."""
    images = stack()
    here.keep(images, tmp_path / "images")
    here.site.push(images)
    assert here.ask(29) == 0
    assert here.ask(1) == 1
    assert here.ask() == 0
    assert here.site.assemble() == 1
    assert here.site.study.verdict == "complete"
    assert "archive: lists 12 instances of 1 series" in here.site.study.evidence


@pytest.mark.peers
def test_what_the_archive_has_and_we_have_not_is_waited_for(here: Asked, tmp_path: Path) -> None:
    """Instances at the end of a series are missed only because the archive lists them; patience ends all the same."""
    images = stack(count=14)
    here.keep([*images, *stack("CT", series=2)], tmp_path / "images")
    here.site.push(images[:12])
    assert here.ask(30) == 1
    assert here.site.pass_time(89) == 0
    assert here.ask() == 0
    assert here.site.pass_time(1) == 1
    assert "12 of the 14" in here.site.study.evidence
    assert len(here.site.read()) == 12


@pytest.mark.peers
def test_an_archive_that_is_behind_proves_nothing(here: Asked, tmp_path: Path) -> None:
    """Where the archive lists less than is here, or nothing, the quiet time decides, and the evidence says so."""
    images = stack()
    here.keep(images[:5], tmp_path / "images")
    here.site.push(images)
    assert here.ask(30) == 1
    assert here.site.assemble() == 1
    assert here.site.study.verdict == "presumed"
    assert "lists 5 instances" in here.site.study.evidence


@pytest.mark.peers
def test_missing_instances_are_fetched(here: Asked, tmp_path: Path) -> None:
    """What the archive has beyond what was sent comes by C-MOVE, and one job reads it all."""
    here.patient(Retrieval.MOVE)
    images = stack(count=14)
    here.keep(images, tmp_path / "images")
    here.site.push([*images[:6], *images[8:]])
    assert here.ask(30) == 1
    assert here.settle() == 1
    assert here.site.study.verdict == "complete"
    assert "2 of 2 missing fetched" in here.site.study.evidence
    assert here.site.read() == {d.SOPInstanceUID for d in images}
    assert len(here.site.jobs) == 1


@pytest.mark.peers
def test_the_ct_of_a_pet_is_fetched(here: Asked, tmp_path: Path) -> None:
    """A PET that was sent alone gets its CT from the archive; an MR of the same study stays there."""
    here.patient(Retrieval.MOVE)
    pet, ct = stack("PT", series=1), stack("CT", count=150, series=2)
    here.keep([*pet, *ct, *stack("MR", series=3)], tmp_path / "images")
    here.site.push(pet)
    assert here.ask(30) == 1
    assert here.settle() == 1
    assert "150 of 150 missing fetched" in here.site.study.evidence
    assert [job.bundle for job in here.site.jobs] == ["petct"]
    assert here.site.read() == {d.SOPInstanceUID for d in (*pet, *ct)}


@pytest.mark.peers
def test_an_archive_that_cannot_send_to_us_is_asked_three_times(tmp_path: Path) -> None:
    """Where our port is entered wrongly there, a retrieval is repeated, not for ever, and the study goes on."""
    known = {"OVERREAD": free_port()}
    with site(tmp_path / "site") as made, orthanc(tmp_path / "archive", known=known) as peer:
        archive = Destination(name="archive", ae_title=peer.ae_title, host=peer.host, port=peer.port)
        here, images = Asked(site=made, archive=archive), stack(count=14)
        here.patient(Retrieval.MOVE)
        here.keep(images, tmp_path / "images")
        made.push(images[:12])
        assert [here.ask(seconds) for seconds in (30, 29, 1, 30, 29)] == [1, 0, 1, 1, 0]
        assert made.assemble() == 0
        assert made.pass_time(1) == 1
        assert here.ask(60) == 0
    assert "12 of the 14" in made.study.evidence
    assert "0 of 2 missing fetched: " in made.study.evidence
    assert len(made.read()) == 12


@contextmanager
def stranger(folder: Path, kind: str) -> Iterator[Asked]:
    """Run a site, and an archive that lets us ask but has a wrong address for us."""
    known = {"OVERREAD": free_port()}
    running = orthanc(folder / "archive", known=known) if kind == "orthanc" else dcmqrscp(folder / "archive")
    with site(folder / "site") as made, running as peer:
        archive = Destination(name="archive", ae_title=peer.ae_title, host=peer.host, port=peer.port)
        asked = Asked(site=made, archive=archive)
        asked.patient(Retrieval.GET)
        yield asked


@pytest.mark.peers
@pytest.mark.parametrize("kind", ["orthanc", "dcmqrscp"])
def test_missing_instances_are_fetched_by_c_get(tmp_path: Path, kind: str) -> None:
    """They come on the association that asks, are kept and recorded like any other, and one job reads it all."""
    with stranger(tmp_path, kind) as here:
        images = stack(count=14)
        here.keep(images, tmp_path / "images")
        here.site.push([*images[:6], *images[8:]])
        assert here.ask(30) == 1
        assert here.settle() == 1
        assert here.site.study.verdict == "complete"
        assert "2 of 2 missing fetched" in here.site.study.evidence
        assert here.site.read() == {d.SOPInstanceUID for d in images}
        held = here.site.house.spool.sizes()
        assert len(held) == 14
        assert all(here.site.house.spool.sound(digest) for digest in held)


@pytest.mark.peers
def test_what_an_archive_keeps_compressed_comes_as_it_lies(tmp_path: Path) -> None:
    """Each compressed syntax has a context of its own, so that nothing is decoded on the way."""
    with stranger(tmp_path, "orthanc") as here:
        images = stack()
        for dataset in images[6:]:
            dataset.compress(RLELossless, generate_instance_uid=False, encoding_plugin="pydicom")
        here.keep(images, tmp_path / "images")
        here.site.push(images[:6])
        assert here.ask(30) == 1
        here.settle()
        assert here.site.read() == {d.SOPInstanceUID for d in images}
        kept = [dcmread(here.site.house.spool.path(digest)) for digest in here.site.house.spool.sizes()]
    assert sorted(d.file_meta.TransferSyntaxUID.name for d in kept) == [
        *["Explicit VR Little Endian"] * 6,
        *["RLE Lossless"] * 6,
    ]


@pytest.mark.peers
def test_what_is_not_kept_is_not_acknowledged(tmp_path: Path) -> None:
    """With the disk down to its headroom, or reception paused, nothing is fetched, and the evidence says why."""
    with stranger(tmp_path, "orthanc") as here:
        images = stack(count=14)
        here.keep(images, tmp_path / "images")
        here.site.push(images[:12])
        here.paused = True
        assert here.ask(30) == 1
        assert here.site.assemble() == 0
        assert "2 missing, not fetched: reception is paused" in here.site.study.evidence
        here.paused = False
        here.site.house.spool._headroom = 1 << 60
        assert here.ask(30) == 1
        assert here.site.assemble() == 0
        assert "0 of 2 missing fetched: 2 could not be kept here" in here.site.study.evidence
        assert len(here.site.house.spool.sizes()) == 12


@pytest.mark.peers
def test_an_archive_that_is_gone_holds_nobody(here: Asked) -> None:
    """No answer means that the quiet time alone decides, as soon as there is none."""
    here.archive = replace(here.archive, port=free_port())
    here.site.push(stack())
    assert here.site.pass_time(30) == 0
    assert "the archive is asked" in here.site.study.evidence
    assert here.ask() == 1
    assert here.site.assemble() == 1
    assert here.site.study.verdict == "presumed"
    assert "archive: no answer" in here.site.study.evidence


def test_no_answer_is_lost_to_pynetdicoms_own_loop() -> None:
    """What it does between two pauses, done all the time, takes none of 200 answers to a query."""

    def answers(_: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        for number in range(200):
            match = Dataset()
            match.QueryRetrieveLevel, match.SOPInstanceUID = "IMAGE", f"1.2.{number}"
            yield 0xFF00, match

    archive = AE(ae_title="ARCHIVE")
    archive.add_supported_context(STUDY_ROOT_FIND)
    port = free_port()
    server = archive.start_server((HOST, port), block=False, evt_handlers=[(evt.EVT_C_FIND, answers)])
    try:
        peer = Destination(name="archive", ae_title="ARCHIVE", host=HOST, port=port)
        with association(peer, "OVERREAD", [build_context(STUDY_ROOT_FIND)]) as established:
            keys, taken = Dataset(), []
            keys.QueryRetrieveLevel, keys.SOPInstanceUID = "IMAGE", ""
            found = []
            for _, match in established.send_c_find(keys, STUDY_ROOT_FIND):
                found += [] if match is None else [match]
                _, message = established.dimse.get_msg(block=False)
                taken += [] if message is None else [message]
    finally:
        server.shutdown()
    assert (len(found), len(taken)) == (200, 0)


def test_where_nobody_asks_the_wait_has_an_end(tmp_path: Path) -> None:
    """While the process that asks is down, or hangs, a study waits no longer than the configured time."""
    with site(tmp_path) as made:
        made.patience = Patience(quiet=QUIET, asking=ASKING)
        made.push(stack())
        assert made.pass_time(89) == 0
        assert made.pass_time(1) == 1
        assert made.study.verdict == "presumed"


def test_one_process_at_a_time_asks(tmp_path: Path) -> None:
    """An inquiry that is under way is nobody else's; one that was cut off is taken up again."""
    with site(tmp_path) as made:
        made.push(stack())
        (study,) = made.house.jobs.waiting_studies()
        listings, now = Listings(made.house.engine), made.house.clock.at
        assert listings.begin(study, now, now + QUIET)
        assert not listings.begin(study, now, now + QUIET)
        assert listings.begin(study, now + QUIET, now + 2 * QUIET)


def _brought(log: Path) -> bool:
    """Return whether the trail tells of two instances from the archive; a last line may be half written."""
    trail = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    brought = [e["message"] for e in trail if e["event"] == "DICOM Instances Transferred"]
    return any('NumberOfInstances="2"' in one and "AETITLES=ORTHANC" in one for one in brought)


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize("retrieve", ["true", '"get"'])
def test_a_daemon_fetches_what_lacks_and_studies_show_tells(tmp_path: Path, retrieve: str) -> None:
    """`assembly.archive` and `assembly.retrieve` are all it takes."""
    port, images = free_port(), stack(count=14)
    with orthanc(tmp_path / "archive", known={"OVERREAD": port, "STORESCU": free_port()}) as peer:
        assert storescu(peer.port, saved(images, tmp_path / "all"), called_ae=peer.ae_title).returncode == 0
        config = init(tmp_path / "site", port, peer, archive='"pacs"', retrieve=retrieve)

        def shown() -> str:
            return overread("studies", "show", STUDY, "--config", str(config), "--json").stdout

        with serving(tmp_path / "site", port):
            assert storescu(port, saved(images[:12], tmp_path / "some")).returncode == 0
            wait_until(lambda: '"verdict": "complete"' in shown(), 120, "the study to be complete")
            # The last instance makes it complete before the archive has said that all went.
            wait_until(lambda: "2 of 2 missing fetched" in shown(), 120, "what came of asking")
            # What came is told when its association closes, which may be after the retrieval's last answer.
            wait_until(lambda: _brought(tmp_path / "site/data/audit.log"), 60, "the audit trail to tell of both")
        assert doctor._archive(House(load(config))) == "pacs is asked, and sends what is missing"


def test_doctor_says_what_is_wrong_with_the_archive(tmp_path: Path) -> None:
    """A name that no destination has, and a node that answers no queries, are named with their mend."""
    with site(tmp_path) as made:
        node = f'ae_title = "OVERREAD"\nhost = "127.0.0.1"\nport = {made.listener.port}\n'
        for name, said in (("other", "no DICOM node other"), ("pacs", "FIND, .* MOVE; allow it there")):
            path = tmp_path / "overread.toml"
            text = f'[assembly]\narchive = "{name}"\nretrieve = true\n[[destination]]\nname = "pacs"\n{node}'
            path.write_text(f'[data]\nfolder = "."\n{text}')
            with pytest.raises(OverreadError, match=said):
                doctor._archive(House(load(path)))
