"""The spool in a bucket: what is promised is there, what is read is whole, and what goes is nobody's."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from daemon.bootstrap import House as Site
from daemon.config import load
from daemon.domain.bucket import Acknowledge
from daemon.domain.delivery import DeliveryState
from daemon.domain.job import JobInput
from daemon.domain.reception import Verdict
from daemon.errors import FatalError, RetryableError
from daemon.services.inputs import instances_of
from daemon.services.receive import Reception, lacking, reconcile
from daemon.services.retire import RetentionRules, Retire
from daemon.spool.bucket import BucketSpool, Terms
from daemon.spool.s3 import Bucket
from daemon.watch import look
from tests.buckets import SECRET, Service, service
from tests.certificates import Authority
from tests.dicom_files import ct_file
from tests.houses import House, aged
from tests.instances import NOW

UID = "1.2.826.0.1.3680043.8.498.3"
HOUR = timedelta(hours=1)
Machine = Callable[..., BucketSpool]


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[Service]:
    """A service with an empty bucket."""
    with service(tmp_path / "s3") as made:
        yield made


@pytest.fixture
def machine(tmp_path: Path, s3: Service) -> Machine:
    """Return what makes the spool of a machine by its name."""

    def make(name: str, acknowledge: Acknowledge = Acknowledge.BUCKET, headroom: int = 0) -> BucketSpool:
        terms = Terms(acknowledge=acknowledge, keep=timedelta(days=7), key=lambda: b"the key")
        return BucketSpool(tmp_path / name, headroom, Bucket(s3.place(acknowledge)), terms)

    return make


def kept(spool: BucketSpool, content: bytes) -> str:
    """Keep bytes as the listener does; return their digest."""
    draft = spool.draft()
    draft.write(content)
    draft.settle()
    draft.sync()
    return draft.digest


def test_what_one_machine_keeps_another_reads(machine: Machine, s3: Service) -> None:
    """A large object goes in parts; the loss of the machine costs nothing."""
    first, contents = machine("a"), (b"small", os.urandom(20_000_000))
    digests = [kept(first, contents[0]), first.put(contents[1])[0]]
    shutil.rmtree(first.root)
    second = machine("b")
    second.bring(digests)
    assert [second.path(digest).read_bytes() for digest in digests] == list(contents)
    assert all(map(second.sound, digests))
    assert second.sizes() == {digest: len(content) for digest, content in zip(digests, contents, strict=True)}
    assert (second.backlog().files, len(s3.objects())) == (0, 2)
    assert not second.sound("0" * 64)


def test_two_senders_of_the_same_bytes_hinder_each_other_nowhere(machine: Machine, s3: Service) -> None:
    """The file of the one is uploaded, and waits no longer, before the other's turn comes: both are in the bucket."""
    spool = machine("a")
    first, second = spool.draft(), spool.draft()
    for draft in (first, second):
        draft.write(b"the same")
        draft.settle()
    first.sync()
    spool._upload(second.digest)
    second.sync()
    assert (len(s3.objects(first.digest)), spool.backlog().files) == (3, 0)
    assert spool.holds(first.digest)


def test_without_the_bucket_nothing_is_acknowledged(
    tmp_path: Path, engine: Engine, machine: Machine, s3: Service
) -> None:
    """The sender is told to come again, no row and no file stays, and once it answers the instance is taken."""
    house, path = House(tmp_path, engine), ct_file(tmp_path / "ct.dcm", UID)
    spool = machine("a")
    house.reception = Reception(spool, house.intake, house.clock, b"salt")
    s3.kill()
    with pytest.raises(RetryableError, match=r"s3://overread-spool/spool: .* is not reached; see .*bucket\.endpoint"):
        house.receive(path, UID)
    assert house.files.kept() == {}
    assert (spool.backlog().files, list((spool.root / "incoming").iterdir())) == (0, [])
    s3.start()
    assert house.receive(path, UID) is Verdict.STORED
    assert house.receive(path, UID) is Verdict.DUPLICATE
    assert house.files.kept() == machine("b").sizes()


