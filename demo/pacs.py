"""The PACS of the demo: Orthanc where it is installed, else a small archive in memory and on disk."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    SegmentationStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from demo.ports import HOST
from demo.programs import end

AE_TITLE = "DEMOPACS"
CLIENT = "DEMO"


@dataclass(frozen=True, kw_only=True)
class Pacs:
    """A running archive."""

    name: str
    port: int

    def instances(self, study: str) -> dict[str, str]:
        """Return SOP Instance UID to modality of the study's SEG and SR instances (C-FIND)."""
        ae = AE(ae_title=CLIENT)
        ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
        association = ae.associate(HOST, self.port, ae_title=AE_TITLE)
        found: dict[str, str] = {}
        for modality in ("SEG", "SR"):
            for series in _find(association, "SERIES", StudyInstanceUID=study, Modality=modality, SeriesInstanceUID=""):
                keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series.SeriesInstanceUID, "SOPInstanceUID": ""}
                found |= {str(i.SOPInstanceUID): modality for i in _find(association, "IMAGE", **keys)}
        association.release()
        return found

    def fetch(self, study: str, folder: Path) -> dict[str, Path]:
        """Read the study's SEG and SR back by C-GET; return paths by modality."""
        folder.mkdir(parents=True, exist_ok=True)
        wanted, stored = self.instances(study), {}

        def keep(event: evt.Event) -> int:
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            path = folder / f"{dataset.Modality}.dcm"
            dataset.save_as(path, enforce_file_format=True)
            stored[str(dataset.Modality)] = path
            return 0

        ae = AE(ae_title=CLIENT)
        ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
        classes = (SegmentationStorage, Comprehensive3DSRStorage)
        for uid in classes:
            ae.add_requested_context(uid)
        roles = [build_role(uid, scp_role=True) for uid in classes]
        handlers = [(evt.EVT_C_STORE, keep)]
        association = ae.associate(HOST, self.port, ae_title=AE_TITLE, ext_neg=roles, evt_handlers=handlers)
        for uid in wanted:
            identifier = Dataset()
            identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "IMAGE", study
            identifier.SOPInstanceUID = uid
            identifier.SeriesInstanceUID = ""
            list(association.send_c_get(identifier, StudyRootQueryRetrieveInformationModelGet))
        association.release()
        return stored


def _find(association: Association, level: str, **keys: str) -> list[Dataset]:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    answers = association.send_c_find(identifier, StudyRootQueryRetrieveInformationModelFind)
    return [match for status, match in answers if match is not None and status.Status in (0xFF00, 0xFF01)]


@contextmanager
def running(folder: Path, port: int, daemon_port: int) -> Iterator[Pacs]:
    """Run an archive until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    orthanc = shutil.which("Orthanc")
    command = _orthanc(orthanc, folder, port, daemon_port) if orthanc else _ours(folder, port)
    with (folder / "pacs.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield Pacs(name="Orthanc" if orthanc else "demo archive", port=port)
    finally:
        end(process, 15)


def _orthanc(program: str, folder: Path, port: int, daemon_port: int) -> list[str]:
    modalities = {
        "OVERREAD": {"AET": "OVERREAD", "Host": HOST, "Port": daemon_port, "AllowStorageCommitment": True},
        CLIENT: {"AET": CLIENT, "Host": HOST, "Port": 1},
    }
    configuration = {
        "Name": AE_TITLE,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": AE_TITLE,
        "DicomPort": port,
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "DicomCheckModalityHost": True,
        "DicomModalities": modalities,
        "HttpServerEnabled": False,
        "Plugins": [],
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration, indent=1), encoding="utf-8")
    return [program, str(path)]


def _ours(folder: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "demo.archive", str(folder / "storage"), str(port)]
