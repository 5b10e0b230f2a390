"""Phantoms as arrays: images, the mask of every lesion, and the follow-up hazard they imply."""

from dicom_fixtures.phantoms.brain import BrainRequest, brain
from dicom_fixtures.phantoms.parts import Lesion, Phantom
from dicom_fixtures.phantoms.petct import PetCtRequest, petct

__all__ = ["BrainRequest", "Lesion", "PetCtRequest", "Phantom", "brain", "petct"]