def test_what_waits_on_the_disk_outlives_the_process_and_the_bucket(machine: Machine, s3: Service) -> None:
    """Acknowledged and read here at once, uploaded by whoever comes next; what is at hand is left until it is not."""
    s3.kill()
    first = machine("a", Acknowledge.LOCAL)
    digest = kept(first, b"received")
    assert first.upload() == 0
    assert first.backlog().files == 1
    path = first.path(digest)
    with pytest.raises(RetryableError, match="is not reached"):
        first.put(b"result")
    s3.start()
    again, at_hand = machine("a", Acknowledge.LOCAL), first.draft()
    at_hand.write(b"at hand")
    at_hand.settle()
    assert again.upload() == 1
    assert [one.parent.name for one in s3.objects(digest)] == [digest]
    assert (path.read_bytes(), again.backlog().files) == (b"received", 1)
    at_hand.sync()
    assert (again.upload(), again.backlog().files) == (1, 0)
    assert machine("b").sound(at_hand.digest)


def test_what_changed_on_the_disk_is_never_uploaded(machine: Machine, s3: Service) -> None:
    """It is put aside, is said to be gone, and what a sender sends again takes its place."""
    spool = machine("a", Acknowledge.LOCAL)
    digest = kept(spool, b"promised")
    spool.path(digest).write_bytes(b"damaged!")
    assert (spool.upload(), s3.objects(), spool.sizes()) == (0, [], {})
    kept(spool, b"promised")
    assert spool.upload() == 1
    assert spool.sound(digest)
    assert spool.path(digest).read_bytes() == b"promised"


def test_a_damaged_object_is_never_read(machine: Machine, s3: Service) -> None:
    """Nor one that is cut short; another upload of the same digest, or a copy, stands in for it."""
    first, second = machine("a"), machine("b")
    digest = kept(first, b"promised")
    with s3.away():
        s3.objects(digest)[0].write_bytes(b"prom")
    assert not second.sound(digest)
    assert not second.path(digest).exists()
    assert list((second.root / "incoming").iterdir()) == []
    assert first.sound(digest), "its copy is whole"
    kept(first, b"promised")
    assert second.sound(digest)
    second.path(digest).write_bytes(b"damaged!")
    assert second.sound(digest), "and is fetched again"


def test_retention_frees_the_bucket_too(tmp_path: Path, engine: Engine, machine: Machine, s3: Service) -> None:
    """Of what went twice, every upload; what is freed is nowhere, and another machine's sweep clears its copies."""
    house, spool, other = House(tmp_path, engine), machine("a"), machine("b")
    house.spool = spool
    (digest,) = house.completed(b"report")
    spool.put(b"report")
    assert other.sound(digest)
    house.deliveries.change([], NOW)
    deliver, _ = house.post()
    deliver.step("pacs")
    spool.free([digest, "0" * 64])
    assert (s3.objects(), spool.sizes(), spool.path(digest).exists()) == ([], {}, False)
    aged(other.path(digest))
    assert Retire(house.files, spool, house.clock, RetentionRules()).step() == 0
    other.sweep(set(), HOUR)
    assert not other.path(digest).exists()


def test_a_sweep_goes_by_the_clock_of_the_bucket(machine: Machine, s3: Service) -> None:
    """What no row names and is old goes; what is young, promised, or uploaded anew by another machine stays."""
    first, second = machine("a"), machine("b")
    old, young, promised, again = (first.put(content)[0] for content in (b"old", b"young", b"promised", b"again"))
    with s3.away():
        for digest in (old, promised, again):
            aged(s3.objects(digest)[0])
    kept(second, b"again")
    assert second.sweep({promised}, HOUR) == 2
    assert second.sizes().keys() == {young, promised, again}
    assert machine("c").sound(again)


def test_what_is_in_the_bucket_alone_is_not_gone(tmp_path: Path, engine: Engine, machine: Machine, s3: Service) -> None:
    """A machine that starts finds nothing lacking; what the bucket lost waits for it again where there is a copy."""
    house, path = House(tmp_path, engine), ct_file(tmp_path / "ct.dcm", UID)
    spool = machine("a")
    house.reception = Reception(spool, house.intake, house.clock, b"salt")
    house.receive(path, UID)
    (digest,) = house.files.kept()
    other = machine("b")
    assert reconcile(other, house.files, house.intake, house.clock) == []
    with s3.away():
        s3.objects(digest)[0].unlink()
    assert lacking(other, house.files) == [digest]
    assert reconcile(spool, house.files, house.intake, house.clock) == []
    assert (spool.upload(), lacking(other, house.files)) == (1, [])
    s3.kill()
    assert reconcile(spool, house.files, house.intake, house.clock) == []


