"""HECKTOR and autoPET: small folders in exactly those layouts, read back."""

from pathlib import Path

import numpy as np
import pytest

from tests.layouts import ball, petct
from tests.manifests import PETCT
from tests.shared import shared
from training.data.readers import Request, find
from training.data.readers.study import read
from training.data.sample import Sample

STUDY = "03-23-2003-NA-PET-CT Ganzkoerper  primaer mit KM-96698"


def samples(layout: str, root: Path, request: Request | None = None) -> list[Sample]:
    request = request or Request(manifest=PETCT)
    return [read(study, request.recipe) for study in find(layout, root, request)]


def assert_hot(sample: Sample) -> None:
    """PET is channel 0 and 9 of 12 g/ml in the outline; CT is channel 1 and soft tissue there."""
    assert sample.mask is not None
    assert sample.mask.sum() == ball().sum()
    pet, ct = sample.image.astype(np.float32)
    # The outer voxels lie beside cold ones in no grid but the PET's own.
    assert pet[sample.mask > 0].mean() == pytest.approx(9 / 12, abs=0.02)
    assert pet[sample.mask == 0].max() < 0.2
    assert ct[sample.mask > 0].mean() == pytest.approx((40 + 250) / 600, abs=0.1)


def test_hecktor_2022(tmp_path: Path) -> None:
    """PET, CT, outline, clinical and end-point tables of two centres."""
    for patient in ("CHUM-001", "MDA-017"):
        names = (f"imagesTr/{patient}__PT.nii.gz", f"imagesTr/{patient}__CT.nii.gz", f"labelsTr/{patient}.nii.gz")
        petct(tmp_path, names)
    (tmp_path / "hecktor2022_clinical_info_training.csv").write_text(
        "PatientID,Task 1,Task 2,CenterID,Gender,Age,Weight,Tobacco,Alcohol,Performance status,"
        '"HPV status (0=-, 1=+)",Surgery,Chemotherapy\n'
        "CHUM-001,1,1,2,M,59,82.5,,,1,1,0,1\nMDA-017,1,1,5,F,64,,,,,,0,1\n"
    )
    (tmp_path / "hecktor2022_endpoint_training.csv").write_text(
        "PatientID,Relapse,RFS\nCHUM-001,0,1704\nMDA-017,1,263\n"
    )
    chum, mda = samples("hecktor", tmp_path)
    assert_hot(chum)
    assert (chum.name, chum.patient, chum.source) == ("CHUM-001", "CHUM-001", "HECKTOR CHUM")
    assert (chum.time_days, chum.event, mda.time_days, mda.event) == (1704.0, 0, 263.0, 1)
    assert chum.covariates == {
        "male": 1.0,
        "age_years": 59.0,
        "weight_kg": 82.5,
        "performance_status": 1.0,
        "hpv_status": 1.0,
        "surgery": 0.0,
        "chemotherapy": 1.0,
    }
    assert mda.covariates == {"male": 0.0, "age_years": 64.0, "surgery": 0.0, "chemotherapy": 1.0}
    assert (mda.source, mda.tumour) == ("HECKTOR MDA", 1)


def test_hecktor_2021(tmp_path: Path) -> None:
    """The former names: everything in one folder, lower case, and progression-free survival."""
    petct(tmp_path / "hecktor_nii", ("CHGJ007_pt.nii.gz", "CHGJ007_ct.nii.gz", "CHGJ007_gtvt.nii.gz"))
    (tmp_path / "hecktor2021_patient_endpoint_training.csv").write_text(
        "PatientID,Progression,Progression free survival\nCHGJ007,1,410\n"
    )
    (sample,) = samples("hecktor", tmp_path)
    assert_hot(sample)
    assert (sample.patient, sample.source, sample.time_days, sample.event) == ("CHGJ007", "HECKTOR CHGJ", 410.0, 1)


def test_a_hecktor_patient_without_ct_or_outline(tmp_path: Path) -> None:
    """Without CT it cannot be read; without outline it is unlabelled, as the test patients are."""
    petct(tmp_path, ("imagesTs/A-1__PT.nii.gz", "imagesTs/A-1__CT.nii.gz", None))
    petct(tmp_path, ("imagesTr/B-1__PT.nii.gz", "imagesTr/elsewhere.nii.gz", None))
    unlabelled, broken = find("hecktor", tmp_path, Request(manifest=PETCT))
    sample = read(unlabelled, PETCT.recipe)
    assert (sample.mask, sample.tumour, sample.time_days) == (None, None, None)
    with pytest.raises(ValueError, match="no CT beside B-1__PT"):
        read(broken, PETCT.recipe)


