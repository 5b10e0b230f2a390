"""A multi-frame Enhanced MR (PS3.3 A.36.2) made of a classic MR series."""

from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from dicom_fixtures.broken import in_order, rename

# What the classic MR Image module holds at the top and the Enhanced one keeps in functional groups or lacks.
CLASSIC_ONLY = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "MRAcquisitionType",
    "EchoTime",
    "RepetitionTime",
    "InversionTime",
    "EchoTrainLength",
    "MagneticFieldStrength",
    "AcquisitionDate",
    "AcquisitionTime",
    "WindowCenter",
    "WindowWidth",
    "ContrastBolusAgent",
)
MODIFIERS = ("InversionRecovery", "T2Preparation")
SUPPRESSION = {
    "FlowCompensation": "NONE",
    "Spoiling": "NONE",
    "SpectrallySelectedExcitation": "NONE",
    "SpatialPresaturation": "NONE",
    "PartialFourier": "NO",
    "ParallelAcquisition": "NO",
}
IMAGE_KIND = {
    "PixelPresentation": "MONOCHROME",
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
    "ComplexImageComponent": "MAGNITUDE",
    "AcquisitionContrast": "FLUID_ATTENUATED",
}


def make_multiframe(folder: Path) -> Path:
    """Replace the MR series in `folder` by one Enhanced MR instance of the same frames; return its path.

    Raises:
        ValueError: the series is not classic MR.
    """
    paths = in_order(folder)
    slices = [pydicom.dcmread(path) for path in paths]
    first = slices[0]
    if first.Modality != "MR" or "EchoTime" not in first:
        raise ValueError(f"{folder.name} is not a classic MR series; only that becomes an Enhanced MR")
    made = pydicom.dcmread(paths[0])
    for keyword in CLASSIC_ONLY:
        if keyword in made:
            delattr(made, keyword)
    _top(made, first, len(slices))
    made.SharedFunctionalGroupsSequence = [_shared(first)]
    made.PerFrameFunctionalGroupsSequence = [_frame(ds, number) for number, ds in enumerate(slices, start=1)]
    made.PixelData = b"".join(ds.PixelData for ds in slices)
    for path in paths:
        path.unlink()
    made.save_as(folder / "multiframe.dcm")
    return folder / "multiframe.dcm"


def _top(made: FileDataset, first: FileDataset, frames: int) -> None:
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    rename(made, "multi-frame")
    made.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    for keyword, value in IMAGE_KIND.items():
        setattr(made, keyword, value)
    made.InstanceNumber, made.NumberOfFrames = 1, frames
    made.AcquisitionDateTime = f"{first.StudyDate}{first.StudyTime}"
    made.AcquisitionNumber, made.AcquisitionDuration = 1, 240.0
    made.MagneticFieldStrength, made.ResonantNucleus = first.MagneticFieldStrength, "1H"
    made.KSpaceFiltering, made.MRAcquisitionType = "NONE", "2D"
    made.ApplicableSafetyStandardAgency, made.ContentQualification = "IEC", "RESEARCH"
    made.PulseSequenceName, made.EchoPulseSequence, made.MultipleSpinEcho = "tir2d", "SPIN", "NO"
    made.MultiPlanarExcitation, made.PhaseContrast, made.TimeOfFlightContrast = "NO", "NO", "NO"
    made.SteadyStatePulseSequence, made.EchoPlanarPulseSequence = "NONE", "NO"
    made.SaturationRecovery, made.SpectrallySelectedSuppression = "NO", "NONE"
    made.OversamplingPhase, made.GeometryOfKSpaceTraversal = "NONE", "RECTILINEAR"
    made.RectilinearPhaseEncodeReordering, made.SegmentedKSpaceTraversal = "LINEAR", "SINGLE"
    made.NumberOfKSpaceTrajectories = 1
    made.BurnedInAnnotation, made.LossyImageCompression = "NO", "00"
    made.PresentationLUTShape = "IDENTITY"
    made.BitsStored, made.HighBit = 16, 15
    made.AcquisitionContextSequence = []
    _dimensions(made)


