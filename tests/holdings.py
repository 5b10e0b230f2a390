"""A console's house whose spool holds a read PET/CT study, and the truth about it."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from daemon.bootstrap import House
from daemon.domain.job import JobInput
from daemon.domain.model_bundle import BundleRef
from daemon.domain.output import Output, OutputKind
from daemon.domain.reception import Announced, Verdict
from daemon.domain.work import Result
from daemon.results.make import make
from dicom_fixtures.studies import StudyRequest, make_petct
from tests.houses import PACS
from tests.manifests import PETCT
from tests.sources import Case, case

KINDS = (OutputKind.UNCERTAINTY, OutputKind.PROBABILITY, OutputKind.KEY_IMAGES)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What was received, by file, and what was made of it, by SOP Instance UID."""

    received: tuple[Path, ...]
    made: dict[str, bytes]
    case: Case

    @property
    def study(self) -> str:
        """Return the Study Instance UID."""
        return str(self.header.StudyInstanceUID)

    @property
    def header(self) -> Dataset:
        """Return the first PET slice's header."""
        return self.case.context.source.header

    @property
    def files(self) -> dict[str, bytes]:
        """Return every object by SOP Instance UID."""
        return {str(pydicom.dcmread(path).SOPInstanceUID): path.read_bytes() for path in self.received} | self.made

    def of_kind(self, modality: str) -> Dataset:
        """Return the result of a modality."""
        found = (pydicom.dcmread(pydicom.filebase.DicomBytesIO(content)) for content in self.made.values())
        return next(one for one in found if one.Modality == modality)


Spacing = tuple[float, float, float]
COARSE: Spacing = (8.0, 4.0, 4.0)


def filled(house: House, folder: Path, spacing: Spacing = COARSE, ct_spacing: Spacing = COARSE) -> Kept:
    """Receive a PET/CT study as the listener would, and complete its job with a SEG, a report and pictures."""
    wanted = StudyRequest(seed=5, spacing=spacing, ct_spacing=ct_spacing)
    truth = make_petct(wanted, folder)
    made = case(truth.series["PET"], 2, PETCT, along=truth.series["CT"])
    paths = (*truth.series["PET"], *truth.series["CT"])
    now = house.clock.now()
    intake = house.intake()
    intake.opened("a1", "PET1", now)
    instances = [receive(house, path) for path in paths]
    intake.closed("a1", now)
    outputs, contents = [], {}
    for one in make(made.context, made.reading, KINDS):
        digest, size = house.spool.put(one.content)
        header = pydicom.dcmread(pydicom.filebase.DicomBytesIO(one.content), stop_before_pixels=True)
        contents[str(header.SOPInstanceUID)] = one.content
        outputs.append(
            Output(
                kind=one.kind,
                sop_class_uid=str(header.SOPClassUID),
                sop_instance_uid=str(header.SOPInstanceUID),
                series_instance_uid=str(header.SeriesInstanceUID),
                digest=digest,
                size=size,
            )
        )
    _complete(house, truth.series_uids, tuple(outputs))
    assert len(instances) == len(paths)
    return Kept(received=paths, made=contents, case=made)


def receive(house: House, path: Path) -> str:
    """Push a file into the house; return its SOP Instance UID."""
    header = pydicom.dcmread(path, stop_before_pixels=True)
    announced = Announced(
        sop_class_uid=str(header.SOPClassUID),
        sop_instance_uid=str(header.SOPInstanceUID),
        transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
        calling_ae="PET1",
        called_ae="OVERREAD",
        association="a1",
    )
    incoming = house.reception(house.arrivals(house.intake(), "listen")).open(announced)
    incoming.write(path.read_bytes())
    assert incoming.finish() is Verdict.STORED
    return announced.sop_instance_uid


def _complete(house: House, series: dict[str, str], outputs: tuple[Output, ...]) -> None:
    now = house.clock.now()
    (study,) = house.jobs.waiting_studies()
    job = JobInput(
        study_instance_uid=study.study_instance_uid,
        series={"PET": series["PET"], "CT": series["CT"]},
        instance_digests=("x",),
    )
    house.jobs.settle(study, [(job, BundleRef(name="petct", version="1", digest="d" * 64))], None, now)
    claimed = house.jobs.claim("w", now, timedelta(minutes=5))
    assert claimed is not None
    result = Result(findings=None, outputs=outputs, destinations=(PACS,), seconds={})
    assert house.jobs.complete(claimed.lease, result, now)
