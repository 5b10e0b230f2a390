"""Which series is read, and the reason where none is."""

from dataclasses import replace

import pytest

from daemon.domain.assembly import Choice
from daemon.domain.instance import Cosines, Instance, Vector
from daemon.domain.model_bundle import Manifest
from daemon.domain.reasons import Reason
from daemon.domain.selection import choose, mr_sequence
from tests.instances import CT, PT, facts, series
from tests.manifests import BRAIN, PETCT


def pick(*instances: Instance, manifests: tuple[Manifest, ...] = (BRAIN, PETCT)) -> Choice:
    return choose(instances, manifests)


def reason(*instances: Instance) -> Reason:
    choice = pick(*instances)
    assert not choice.chosen
    assert choice.refusal is not None
    return choice.refusal.reason


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("AX FLAIR", "FLAIR"),
        ("t2_tirm_tra_dark-fluid FLAIR", "FLAIR"),
        ("AX T2 TSE", "T2"),
        ("3D Ax T1 MP-RAGE", "T1"),
        ("AX T1 +C", "T1C"),
        ("t1_mprage post Gd", "T1C"),
        ("T2* GRE", None),
        ("DWI b1000", None),
        ("ep2d_diff ADC", None),
        ("TOF MRA", None),
    ],
)
def test_sequences_are_told_by_description(description: str, expected: str | None) -> None:
    """Common descriptions name their contrast; what is no anatomy is none."""
    assert mr_sequence(facts(description=description)) == expected


def test_sequences_without_description_are_told_by_timing() -> None:
    """Long echo, repetition and inversion make a FLAIR; short echo a T1, with contrast agent a T1C."""
    assert mr_sequence(facts(description="", echo_time=120, repetition_time=9000, inversion_time=2500)) == "FLAIR"
    assert mr_sequence(facts(description="", echo_time=95, repetition_time=4500)) == "T2"
    assert mr_sequence(facts(description="", echo_time=3, repetition_time=8)) == "T1"
    assert mr_sequence(facts(description="", echo_time=3, repetition_time=8, contrast_agent="Gd")) == "T1C"


def test_flair_is_preferred_whatever_came_first() -> None:
    """Of T1, T2 and FLAIR the FLAIR is read."""
    parts = [("1", "AX T1"), ("2", "AX T2"), ("3", "AX FLAIR")]
    instances = [i for uid, d in parts for i in series(20, uid=uid, acquisition=facts(description=d))]
    chosen = pick(*instances).chosen
    assert [(c.bundle, c.series["MR"].series_instance_uid) for c in chosen] == [("brain-mri", "1.2.3")]


def test_a_broken_flair_gives_way_to_a_whole_t2() -> None:
    """A FLAIR with a missing slice is passed over where a whole T2 is there."""
    flair = series(20, uid="1")[:7] + series(20, uid="1")[8:]
    whole = series(20, uid="2", acquisition=facts(description="AX T2"))
    assert pick(*flair, *whole).chosen[0].series["MR"].series_instance_uid == "1.2.2"


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        (
            series(3, acquisition=facts(description="3-plane loc", image_type=("ORIGINAL", "LOCALIZER"))),
            Reason.LOCALIZER,
        ),
        (series(20, acquisition=facts(image_type=("DERIVED", "SECONDARY"))), Reason.DERIVED),
        (series(1), Reason.TOO_FEW_SLICES),
        (series(20)[:9] + series(20)[10:], Reason.MISSING_SLICES),
        (series(20, gap=12.0), Reason.MISSING_SLICES),
        (series(20) + series(20)[:1] * 1 + series(20, gap=4.0)[5:6], Reason.FOUR_D),
        ([replace(i, frames=20) for i in series(2)], Reason.FOUR_D),
        (series(20, acquisition=facts(description="SWI")), Reason.WRONG_SEQUENCE),
        (series(20, acquisition=facts(body_part="KNEE")), Reason.WRONG_BODY_PART),
        (series(20, acquisition=facts("US", "abdomen")), Reason.WRONG_MODALITY),
        (series(20, acquisition=facts(CT, "head")), Reason.NO_PET),
        (series(20, acquisition=facts(PT, "PET")), Reason.NO_CT),
        (series(20, acquisition=facts(samples_per_pixel=3)), Reason.COLOUR_PIXELS),
    ],
)
def test_what_cannot_be_read_names_its_reason(instances: list[Instance], expected: Reason) -> None:
    """Every kind of unfit series gets its own reason."""
    assert reason(*instances) is expected


PLANES: dict[str, tuple[Cosines, Vector]] = {
    "sagittal": ((0.0, 1.0, 0.0, 0.0, 0.0, -1.0), (-1.0, 0.0, 0.0)),
    "coronal": ((1.0, 0.0, 0.0, 0.0, 0.0, -1.0), (0.0, 1.0, 0.0)),
    "oblique": ((1.0, 0.0, 0.0, 0.0, 0.6, -0.8), (0.0, 0.8, 0.6)),
}


def turned(plane: str, gap: float) -> list[Instance]:
    """Return 20 slices `gap` mm apart along the normal of a plane."""
    cosines, axis = PLANES[plane]
    places = [(n * gap * axis[0], n * gap * axis[1], n * gap * axis[2]) for n in range(20)]
    return [
        replace(i, geometry=replace(i.geometry, orientation=cosines, position=place))
        for i, place in zip(series(20), places, strict=True)
        if i.geometry
    ]


