"""Data set headers of synthetic studies (PS3.3 A.3, A.4, A.21), valid under dciodvfy."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

STORAGE = {"MR": MRImageStorage, "CT": CTImageStorage, "PT": PositronEmissionTomographyImageStorage}
HALF_LIFE_S = 6586.2
DOSE_BQ = 370e6
UPTAKE = timedelta(minutes=60)
# Echo, repetition and inversion time in ms, scanning sequence, description.
MR_TIMING = {
    "FLAIR": (120.0, 9000.0, 2500.0, ["SE", "IR"], "FLAIR"),
    "T2": (95.0, 4500.0, None, ["SE"], "T2 TSE"),
    "T1": (3.0, 1900.0, 900.0, ["GR", "IR"], "T1 MPRAGE"),
    "T1C": (3.0, 1900.0, 900.0, ["GR", "IR"], "T1 MPRAGE post Gd"),
}


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Who the fixture pretends to be; `charset` is Specific Character Set, empty for ASCII."""

    name: str
    patient_id: str
    sex: str = "F"
    birth_date: str = "19600102"
    weight_kg: float = 75.0
    charset: str | list[str] = ""


@dataclass(frozen=True, kw_only=True)
class StudyFrame:
    """What the series of one study share."""

    seed: str
    patient: Patient
    description: str
    accession: str = "FIXTURE"
    started: datetime = field(default_factory=lambda: datetime(2026, 3, 5, 10, 15))  # noqa: DTZ001 - DICOM local time

    def uid(self, *parts: str) -> str:
        """Return the UID that this study always gives to `parts`."""
        return str(generate_uid(entropy_srcs=["overread fixture", self.seed, *parts]))


def base(frame: StudyFrame, modality: str, series: str, number: int) -> Dataset:
    """Return what every slice of a series shares."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = STORAGE[modality]
    patient = frame.patient
    if patient.charset:
        ds.SpecificCharacterSet = patient.charset
    ds.PatientName, ds.PatientID = patient.name, patient.patient_id
    ds.PatientBirthDate, ds.PatientSex, ds.PatientWeight = patient.birth_date, patient.sex, f"{patient.weight_kg:.1f}"
    ds.StudyInstanceUID, ds.StudyID, ds.AccessionNumber = frame.uid("study"), "1", frame.accession
    ds.StudyDescription, ds.ReferringPhysicianName = frame.description, ""
    ds.Modality, ds.SeriesInstanceUID, ds.SeriesNumber = modality, frame.uid("series", series), number
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = frame.uid("frame of reference"), ""
    ds.Manufacturer, ds.ManufacturerModelName = "Overread fixtures", "Phantom"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "1", "1"
    ds.InstitutionName, ds.StationName = "Fixture hospital", "FIXTURE1"
    _times(ds, frame.started)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    return ds


def _times(ds: Dataset, started: datetime) -> None:
    day, clock = started.strftime("%Y%m%d"), started.strftime("%H%M%S")
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = day
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = clock


def mr(ds: Dataset, contrast: str, plane: str) -> None:
    """Add the MR image module; `plane` opens the series description, as in "AX FLAIR"."""
    echo, repetition, inversion, sequence, name = MR_TIMING[contrast]
    description = f"{plane} {name}"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    ds.SeriesDescription, ds.ProtocolName, ds.BodyPartExamined = description, description, "HEAD"
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = sequence, "NONE", ""
    ds.MRAcquisitionType, ds.MagneticFieldStrength, ds.EchoTrainLength = "2D", "3", "1"
    ds.EchoTime, ds.RepetitionTime, ds.PatientPosition = str(echo), str(repetition), "HFS"
    if inversion:
        ds.InversionTime = str(inversion)
    if contrast == "T1C":
        ds.ContrastBolusAgent = "Gadolinium"
    ds.PixelRepresentation = 0
    ds.WindowCenter, ds.WindowWidth = "400", "800"


def ct(ds: Dataset) -> None:
    """Add the CT image module; stored values are HU + 1024."""
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SeriesDescription, ds.BodyPartExamined, ds.PatientPosition = "CT low dose", "WHOLEBODY", "HFS"
    ds.KVP, ds.AcquisitionNumber = "120", "1"
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", "-1024", "HU"
    ds.PixelRepresentation = 0
    ds.WindowCenter, ds.WindowWidth = "40", "400"


def pet(ds: Dataset, frame: StudyFrame, slices: int) -> None:
    """Add the PET modules: BQML, decay-corrected to the start of the series, with all that SUVbw needs."""
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.SeriesDescription, ds.BodyPartExamined = "PET FDG AC", "WHOLEBODY"
    ds.Units, ds.CountsSource, ds.SeriesType, ds.NumberOfSlices = "BQML", "EMISSION", ["STATIC", "IMAGE"], slices
    ds.CorrectedImage, ds.DecayCorrection, ds.CollimatorType = (
        ["DECY", "ATTN", "SCAT", "DTIM", "RAN", "NORM"],
        "START",
        "NONE",
    )
    ds.AttenuationCorrectionMethod, ds.ReconstructionMethod = "measured,CT", "OSEM"
    ds.ScatterCorrectionMethod, ds.RandomsCorrectionMethod = "Model-based", "DLYD"
    ds.FrameReferenceTime, ds.ActualFrameDuration = "0", "120000"
    ds.DecayFactor, ds.DoseCalibrationFactor, ds.AxialAcceptance, ds.AxialMash = "1", "1", "", ""
    ds.PixelRepresentation = 0
    ds.RadiopharmaceuticalInformationSequence = [_drug(frame)]
    supine = _code("102538003", "SCT", "recumbent")
    supine.PatientOrientationModifierCodeSequence = [_code("40199007", "SCT", "supine")]
    ds.PatientOrientationCodeSequence = [supine]
    ds.PatientGantryRelationshipCodeSequence = [_code("102540001", "SCT", "headfirst")]


def _drug(frame: StudyFrame) -> Dataset:
    drug = Dataset()
    injected = frame.started - UPTAKE
    drug.Radiopharmaceutical = "Fluorodeoxyglucose"
    drug.RadiopharmaceuticalStartTime = injected.strftime("%H%M%S")
    drug.RadiopharmaceuticalStartDateTime = injected.strftime("%Y%m%d%H%M%S")
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = f"{DOSE_BQ:.0f}", f"{HALF_LIFE_S}"
    drug.RadionuclidePositronFraction = "0.97"
    drug.RadionuclideCodeSequence = [_code("77004003", "SCT", "^18^Fluorine")]
    drug.RadiopharmaceuticalCodeSequence = [_code("35321007", "SCT", "Fluorodeoxyglucose F^18^")]
    return drug


def becquerel_per_suv(weight_kg: float) -> float:
    """Return Bq/ml of one unit of SUVbw at the start of the scan."""
    return float(DOSE_BQ * 0.5 ** (UPTAKE.total_seconds() / HALF_LIFE_S) / (weight_kg * 1000))


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
