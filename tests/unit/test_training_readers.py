"""BraTS, Kaggle and image pairs: small folders in exactly those layouts, read back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from tests.layouts import CENTRE, SIZE, ball, brats_case, head, nifti
from tests.manifests import BRAIN, PETCT
from training.data.readers import Request, find
from training.data.readers.brats import patient_of
from training.data.readers.study import read
from training.data.sample import Sample

EARLY = {"FLAIR": "flair", "T2": "t2", "T1C": "t1ce", "T1": "t1", "seg": "seg"}
LATE = {"FLAIR": "t2f", "T2": "t2w", "T1C": "t1c", "T1": "t1n", "seg": "seg"}


def names(case: str, kinds: dict[str, str], mark: str, extension: str = ".nii.gz") -> dict[str, str]:
    return {kind: f"{case}{mark}{word}{extension}" for kind, word in kinds.items()}


def samples(layout: str, root: Path, request: Request) -> dict[str, Sample]:
    return {study.name: read(study, request.recipe) for study in find(layout, root, request)}


def assert_in_place(sample: Sample) -> None:
    """The outline lies where the ball is, seen from the image's centre, and the image is brightest there."""
    assert sample.mask is not None
    spacing = np.array(sample.spacing)
    found = (np.argwhere(sample.mask).mean(axis=0) - (np.array(sample.mask.shape) - 1) / 2) * spacing
    right, forward, up = (np.array(CENTRE) - (np.array(SIZE) - 1) / 2) * np.array((1, 1, 2))
    assert found == pytest.approx([up, -forward, -right], abs=1)
    assert sample.mask.sum() * spacing.prod() == pytest.approx(ball().sum() * 2, rel=0.2)
    image = sample.image[0].astype(np.float32)
    assert image[sample.mask > 0].mean() > image[sample.mask == 0].max() / 2


@pytest.mark.parametrize(
    ("folder", "case", "kinds", "mark", "extension"),
    [
        ("HGG/Brats18_CBICA_AAB_1", "Brats18_CBICA_AAB_1", EARLY, "_", ".nii.gz"),
        ("LGG/BraTS19_TMC_09043_1", "BraTS19_TMC_09043_1", EARLY, "_", ".nii.gz"),
        ("MICCAI_BraTS2020_TrainingData/BraTS20_Training_001", "BraTS20_Training_001", EARLY, "_", ".nii"),
        ("BraTS2021_00002", "BraTS2021_00002", EARLY, "_", ".nii.gz"),
        ("BraTS-GLI-00000-000", "BraTS-GLI-00000-000", LATE, "-", ".nii.gz"),
        ("BraTS-MEN-00004-000", "BraTS-MEN-00004-000", LATE, "-", ".nii.gz"),
    ],
)
def test_brats_of_every_year(  # noqa: PLR0913, PLR0917 - one row a year
    tmp_path: Path, folder: str, case: str, kinds: dict[str, str], mark: str, extension: str
) -> None:
    """Each year's names give a FLAIR sample with the whole tumour outlined where it is."""
    brats_case(tmp_path / folder, names(case, kinds, mark, extension))
    found = samples("brats", tmp_path, Request(manifest=BRAIN))
    assert list(found) == [f"{case}-FLAIR"]
    sample = found[f"{case}-FLAIR"]
    assert_in_place(sample)
    assert (sample.source, sample.tumour, sample.patient) == ("BraTS FLAIR", 1, patient_of(case))
    assert sample.strata == ((folder[:3],) if folder[:3] in {"HGG", "LGG"} else ())
    assert sample.image.dtype == np.float16


def test_each_contrast_of_brats_is_a_sample_of_its_own(tmp_path: Path) -> None:
    """Asked for all contrasts, one patient gives four samples whose tumours differ in signal."""
    brats_case(tmp_path / "BraTS-GLI-00000-000", names("BraTS-GLI-00000-000", LATE, "-"))
    request = Request(manifest=BRAIN, contrasts=("FLAIR", "T2", "T1C", "T1"))
    found = samples("brats", tmp_path, request)
    assert {s.source for s in found.values()} == {"BraTS FLAIR", "BraTS T2", "BraTS T1C", "BraTS T1"}
    assert {s.patient for s in found.values()} == {"BraTS-GLI-00000"}
    inside = {s.source[6:]: float(s.image[0][s.mask > 0].mean()) for s in found.values() if s.mask is not None}
    assert inside["FLAIR"] > 2 > inside["T1"]


