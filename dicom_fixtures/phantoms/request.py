"""What can be asked of the phantoms."""

from dataclasses import dataclass

from dicom_fixtures.phantoms.parts import Spacing

BRAIN_STRATA = ("small", "faint", "near skull", "look-alikes")
PETCT_STRATA = ("small", "faint", "near bladder", "look-alikes")
PLAIN_HEAD_RADII_MM = (7.0, 22.0)
PLAIN_TRUNK_RADII_MM = (9.0, 32.0)
SMALL_RADII_MM = {"brain": (3.0, 6.0), "petct": (5.0, 8.0)}


@dataclass(frozen=True, kw_only=True)
class BrainRequest:
    """What head to make: `lesions` 0 is a normal study, `spacing` (slice, row, column) in mm.

    `randomise` makes a training head (`phantoms.wild`): anatomy, contrast, coverage, tumours and their mimics vary
    as widely as real ones. `shifted` adds what training heads never have (`phantoms.shifts`), to test under another
    distribution. `stratum`, one of `BRAIN_STRATA`, makes the study hard in that way.
    `lesion_radius_mm` None is what the generator draws of itself.

    Raises:
        ValueError: the stratum is unknown, or both `randomise` and `shifted` are asked for.
    """

    seed: int
    lesions: int = 1
    spacing: Spacing = (3.0, 1.0, 1.0)
    contrasts: tuple[str, ...] = ("FLAIR",)
    lesion_radius_mm: tuple[float, float] | None = None
    randomise: bool = False
    shifted: bool = False
    stratum: str = ""

    def __post_init__(self) -> None:
        _check(self.stratum, BRAIN_STRATA, both=self.randomise and self.shifted)

    def radii_mm(self, usual: tuple[float, float]) -> tuple[float, float]:
        """Return the range of lesion radii, `usual` where neither the request nor its stratum says."""
        return self.lesion_radius_mm or (SMALL_RADII_MM["brain"] if self.stratum == "small" else usual)


@dataclass(frozen=True, kw_only=True)
class PetCtRequest:
    """What body to make: `lesions` 0 is a normal study, `spacing` (slice, row, column) in mm.

    `randomise`, `shifted`, `stratum` and `lesion_radius_mm` as of `BrainRequest`; strata are `PETCT_STRATA`.
    `ct_spacing` puts the CT of a plain trunk on a finer grid of its own.

    Raises:
        ValueError: the stratum is unknown, or both `randomise` and `shifted` are asked for.
    """

    seed: int
    lesions: int = 1
    spacing: Spacing = (4.0, 4.0, 4.0)
    lesion_radius_mm: tuple[float, float] | None = None
    randomise: bool = False
    ct_spacing: Spacing | None = None
    shifted: bool = False
    stratum: str = ""

    def __post_init__(self) -> None:
        _check(self.stratum, PETCT_STRATA, both=self.randomise and self.shifted)
        if self.ct_spacing and (self.randomise or self.shifted):
            raise ValueError("ct_spacing is for plain trunks; leave it out with randomise or shifted")

    def radii_mm(self, usual: tuple[float, float]) -> tuple[float, float]:
        """Return the range of lesion radii, `usual` where neither the request nor its stratum says."""
        return self.lesion_radius_mm or (SMALL_RADII_MM["petct"] if self.stratum == "small" else usual)


def _check(stratum: str, known: tuple[str, ...], *, both: bool) -> None:
    if stratum and stratum not in known:
        raise ValueError(f"no stratum {stratum!r}: use one of {', '.join(known)}")
    if both:
        raise ValueError("a phantom is randomised for training or shifted for testing, never both; choose one")