def test_a_full_disk_gives_up_copies_that_nobody_reads(machine: Machine) -> None:
    """What waits for the bucket and what was read lately stay; what went is fetched again."""
    spool = machine("a", Acknowledge.LOCAL)
    old, read = spool.put(b"old")[0], spool.put(b"read")[0]
    waits = kept(spool, b"waits")
    for digest in (old, read, waits):
        aged(spool.path(digest))
    spool.path(read)
    tight = machine("a", Acknowledge.LOCAL, headroom=shutil.disk_usage(spool.root).total)
    assert tight.full()
    assert {path.name for path in (spool.root / "copies").glob("*/*")} == {read, waits}
    assert spool.backlog().files == 1
    assert tight.sound(old)


def test_machines_of_one_bucket_have_one_key(tmp_path: Path, s3: Service) -> None:
    """Another key is refused with the mend, and nothing of a key lies in the bucket."""
    terms = Terms(acknowledge=Acknowledge.BUCKET, keep=HOUR, key=lambda: b"one")
    given = (terms, replace(terms, key=lambda: b"other"))
    spools = [BucketSpool(tmp_path / str(n), 0, Bucket(s3.place()), one) for n, one in enumerate(given)]
    spools[0].agree()
    with pytest.raises(FatalError, match=r"patient\.key of this data folder is not the one .* copy patient\.key from"):
        spools[1].put(b"result")
    assert s3.objects() == []
    noted = (s3.folder / "store/overread-spool/spool/patient-key").read_bytes()
    assert len(noted) == 64
    assert b"one" not in noted
    assert "is written and read" in spools[0].examine()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "nobody-s"}, r"s3://nobody-s/spool: no such bucket; make it, or correct bucket\.url"),
        ({"credentials_file": "wrong"}, r"it refuses us.* see bucket\.credentials_file"),
        ({"endpoint": "http://127.0.0.1:1"}, r"http://127.0.0.1:1 is not reached; see .*bucket\.endpoint"),
    ],
)
def test_what_is_wrong_with_the_bucket_is_said_with_its_mend(
    tmp_path: Path, s3: Service, changes: dict[str, Any], said: str
) -> None:
    """Whatever is asked of it; and no word of it holds a secret."""
    wrong = tmp_path / "wrong"
    wrong.write_text(s3.credentials.read_text().replace(SECRET, f"{SECRET}-not"))
    given: dict[str, Any] = {key: wrong if value == "wrong" else value for key, value in changes.items()}
    bucket = Bucket(replace(s3.place(), **given))
    for ask in (lambda: bucket.put("k", b""), lambda: bucket.read("k"), lambda: list(bucket.listed("k")), bucket.now):
        with pytest.raises(RetryableError, match=said) as caught:
            ask()
        assert SECRET not in f"{caught.value!r}{caught.value.__cause__!r}"


def test_a_file_of_credentials_that_is_none_is_named(tmp_path: Path, s3: Service) -> None:
    """Its words are not repeated: one of them may be the secret."""
    path = tmp_path / "credentials"
    for text in (f"{SECRET}\n", "[default]\naws_access_key_id = x\n"):
        path.write_text(text)
        with pytest.raises(
            FatalError, match=r"bucket\.credentials_file: .*aws_secret_access_key; write them"
        ) as caught:
            Bucket(s3.place(credentials_file=path))
        assert SECRET not in str(caught.value)
    with pytest.raises(FatalError, match=r"bucket\.ca_file: .* cannot be read \(No such file"):
        Bucket(s3.place(ca_file=tmp_path / "none"))


def test_a_service_with_a_certificate_of_the_hospital_s_own(tmp_path: Path) -> None:
    """It is trusted by `ca_file`, and not without."""
    authority = Authority(tmp_path / "ca")
    with service(tmp_path / "s3", authority.issue("s3", "IP:127.0.0.1")) as secure:
        trusting = Bucket(secure.place(ca_file=authority.certificate))
        trusting.put("key", b"value")
        assert trusting.read("key") == b"value"
        with pytest.raises(RetryableError, match="is not reached"):
            Bucket(secure.place()).read("key")


