"""The shipped trunk CT: how far it reaches and where its organs lie.

Organ uptake follows Wang et al. 2007 (doi 10.1007/s11307-006-0063-x) and Zincirkeser et al. 2007
(doi 10.1177/147323000703500406).
"""

from dataclasses import dataclass

EXTENT_MM = (333.0, 330.0, 390.0)


@dataclass(frozen=True, kw_only=True)
class Organ:
    """Where an organ lies in the trunk CT (z, y, x in mm from its centre) and its SUV range."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    suv: tuple[float, float]


ORGANS = {
    "bladder": Organ(centre=(-140, -15, 2), radii=(26, 28, 34), suv=(4.0, 30.0)),
    "right kidney": Organ(centre=(105, 32, -62), radii=(42, 24, 22), suv=(2.5, 9.0)),
    "left kidney": Organ(centre=(112, 32, 68), radii=(42, 24, 22), suv=(2.5, 9.0)),
    "liver": Organ(centre=(150, -10, -70), radii=(60, 75, 75), suv=(1.6, 2.8)),
}
