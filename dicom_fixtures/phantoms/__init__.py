"""Phantoms as arrays: images, the mask of every lesion, and the follow-up hazard they imply."""

from dicom_fixtures.phantoms.brain import brain
from dicom_fixtures.phantoms.parts import Lesion, Phantom
from dicom_fixtures.phantoms.petct import petct
from dicom_fixtures.phantoms.request import BRAIN_STRATA, PETCT_STRATA, BrainRequest, PetCtRequest

__all__ = ["BRAIN_STRATA", "PETCT_STRATA", "BrainRequest", "Lesion", "PetCtRequest", "Phantom", "brain", "petct"]