def test_a_recipe_that_names_contrasts_gets_them_all_in_one_sample(tmp_path: Path) -> None:
    """Channels called T1C and FLAIR come in the recipe's order; an absent contrast is named."""
    brats_case(tmp_path / "BraTS2021_00000", names("BraTS2021_00000", EARLY, "_"))
    (channel,) = BRAIN.recipe.channels
    channels = tuple(replace(channel, role=role) for role in ("T1", "FLAIR"))
    request = Request(manifest=replace(BRAIN, recipe=replace(BRAIN.recipe, channels=channels)))
    (sample,) = samples("brats", tmp_path, request).values()
    assert (sample.name, sample.source, len(sample.image)) == ("BraTS2021_00000", "BraTS", 2)
    assert sample.mask is not None
    dark, bright = (float(channel[sample.mask > 0].mean()) for channel in sample.image.astype(np.float32))
    assert dark < 1 < bright
    (tmp_path / "BraTS2021_00000" / "BraTS2021_00000_t1.nii.gz").unlink()
    (study,) = find("brats", tmp_path, request)
    with pytest.raises(ValueError, match="no T1 beside"):
        study.load()


def test_labels_choose_what_counts_as_tumour(tmp_path: Path) -> None:
    """With labels 1 and 4 only the core is outlined, not the oedema (2)."""
    brats_case(tmp_path / "BraTS2021_00000", names("BraTS2021_00000", EARLY, "_"))
    (whole,) = samples("brats", tmp_path, Request(manifest=BRAIN)).values()
    (core,) = samples("brats", tmp_path, Request(manifest=BRAIN, labels=(1, 4))).values()
    assert whole.mask is not None
    assert core.mask is not None
    assert 0 < core.mask.sum() < whole.mask.sum() / 2


def test_visits_of_a_brats_patient_are_one_patient(tmp_path: Path) -> None:
    """The number of the visit is no part of the patient, so that visits never fall into two splits."""
    for visit in ("000", "001"):
        case = f"BraTS-GLI-00005-{visit}"
        brats_case(tmp_path / case, names(case, LATE, "-"))
    found = find("brats", tmp_path, Request(manifest=BRAIN))
    assert [study.patient for study in found] == ["BraTS-GLI-00005"] * 2
    assert patient_of("BraTS20_Training_001") == "BraTS20_Training_001"
    assert patient_of("BraTS2021_00002") == "BraTS2021_00002"


def test_follow_up_of_brats_2020(tmp_path: Path) -> None:
    """Days are deaths, "ALIVE (361 days later)" is censored, and who is not in the table has no follow-up."""
    for number in ("001", "002", "003"):
        case = f"BraTS20_Training_{number}"
        brats_case(tmp_path / case, {"FLAIR": f"{case}_flair.nii", "seg": f"{case}_seg.nii"})
    (tmp_path / "survival_info.csv").write_text(
        "Brats20ID,Age,Survival_days,Extent_of_Resection\n"
        "BraTS20_Training_001,60.463,289,GTR\nBraTS20_Training_002,52.2,ALIVE (361 days later),NA\n"
    )
    found = find("brats", tmp_path, Request(manifest=BRAIN))
    told = [(s.follow_up.time_days, s.follow_up.event, s.follow_up.covariates.get("age_years")) for s in found]
    assert told == [(289.0, 1, 60.463), (361.0, 0, 52.2), (None, None, None)]


def test_the_misnamed_outline_of_brats_2020_is_found(tmp_path: Path) -> None:
    """Patient 355's outline is called W39_1998.09.19_Segm.nii in the published folder."""
    case = "BraTS20_Training_355"
    kinds = {**names(case, EARLY, "_", ".nii"), "seg": "W39_1998.09.19_Segm.nii"}
    brats_case(tmp_path / case, kinds)
    (sample,) = samples("brats", tmp_path, Request(manifest=BRAIN)).values()
    assert_in_place(sample)


def test_a_brats_patient_without_the_contrast_names_it(tmp_path: Path) -> None:
    """What is missing is said when the study is read, so that others can go on."""
    brats_case(tmp_path / "BraTS2021_00000", {"T1": "BraTS2021_00000_t1.nii.gz"})
    (tmp_path / "BraTS2021_00000" / "._BraTS2021_00000_flair.nii.gz").write_bytes(b"what a Mac leaves")
    (study,) = find("brats", tmp_path, Request(manifest=BRAIN))
    with pytest.raises(ValueError, match="no FLAIR beside BraTS2021_00000_t1"):
        read(study, BRAIN.recipe)