def _dimensions(made: FileDataset) -> None:
    organization = Dataset()
    organization.DimensionOrganizationUID = generate_uid(entropy_srcs=[str(made.SOPInstanceUID), "dimensions"])
    made.DimensionOrganizationSequence = [organization]
    made.DimensionIndexSequence = []
    for keyword in ("StackID", "InStackPositionNumber"):
        index = Dataset()
        index.DimensionOrganizationUID = organization.DimensionOrganizationUID
        index.DimensionIndexPointer = Tag(keyword)
        index.FunctionalGroupPointer = Tag("FrameContentSequence")
        made.DimensionIndexSequence.append(index)


def _shared(first: FileDataset) -> Dataset:
    group = Dataset()
    group.PixelMeasuresSequence = [_copy(first, "PixelSpacing", "SliceThickness", "SpacingBetweenSlices")]
    group.PlaneOrientationSequence = [_copy(first, "ImageOrientationPatient")]
    brain = _item(CodeValue="12738006", CodingSchemeDesignator="SCT", CodeMeaning="Brain")
    group.FrameAnatomySequence = [_item(FrameLaterality="U", AnatomicRegionSequence=[brain])]
    kind = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    group.MRImageFrameTypeSequence = [_item(FrameType=kind, **IMAGE_KIND)]
    group.FrameVOILUTSequence = [_copy(first, "WindowCenter", "WindowWidth")]
    group.PixelValueTransformationSequence = [_item(RescaleIntercept="0", RescaleSlope="1", RescaleType="US")]
    _acquired(group, first)
    return group


def _acquired(group: Dataset, first: FileDataset) -> None:
    """Add the groups that an acquired frame needs (PS3.3 table C.8-88 on)."""
    group.MREchoSequence = [_item(EffectiveEchoTime=float(first.EchoTime))]
    group.MRAveragesSequence = [_item(NumberOfAverages=1.0)]
    field = {"MRAcquisitionFrequencyEncodingSteps": first.Columns, "MRAcquisitionPhaseEncodingStepsInPlane": first.Rows}
    group.MRFOVGeometrySequence = [
        _item(InPlanePhaseEncodingDirection="ROW", PercentSampling="100", PercentPhaseFieldOfView="100", **field)
    ]
    group.MRModifierSequence = [_item(**dict.fromkeys(MODIFIERS, "NO"), **SUPPRESSION)]
    if "InversionTime" in first:
        group.MRModifierSequence[0].InversionRecovery = "YES"
        group.MRModifierSequence[0].InversionTimes = [float(first.InversionTime)]
    group.MRImagingModifierSequence = [
        _item(MagnetizationTransfer="NONE", BloodSignalNulling="NO", Tagging="NONE", TransmitterFrequency=123.2)
    ]
    group.MRImagingModifierSequence[0].PixelBandwidth = "200"
    group.MRReceiveCoilSequence = [
        _item(
            ReceiveCoilName="HEAD",
            ReceiveCoilManufacturerName="",
            ReceiveCoilType="VOLUME",
            QuadratureReceiveCoil="YES",
        )
    ]
    group.MRTransmitCoilSequence = [
        _item(TransmitCoilName="BODY", TransmitCoilManufacturerName="", TransmitCoilType="BODY")
    ]
    timing = _copy(first, "RepetitionTime", "EchoTrainLength")
    timing.FlipAngle, timing.RFEchoTrainLength, timing.GradientEchoTrainLength = "90", 1, 0
    timing.SpecificAbsorptionRateSequence = [
        _item(SpecificAbsorptionRateDefinition="IEC_WHOLE_BODY", SpecificAbsorptionRateValue=0.5)
    ]
    timing.GradientOutputType, timing.GradientOutput = "DB_DT", 0.0
    timing.OperatingModeSequence = [_item(OperatingModeType="STATIC FIELD", OperatingMode="IEC_NORMAL")]
    group.MRTimingAndRelatedParametersSequence = [timing]


def _frame(ds: FileDataset, number: int) -> Dataset:
    group, content = Dataset(), Dataset()
    content.FrameAcquisitionDateTime = content.FrameReferenceDateTime = f"{ds.AcquisitionDate}{ds.AcquisitionTime}"
    content.FrameAcquisitionNumber, content.FrameAcquisitionDuration = 1, 240000.0
    content.StackID, content.InStackPositionNumber = "1", number
    content.DimensionIndexValues = [1, number]
    group.FrameContentSequence = [content]
    group.PlanePositionSequence = [_copy(ds, "ImagePositionPatient")]
    return group


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _copy(source: Dataset, *keywords: str) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        if keyword in source:
            setattr(item, keyword, source[keyword].value)
    return item