def test_autopet(tmp_path: Path) -> None:
    """Studies of a patient share the patient; diagnosis, age and sex come from the metadata of each."""
    first, second = f"PETCT_0011f3deaf/{STUDY}", "PETCT_0011f3deaf/07-01-2004-NA-PET-CT-11111"
    petct(tmp_path / first, ("SUV.nii.gz", "CTres.nii.gz", "SEG.nii.gz"))
    petct(tmp_path / second, ("SUV.nii.gz", "CTres.nii.gz", "SEG.nii.gz"), tumour=False)
    rows = [f"{folder},PETCT_0011f3deaf,PT,326,{diagnosis},045Y,F" for folder, diagnosis in (
        (f"./FDG-PET-CT-LESIONS/{first}/PET", "MELANOMA"),
        (f"./FDG-PET-CT-LESIONS/{second}/PET", "NEGATIVE"),
    )]  # fmt: skip
    header = "File Location,Subject ID,Modality,Number of Images,diagnosis,age,sex"
    (tmp_path / "Clinical Metadata FDG PET_CT Lesions.csv").write_text("\n".join([header, *rows]) + "\n")
    ill, well = samples("autopet", tmp_path)
    assert_hot(ill)
    assert {ill.patient, well.patient} == {"PETCT_0011f3deaf"}
    assert ill.name == "PETCT_0011f3deaf-03-23-2003-NA-PET-CT_Ganzkoerper_primaer_mit_KM-96698"
    assert (ill.tumour, ill.strata, well.tumour, well.strata) == (1, ("melanoma",), 0, ("negative",))
    assert ill.covariates == {"age_years": 45.0, "male": 0.0}
    assert well.mask is not None
    assert not well.mask.any()


def test_autopet_with_follow_up_of_its_own(tmp_path: Path) -> None:
    """A table of follow-up joins by patient and keeps the metadata's age."""
    petct(tmp_path / f"PETCT_a/{STUDY}", ("SUV.nii.gz", "CTres.nii.gz", None))
    (tmp_path / "metadata.csv").write_text("Subject ID,diagnosis,age,sex\nPETCT_a,LYMPHOMA,061Y,M\n")
    (tmp_path / "survival.csv").write_text("Subject ID,OS_days,death\nPETCT_a,800,1\n")
    (sample,) = samples("autopet", tmp_path, Request(manifest=PETCT, follow_up=tmp_path / "survival.csv"))
    assert (sample.time_days, sample.event, sample.tumour, sample.mask) == (800.0, 1, 1, None)
    assert sample.covariates == {"age_years": 61.0, "male": 1.0}


def test_an_autopet_study_without_ct_is_named(tmp_path: Path) -> None:
    """What is missing is said when the study is read."""
    petct(tmp_path / f"PETCT_a/{STUDY}", ("SUV.nii.gz", "CT.nii.gz", None))
    (study,) = find("autopet", tmp_path, Request(manifest=PETCT))
    with pytest.raises(ValueError, match=r"no CTres\.nii\.gz"):
        read(study, PETCT.recipe)


def test_nnunets_channels_are_told_by_dataset_json(tmp_path: Path) -> None:
    """Channel 0 is CT and 1 PET where the file says so; names that tell nothing are refused."""
    petct(
        tmp_path, ("imagesTr/fdg_a_2003_0001.nii.gz", "imagesTr/fdg_a_2003_0000.nii.gz", "labelsTr/fdg_a_2003.nii.gz")
    )
    table = tmp_path / "dataset.json"
    table.write_text('{"channel_names": {"0": "CT", "1": "suv"}}')
    (sample,) = samples("pairs", tmp_path, Request(manifest=PETCT, patient="^(fdg_[^_]+)"))
    assert_hot(sample)
    assert (sample.name, sample.patient) == ("fdg_a_2003", "fdg_a")
    table.write_text('{"channel_names": {"0": "CT", "1": "CT"}}')
    with pytest.raises(ValueError, match="calls its channels CT, CT, the recipe PET, CT"):
        find("pairs", tmp_path, Request(manifest=PETCT))


@pytest.mark.shared
def test_the_sarcoma_patients_are_pairs() -> None:
    """The real PET/CT folders hold 24 patients, whose outlined voxels take up FDG more than others."""
    found = find("pairs", shared("petct", "nifti"), Request(manifest=PETCT, source="real STS"))
    assert len(found) == 24
    sample = read(found[0], PETCT.recipe)
    assert sample.mask is not None
    pet = sample.image[0].astype(np.float32)
    assert pet[sample.mask > 0].mean() > 3 * pet[sample.mask == 0].mean()
