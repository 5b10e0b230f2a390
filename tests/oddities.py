"""A PACS with habits that no real one can be told to have, by pynetdicom over real associations."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

from daemon.dimse.contexts import COMPREHENSIVE_3D_SR_STORAGE, SEGMENTATION_STORAGE
from daemon.domain.delivery import Destination
from demo.ports import HOST, free_port
from tests.dicom_files import CT

_KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@dataclass(kw_only=True)
class OddPacs:
    """What it answers: statuses to C-STORE, N-ACTION (None: no such service), C-FIND and C-GET, with an Error Comment.

    Where the status allows it, it keeps what comes, as it changes it (`coerced` values by keyword), and lists it.
    """

    name: str = "odd"
    port: int = field(default_factory=free_port)
    store: int = 0x0000
    action: int | None = 0x0000
    query: int = 0x0000
    get: int = 0x0000
    comment: str = ""
    coerced: Mapping[str, str] = field(default_factory=dict)
    kept: list[Dataset] = field(default_factory=list)

    @property
    def destination(self) -> Destination:
        """Return it as a destination."""
        return Destination(name=self.name, ae_title=self.name.upper(), host=HOST, port=self.port)

    def said(self, status: int) -> Dataset:
        """Return a status with the comment."""
        answer = Dataset()
        answer.Status = status
        if status:
            answer.ErrorComment = self.comment
        return answer

    def on_store(self, event: evt.Event) -> Dataset:
        """Keep what comes, changed."""
        answer, dataset = self.said(self.store), event.dataset
        for keyword, value in self.coerced.items():
            setattr(dataset, keyword, value)
        if self.coerced:
            answer.OffendingElement = [Tag(keyword) for keyword in self.coerced]
        if self.store in {0x0000, 0x0111} or 0xB000 <= self.store < 0xC000:
            self.kept.append(dataset)
        return answer

    def on_action(self, _: evt.Event) -> tuple[Dataset, None]:
        """Answer a request for commitment; no report follows."""
        return self.said(self.action or 0x0000), None

    def on_find(self, event: evt.Event) -> Iterator[tuple[Dataset | int, Dataset | None]]:
        """List what is kept."""
        if self.query:
            yield self.said(self.query), None
            return
        keys = event.identifier
        for dataset in self.kept:
            if all(dataset.get(keyword) == keys.get(keyword) for keyword in _KEYS):
                match = Dataset()
                match.QueryRetrieveLevel, match.SOPInstanceUID = "IMAGE", dataset.SOPInstanceUID
                yield 0xFF00, match

    def on_get(self, _: evt.Event) -> Iterator[object]:
        """Give nothing."""
        yield 1
        yield self.said(self.get), None


@contextmanager
def running(pacs: OddPacs) -> Iterator[OddPacs]:
    """Run it."""
    entity = AE(ae_title=pacs.name.upper())
    for uid in (Verification, SEGMENTATION_STORAGE, COMPREHENSIVE_3D_SR_STORAGE, CT):
        entity.add_supported_context(uid)
    if pacs.action is not None:
        entity.add_supported_context(StorageCommitmentPushModel)
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    handlers = [
        (evt.EVT_C_STORE, pacs.on_store),
        (evt.EVT_N_ACTION, pacs.on_action),
        (evt.EVT_C_FIND, pacs.on_find),
        (evt.EVT_C_GET, pacs.on_get),
    ]
    server = entity.start_server((HOST, pacs.port), block=False, evt_handlers=handlers)
    try:
        yield pacs
    finally:
        server.shutdown()
