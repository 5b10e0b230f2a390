"""Small series with geometry, pushed by a real Storage SCU to our listener over a real ledger and spool."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.association import Association

from daemon.dimse.listener import Listener, ListenerSettings
from daemon.dimse.requestor import keep_answers
from daemon.domain.assembly import Patience
from daemon.domain.evidence import Notice
from daemon.domain.model_bundle import BundleRef, InstalledBundle
from daemon.ledger.engine import connect
from daemon.ledger.listings import Listings
from daemon.ledger.migrate import upgrade
from daemon.ledger.queries import JobView, Queries, StudyView
from daemon.services.assemble import Assemble
from demo.ports import HOST
from tests.houses import House
from tests.manifests import BRAIN, PETCT
from tests.peers import wait_until

ROOT = "1.2.826.0.1.3680043.8.498.7"
STUDY = f"{ROOT}.1"
CLASSES = {
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
QUIET = timedelta(seconds=30)
BUNDLES = tuple(
    InstalledBundle(ref=BundleRef(name=m.name, version=m.version, digest=m.name.ljust(64, "0")), manifest=m)
    for m in (BRAIN, PETCT)
)


def stack(modality: str = "MR", count: int = 12, *, series: int = 1, images: int | None = None) -> list[FileDataset]:
    """Return an axial series of small slices 4 mm apart; `images` is Images in Acquisition."""
    return [_slice(modality, number, series, images) for number in range(1, count + 1)]


def _slice(modality: str, number: int, series: int, images: int | None) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(CLASSES[modality])
    meta.MediaStorageSOPInstanceUID = UID(f"{ROOT}.2.{series}.{number}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = CLASSES[modality], meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, f"{ROOT}.2.{series}"
    dataset.FrameOfReferenceUID = f"{ROOT}.3"
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Test^Case", "T1", modality
    dataset.ImageType, dataset.SeriesDescription = ["ORIGINAL", "PRIMARY", "AXIAL"], "AX FLAIR"
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", series, number
    dataset.AcquisitionNumber = 1
    if images is not None:
        dataset.ImagesInAcquisition = images
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 4 * number], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.Rows, dataset.Columns = [1, 1], 8, 8
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.add_new("PixelData", "OW", bytes([number % 256, 0] * 64))
    return dataset


def saved(datasets: Sequence[FileDataset], folder: Path) -> list[Path]:
    """Write a file each; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{dataset.SOPInstanceUID}.dcm" for dataset in datasets]
    for dataset, path in zip(datasets, paths, strict=True):
        dataset.save_as(path, enforce_file_format=True)
    return paths


@dataclass(frozen=True, kw_only=True)
class Notices:
    """Instance Availability Notifications into the ledger."""

    house: House

    def on_notice(self, notice: Notice) -> None:
        """Record it at the time that the test set."""
        Listings(self.house.engine).notified(notice, self.house.clock.at)


@dataclass(kw_only=True)
class Site:
    """A listener over the ledger, whose clock a test sets, and the verb assemble."""

    house: House
    listener: Listener
    standing: int = 0
    patience: Patience = field(default_factory=lambda: Patience(quiet=QUIET))

    @contextmanager
    def association(self, calling_ae: str = "MR1") -> Iterator[Association]:
        """Yield an association with us; at the end it is closed and the ledger knows."""
        entity = AE(ae_title=calling_ae)
        contexts = [build_context(uid, ExplicitVRLittleEndian) for uid in CLASSES.values()]
        association = entity.associate(HOST, self.listener.port, contexts=contexts, ae_title="OVERREAD")
        assert association.is_established
        keep_answers(association)
        self.standing += 1
        self._agreed()
        try:
            yield association
        finally:
            association.release()
            self.standing -= 1
            self._agreed()

    def push(self, datasets: Sequence[Dataset]) -> None:
        """Send on one association, then close it."""
        with self.association() as association:
            send(association, datasets)

    def _agreed(self) -> None:
        """Wait until the ledger knows of as many open associations as there are; the house has one of its own."""
        wait_until(lambda: self._open() == 1 + self.standing, 60, "the ledger to know of the association")

    def _open(self) -> int:
        statement = "select count(*) from associations where closed_at is null"
        with self.house.engine.connect() as connection:
            return int(connection.exec_driver_sql(statement).scalar_one())

    def pass_time(self, seconds: float) -> int:
        """Let time go by, then assemble; return how many studies were settled."""
        self.house.clock.at += timedelta(seconds=seconds)
        return self.assemble()

    def assemble(self) -> int:
        """Assemble; return how many studies were settled."""
        return Assemble(self.house.jobs, lambda: BUNDLES, self.house.clock, self.patience).step()

    @property
    def study(self) -> StudyView:
        """Return the study as `overread studies show` has it."""
        found = Queries(self.house.engine).study(STUDY)
        assert found is not None
        return found

    @property
    def jobs(self) -> list[JobView]:
        """Return the study's jobs, oldest first."""
        return Queries(self.house.engine).jobs(study=STUDY)[::-1]

    def read(self) -> set[str]:
        """Return the SOP Instance UIDs that the newest job reads."""
        with self.house.engine.connect() as connection:
            statement = "select digests from jobs order by id desc limit 1"
            (digests,) = connection.exec_driver_sql(statement).one()
        return {i.sop_instance_uid for i in self.house.files.instances(json.loads(digests))}


def send(association: Association, datasets: Sequence[Dataset]) -> None:
    """Send; every one must be a success."""
    for dataset in datasets:
        assert association.send_c_store(dataset).Status == 0x0000


@contextmanager
def site(folder: Path, port: int = 0) -> Iterator[Site]:
    """Run a listener over a fresh ledger, on a free port or `port`."""
    folder.mkdir(exist_ok=True)
    engine = connect(f"sqlite:///{folder / 'ledger.db'}")
    upgrade(engine)
    house = House(folder, engine)
    settings = ListenerSettings(ae_title="OVERREAD", port=port, allow_any_caller=True)
    with Listener(settings, house.reception, notices=Notices(house=house)) as listener:
        yield Site(house=house, listener=listener)
    engine.dispose()