def test_a_slice_of_kaggle_is_a_sample(tmp_path: Path) -> None:
    """JPEG and PNG, grey, colour and palette, give (1, 1, rows, columns), a label and no outline; copies count once."""
    rows, columns = np.indices((120, 90))
    grey = (np.hypot(rows - 60, columns - 45) < 40).astype(np.uint8) * 120
    grey[30:50, 20:40] = 250
    for folder in ("yes", "no", "brain_tumor_dataset/yes"):
        (tmp_path / folder).mkdir(parents=True)
    Image.fromarray(grey).save(tmp_path / "yes" / "Y1.jpg", quality=95)
    Image.fromarray(grey).save(tmp_path / "brain_tumor_dataset" / "yes" / "Y1.jpg", quality=95)
    Image.fromarray(np.stack([grey // 2] * 3, axis=-1)).save(tmp_path / "no" / "1 no.jpeg", quality=95)
    Image.fromarray(grey // 3).convert("P").save(tmp_path / "no" / "N 2.PNG")
    found = samples("kaggle", tmp_path, Request(manifest=BRAIN))
    assert len(found) == 3
    assert sorted((s.tumour, s.strata, s.mask, s.source) for s in found.values()) == [
        (0, (), None, "Kaggle"),
        (0, (), None, "Kaggle"),
        (1, (), None, "Kaggle"),
    ]
    for sample in found.values():
        # 120 rows are taken for 240 mm at 1 mm, and padded to a multiple of 16.
        assert sample.image.shape == (1, 1, 240, 192)
        assert sample.patient == sample.name
    (tumour,) = (s.image[0, 0].astype(np.float32) for s in found.values() if s.tumour)
    # Voxel (r, c) of the picture lies at 2 r and 2 c + half the padding.
    assert tumour[80, 60 + 6] > tumour[130, 100 + 6] > tumour[2, 2]


def test_a_picture_with_two_labels_is_an_error(tmp_path: Path) -> None:
    """The same picture as yes and as no would teach nothing; the message names both files."""
    for folder in ("yes", "no"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.full((20, 20), 7, np.uint8)).save(tmp_path / folder / "a.png")
    with pytest.raises(ValueError, match=r"no/a\.png and .*yes/a\.png are one picture"):
        find("kaggle", tmp_path, Request(manifest=BRAIN))


def test_kaggles_four_classes(tmp_path: Path) -> None:
    """Of glioma, meningioma, pituitary and notumor only the last is without tumour."""
    for place, kind in enumerate(("glioma", "meningioma", "pituitary", "notumor")):
        (tmp_path / "Training" / kind).mkdir(parents=True)
        Image.fromarray(np.full((20, 20), place * 9, np.uint8)).save(tmp_path / "Training" / kind / f"Tr_{place}.jpg")
    found = find("kaggle", tmp_path, Request(manifest=BRAIN))
    assert {study.strata[0]: study.tumour for study in found} == {
        "glioma": 1,
        "meningioma": 1,
        "pituitary": 1,
        "notumor": 0,
    }


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("p1_image.nii.gz", "p1_label.nii.gz"),
        ("p1_image.nii", "p1_seg.nii"),
        ("images/p1.nii.gz", "masks/p1.nii.gz"),
        ("images/p1.nii.gz", "labels/p1.nii.gz"),
        ("p1/MR_image.nii.gz", "p1/MR_mask.nii.gz"),
        ("imagesTr/p1_0000.nii.gz", "labelsTr/p1.nii.gz"),
    ],
)
def test_pairs_in_every_way_to_lay_them_out(tmp_path: Path, image: str, mask: str) -> None:
    """Image and outline are found, and the table of follow-up is joined by patient."""
    nifti(tmp_path / image, head())
    nifti(tmp_path / mask, ball())
    table = tmp_path / "table.csv"
    table.write_text("patient;time_days;event;age;sex;grade\np1;120;0;58;F;3\np9;3;1;60;M;4\n")
    (sample,) = samples("pairs", tmp_path, Request(manifest=BRAIN, source="ours", follow_up=table)).values()
    assert_in_place(sample)
    assert (sample.name, sample.patient, sample.source) == ("p1", "p1", "ours")
    assert (sample.time_days, sample.event) == (120.0, 0)
    assert sample.covariates == {"age_years": 58.0, "male": 0.0, "grade": 3.0}


def test_the_patient_may_be_a_part_of_the_name(tmp_path: Path) -> None:
    """Two visits whose names begin with the patient are one patient; a pattern that finds none is refused."""
    for visit in ("2019", "2021"):
        nifti(tmp_path / f"P7_{visit}_image.nii.gz", head())
    found = find("pairs", tmp_path, Request(manifest=BRAIN, patient="^(.+)_"))
    assert [(study.name, study.patient) for study in found] == [("P7_2019", "P7"), ("P7_2021", "P7")]
    with pytest.raises(ValueError, match="finds no patient in 'P7_2019'"):
        find("pairs", tmp_path, Request(manifest=BRAIN, patient="^(Q.+)_"))


def test_an_image_without_outline_is_read_as_such(tmp_path: Path) -> None:
    """No outline means that nobody drew one, not that there is no tumour."""
    nifti(tmp_path / "p1_image.nii.gz", head())
    (sample,) = samples("pairs", tmp_path, Request(manifest=BRAIN)).values()
    assert (sample.mask, sample.tumour) == (None, None)


def test_an_outline_elsewhere_is_an_error(tmp_path: Path) -> None:
    """An outline that no voxel of the image meets tells of two origins, not of a healthy patient."""
    nifti(tmp_path / "p1_image.nii.gz", head())
    nifti(tmp_path / "p1_mask.nii.gz", ball(), (30.0, 30.0, 30.0))
    (study,) = find("pairs", tmp_path, Request(manifest=BRAIN))
    with pytest.raises(ValueError, match="outside the image"):
        read(study, BRAIN.recipe)


def test_a_volume_thinner_than_the_models_view_is_refused(tmp_path: Path) -> None:
    """Four model slices of 4 mm are one too few, as they are to the daemon; five do, and one alone is a picture."""
    for slices in (1, 7, 9):
        nifti(tmp_path / f"s{slices}_image.nii.gz", head()[:, :, :slices])
    one, seven, nine = find("pairs", tmp_path, Request(manifest=BRAIN))
    with pytest.raises(ValueError, match="the volume is 4 model slices of 4 mm thick; at least 5"):
        read(seven, BRAIN.recipe)
    assert [read(study, BRAIN.recipe).image.shape[1] for study in (one, nine)] == [1, 5]


def test_images_that_are_no_volume_are_refused_by_name(tmp_path: Path) -> None:
    """Four dimensions and values that are no numbers are named; a fourth dimension of one is dropped."""
    nifti(tmp_path / "a_image.nii.gz", np.stack([head(), head()], axis=-1))
    holey = np.where(ball(), np.float32(np.nan), head())
    # The NIfTI reader itself turns such voxels into 0; other formats keep them.
    sitk.WriteImage(sitk.GetImageFromArray(holey), str(tmp_path / "b_image.nrrd"))
    nifti(tmp_path / "c_image.nii.gz", head()[..., None])
    four, holes, fine = find("pairs", tmp_path, Request(manifest=BRAIN))
    with pytest.raises(ValueError, match="plain three-dimensional image"):
        read(four, BRAIN.recipe)
    with pytest.raises(ValueError, match=f"{ball().sum()} voxels that are no number"):
        read(holes, BRAIN.recipe)
    assert read(fine, BRAIN.recipe).image.ndim == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("who,time_days,event\np1,3,1\n", "no column of patients"),
        ("patient,time_days\np1,3\n", "no events"),
        ("patient,time_days,event\np1,3,2\n", "the event is '2'"),
        ("patient,time_days,event\np1,0,1\n", "must be above 0"),
        ("patient;time_days;event\np1;812,5;1\n", "the time is '812,5'"),
        ("patient\np1\n", "tells no survival"),
        ("", "No columns"),
        ("patient,time_days,event\np1,3,1\np1,4,1\n", "contradict"),
        ("patient,age\np1,3\n", "tells no survival"),
        ("patient,time_days,event\nother,3,1\n", "knows none of the patients"),
    ],
)
def test_a_table_of_follow_up_that_does_not_fit_says_why(tmp_path: Path, text: str, message: str) -> None:
    """Each flaw of a table has a sentence of its own."""
    nifti(tmp_path / "p1_image.nii.gz", head())
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        find("pairs", tmp_path, Request(manifest=BRAIN, follow_up=tmp_path / "table.csv"))


def test_what_cannot_be_found_is_said_at_once(tmp_path: Path) -> None:
    """An unknown layout, a folder without studies, and a model that wants other channels."""
    with pytest.raises(ValueError, match="layout 'brat' is unknown; it is one of brats"):
        find("brat", tmp_path, Request(manifest=BRAIN))
    with pytest.raises(ValueError, match=r"looks like hecktor; expected imagesTr/<id>__PT"):
        find("hecktor", tmp_path, Request(manifest=PETCT))
    with pytest.raises(ValueError, match="layout brats has no channel PET, CT"):
        find("brats", tmp_path, Request(manifest=PETCT))
    with pytest.raises(ValueError, match="is no folder"):
        find("pairs", tmp_path / "absent", Request(manifest=BRAIN))
    with pytest.raises(ValueError, match="contrast PD is unknown"):
        find("brats", tmp_path, Request(manifest=BRAIN, contrasts=("PD",)))