@pytest.mark.parametrize("plane", PLANES)
def test_slices_too_far_apart_are_refused_in_every_plane(plane: str) -> None:
    """The gap that a model allows is measured from slice to slice, not along the body."""
    assert pick(*turned(plane, 7.5)).chosen
    assert reason(*turned(plane, 12.0)) is Reason.MISSING_SLICES


def test_a_spacing_written_with_another_last_digit_is_the_same() -> None:
    """0.8593751 among 0.859375 is one spacing, as it is to who reads the pixels; 0.8595 is another."""
    for ordinary, written in ((0.859375, 0.8593751), (0.78125, 0.7812501)):
        assert pick(*spaced(ordinary, written)).chosen
    assert reason(*spaced(0.859375, 0.8595)) is Reason.INCONSISTENT_GEOMETRY


def spaced(ordinary: float, odd: float) -> list[Instance]:
    """Return 20 slices of a pixel spacing in mm, the eighth of another."""
    return [
        replace(i, geometry=replace(i.geometry, pixel_spacing=(odd if n == 7 else ordinary, ordinary)))
        for n, i in enumerate(series(20))
        if i.geometry
    ]


def test_mixed_orientations_are_named() -> None:
    """Axial and coronal slices in one series are no volume."""
    axial, tilted = series(20)[:10], series(20)[10:]
    coronal = [
        replace(i, geometry=replace(i.geometry, orientation=(1.0, 0.0, 0.0, 0.0, 0.0, -1.0)))
        for i in tilted
        if i.geometry
    ]
    assert reason(*axial, *coronal) is Reason.MIXED_ORIENTATIONS


def test_two_patients_in_one_study_are_refused() -> None:
    """A study whose instances name two patients is not read at all."""
    assert reason(*series(20), *series(20, uid="6", patient="other")) is Reason.MIXED_PATIENTS


def test_pet_and_ct_are_read_together() -> None:
    """PET and CT in one frame of reference are the PET/CT model's input; the corrected PET is preferred."""
    plain = series(30, uid="1", acquisition=facts(PT, "PET NAC"))
    corrected = series(30, uid="2", acquisition=facts(PT, "PET AC", corrected_image=("DECY", "ATTN")))
    ct = series(40, uid="3", acquisition=facts(CT, "CT"))
    chosen = pick(*plain, *corrected, *ct).chosen
    assert {role: s.series_instance_uid for role, s in chosen[0].series.items()} == {"PET": "1.2.2", "CT": "1.2.3"}


def test_pet_and_ct_of_different_frames_are_not_paired() -> None:
    """Two frames of reference cannot be laid over each other."""
    pet = series(30, uid="1", acquisition=facts(PT, "PET"))
    ct = [replace(i, frame_of_reference_uid="1.2.98") for i in series(30, uid="2", acquisition=facts(CT, "CT"))]
    assert reason(*pet, *ct) is Reason.NO_SHARED_FRAME


def test_what_lies_in_no_frame_of_reference_is_refused() -> None:
    """Neither outline nor report could say where a finding lies; an identifier for it is not invented."""
    assert reason(*[replace(i, frame_of_reference_uid="") for i in series(20)]) == Reason.NO_GEOMETRY
    pet = [replace(i, frame_of_reference_uid="") for i in series(30, acquisition=facts(PT, "PET"))]
    assert reason(*pet, *series(30, uid="2", acquisition=facts(CT, "CT"))) == Reason.NO_GEOMETRY
    mixed = series(20)
    mixed[3] = replace(mixed[3], frame_of_reference_uid="1.2.98")
    assert reason(*mixed) == Reason.INCONSISTENT_GEOMETRY


def test_what_is_left_is_told_with_its_reason() -> None:
    """Each other series by modality, number and images, and why: what it lacks, or that another one was preferred."""
    parts = [("1", 3, "localizer", 1), ("2", 20, "AX T2", 2), ("3", 20, "AX FLAIR", None), ("4", 20, "DOE^JANE T1", 4)]
    instances = [
        i
        for uid, count, description, number in parts
        for i in series(count, uid=uid, acquisition=facts(description=description, series_number=number))
    ]
    (chosen,) = pick(*instances, manifests=(BRAIN,)).chosen
    assert chosen.unread == (
        "MR series 1, 3 images. The series is a localizer.",
        "MR series 2, 20 images. Another one was preferred.",
        "MR series 4, 20 images. Another one was preferred.",
    )


def test_beside_a_pet_and_its_ct_the_rest_is_told() -> None:
    """A second CT was not preferred; what is neither is no modality that is read; odd ones are not repeated."""
    parts = [("1", PT, "PET", 1), ("2", CT, "CT", 2), ("3", CT, "CT thin", 3), ("4", "NAME^X", "", 4)]
    instances = [
        i
        for uid, modality, description, number in parts
        for i in series(20, uid=uid, acquisition=facts(modality, description, series_number=number))
    ]
    (chosen,) = pick(*instances, manifests=(PETCT,)).chosen
    assert chosen.unread == (
        "CT series 3, 20 images. Another one was preferred.",
        "unknown series 4, 20 images. The modality is not one an installed model reads.",
    )