def test_deliveries_wait_for_a_bucket_that_is_away(
    tmp_path: Path, engine: Engine, machine: Machine, s3: Service
) -> None:
    """None of them is given up as if its file were gone."""
    house, spool = House(tmp_path, engine), machine("a")
    house.spool = spool
    house.completed(b"report")
    shutil.rmtree(spool.root)
    house.spool = machine("b")
    s3.kill()
    deliver, _ = house.post()
    deliver.step("pacs")
    assert (house.states(), house.courier.sent) == ([DeliveryState.PENDING.value], [])
    s3.start()
    house.clock.at += HOUR
    deliver.step("pacs")
    assert house.courier.sent


def test_an_instance_that_another_machine_has_yet_to_upload_is_waited_for(
    tmp_path: Path, engine: Engine, machine: Machine
) -> None:
    """The job is tried again; where success means the bucket, such an instance is gone and the job fails."""
    house, path = House(tmp_path, engine), ct_file(tmp_path / "ct.dcm", UID)
    spool = machine("a", Acknowledge.LOCAL)
    house.reception = Reception(spool, house.intake, house.clock, b"salt")
    house.receive(path, UID)
    wanted = JobInput(study_instance_uid="1", series={}, instance_digests=tuple(house.files.kept()))
    with pytest.raises(RetryableError, match="1 of 1 instances are not in the bucket yet"):
        instances_of(wanted, house.files, machine("b", Acknowledge.LOCAL), "mend")
    assert spool.upload() == 1
    assert len(instances_of(wanted, house.files, machine("b", Acknowledge.LOCAL), "mend")) == 1


def test_what_waits_for_long_is_told_of(tmp_path: Path, s3: Service) -> None:
    """By the alarms, after `notify.down_minutes`, whoever reads it meanwhile."""
    config = tmp_path / "overread.toml"
    config.write_text(s3.table(Acknowledge.LOCAL))
    (tmp_path / "data").mkdir()
    house = Site(load(config))
    house.migrate()
    spool = house.spool
    assert isinstance(spool, BucketSpool)
    digest = kept(spool, b"received")
    assert "bucket" not in look(house)
    aged(spool.path(digest))
    spool.path(digest)
    assert "1 files (0 MB) wait on this disk alone, for up to 72" in look(house)["bucket"]
    assert spool.upload() == 1
    assert "bucket" not in look(house)
    house.engine.dispose()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('url = "https://s3.example/spool"', r"bucket\.url: .*pattern"),
        ('url = "s3://spool"\nendpoint = "http://s3.example"', r"use https, or set allow_http = true"),
        ('url = "s3://spool"\nendpoint = "https://user:secret@s3.example"', r"bucket\.endpoint: .*pattern"),
        ('url = "s3://spool"\nca_file = "ca.pem"', r"ca_file needs an endpoint with https"),
        ('acknowledge = "soon"', r"bucket\.acknowledge: .*'local' or 'bucket'"),
    ],
)
def test_a_bucket_that_is_none_stops_the_start(tmp_path: Path, text: str, said: str) -> None:
    """The message names the key and what is wrong with it."""
    config = tmp_path / "overread.toml"
    config.write_text(f"[bucket]\n{text}\n")
    with pytest.raises(FatalError, match=said):
        load(config)


def test_a_bucket_s_name_and_prefix_are_told_apart(tmp_path: Path) -> None:
    """Its files lie beside the configuration; without a URL there is none."""
    config = tmp_path / "overread.toml"
    config.write_text('[bucket]\nurl = "s3://spool/a/b/"\ncredentials_file = "secret"\n')
    place = load(config).bucket.place
    assert place
    assert (place.name, place.prefix, str(place)) == ("spool", "a/b", "s3://spool/a/b")
    assert place.credentials_file == tmp_path.resolve() / "secret"
    config.write_text("")
    assert load(config).bucket.place is None


def test_without_the_library_the_mend_is_named(tmp_path: Path) -> None:
    """An installation without the extra says so as soon as a bucket is configured, and needs nothing of it without."""
    code = (
        "import sys; sys.path = [p for p in sys.path if 'site-packages' not in p]\n"
        "from datetime import timedelta as t; from pathlib import Path\n"
        "from daemon.domain.bucket import BucketPlace; from daemon.spool.choose import choose\n"
        "choose(Path(sys.argv[1]), 0, None, t(), bytes)\n"
        "choose(Path(sys.argv[1]), 0, BucketPlace(name='b'), t(), bytes)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "bucket.url needs obstore; run `pip install overread[s3]`" in ran.stderr
