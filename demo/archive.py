"""A small DICOM archive for machines without Orthanc: C-STORE, C-FIND and C-GET, files on disk."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

HOST = "127.0.0.1"
SUCCESS, PENDING = 0x0000, 0xFF00


class Archive:
    """Keeps what it gets and finds it again by UID and modality."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def store(self, event: evt.Event) -> int:
        """Keep one object."""
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        dataset.save_as(self._folder / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
        return SUCCESS

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        """Answer a query at any level by its exact keys."""
        seen: set[tuple[str, ...]] = set()
        for match in self._matches(event.identifier):
            answer = Dataset()
            for element in event.identifier:
                value = event.identifier.QueryRetrieveLevel if element.keyword == "QueryRetrieveLevel" else None
                setattr(answer, element.keyword, value or match.get(element.keyword, ""))
            key = tuple(str(element.value) for element in answer)
            if key not in seen:
                seen.add(key)
                yield PENDING, answer

    def get(self, event: evt.Event) -> Iterator[object]:
        """Send what matches."""
        matches = list(self._matches(event.identifier))
        yield len(matches)
        for match in matches:
            yield PENDING, pydicom.dcmread(self._folder / f"{match.SOPInstanceUID}.dcm")

    def _matches(self, wanted: Dataset) -> Iterator[pydicom.FileDataset]:
        keys = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality")
        for path in self._folder.glob("*.dcm"):
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            if all(not wanted.get(k) or wanted.get(k) == dataset.get(k) for k in keys):
                yield dataset


def main() -> None:
    """Serve `FOLDER PORT` until killed."""
    archive = Archive(Path(sys.argv[1]))
    ae = AE(ae_title="DEMOPACS")
    ae.supported_contexts = AllStoragePresentationContexts
    for context in ae.supported_contexts:
        context.scp_role, context.scu_role = True, True
    for uid in (Verification, StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet):
        ae.add_supported_context(uid)
    handlers = [(evt.EVT_C_STORE, archive.store), (evt.EVT_C_FIND, archive.find), (evt.EVT_C_GET, archive.get)]
    ae.start_server((HOST, int(sys.argv[2])), evt_handlers=handlers)


if __name__ == "__main__":
    main()
