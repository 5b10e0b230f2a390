"""Frames and headers of objects in the spool, whatever transfer syntax and character set they were received in."""

import io
import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from fastapi import HTTPException
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from daemon.ledger.holdings import Holding
from daemon.spool.store import Spool
from daemon.web.objects import document, frame_of, header_of, picture_of
from dicom_fixtures.headers import Patient
from dicom_fixtures.studies import StudyRequest, make_brain_mri

NAME = "Люксембург^Иван"
COMPRESSED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)


@pytest.fixture(scope="module")
def slice_(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """One slice of a head, its patient's name in Cyrillic."""
    patient = Patient(name=NAME, patient_id="FX-1", charset="ISO_IR 144")
    request = StudyRequest(seed=3, spacing=(12.0, 4.0, 4.0), patient=patient)
    return pydicom.dcmread(make_brain_mri(request, tmp_path_factory.mktemp("head")).series["FLAIR"][0])


def kept(spool: Spool, dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> Holding:
    """Put a data set into the spool in a transfer syntax."""
    made = deepcopy(dataset)
    if syntax in COMPRESSED:
        made.compress(syntax, generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian:
        made.PixelData = np.frombuffer(made.PixelData, dtype="<u2").astype(">u2").tobytes()
    made.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    if syntax == ExplicitVRBigEndian:
        pydicom.dcmwrite(file, made, implicit_vr=False, little_endian=False)
    else:
        pydicom.dcmwrite(file, made)
    digest, size = spool.put(file.getvalue())
    return Holding(
        study_uid="1.2",
        series_uid="1.2.3",
        sop_instance_uid=str(made.SOPInstanceUID),
        sop_class_uid=str(made.SOPClassUID),
        transfer_syntax_uid=syntax,
        digest=digest,
        size=size,
    )


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        *COMPRESSED,
    ],
    ids=lambda uid: uid.name,
)
def test_a_frame_is_the_same_in_every_transfer_syntax(tmp_path: Path, slice_: Dataset, syntax: UID) -> None:
    """Frames come decoded, little endian, without padding; another number is no frame."""
    spool = Spool(tmp_path, headroom=0)
    holding = kept(spool, slice_, syntax)
    size = slice_.Rows * slice_.Columns * 2
    assert frame_of(spool, holding, 1) == slice_.PixelData[:size]
    assert picture_of(spool, holding, 1).size == (slice_.Columns, slice_.Rows)
    for number in (0, 2):
        with pytest.raises(HTTPException) as refused:
            frame_of(spool, holding, number)
        assert refused.value.status_code == 404


def test_a_file_that_is_short_of_pixels_is_refused(tmp_path: Path, slice_: Dataset) -> None:
    """A header that promises more rows than there are pixels gives no frame."""
    promised = deepcopy(slice_)
    promised.Rows = slice_.Rows * 2
    spool = Spool(tmp_path, headroom=0)
    with pytest.raises(HTTPException) as refused:
        frame_of(spool, kept(spool, promised), 1)
    assert refused.value.status_code == 422


def test_headers_are_json_in_utf8(tmp_path: Path, slice_: Dataset) -> None:
    """A name in another character set reads right; a number that JSON cannot say is left out, the rest stays."""
    odd = deepcopy(slice_)
    odd.add_new("DiffusionBValue", "FD", float("nan"))
    spool = Spool(tmp_path, headroom=0)
    found = document(header_of(spool, kept(spool, odd)))
    again = Dataset.from_json(json.loads(json.dumps(found, allow_nan=False)))
    assert (str(again.PatientName), again.SpecificCharacterSet) == (NAME, "ISO_IR 192")
    assert "DiffusionBValue" not in again
    assert "PixelData" not in again
    assert again.Rows == slice_.Rows
