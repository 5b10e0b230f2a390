"""Augmentation of crops: elastic deformation, flips, and intensity by channel."""

from typing import cast

import numpy as np
import torch
from monai.data import set_track_meta
from monai.transforms.compose import Compose
from monai.transforms.intensity.array import (
    RandAdjustContrast,
    RandBiasField,
    RandGaussianNoise,
    RandGaussianSmooth,
)
from monai.transforms.spatial.array import RandSimulateLowResolution
from monai.transforms.spatial.dictionary import Rand2DElasticd, Rand3DElasticd
from torch import Tensor
from torch.nn import functional

from daemon.domain.model_bundle import Channel, Normalisation, Recipe
from training.settings import AugmentSettings

Pair = tuple[Tensor, Tensor]
FLIPS = (0.5, 0.2, 0.5)
SIGMA = (0.3, 1.2)


class Augment:
    """Changes crops; equal after equal seeds.

    Values that carry a unit keep it: CT is not rescaled, PET only by what SUV calibrations differ. MR has no unit, so
    its contrast (gamma), bias field, scale and offset change freely.
    """

    def __init__(self, settings: AugmentSettings, recipe: Recipe, dims: int) -> None:
        # MONAI would carry a file header through every transform; crops have none.
        set_track_meta(False)
        self._settings, self._recipe, self._dims = settings, recipe, dims
        self._rng = np.random.default_rng(0)
        self._warp, self._contrast, self._quality = _warp(settings, dims), _contrast(settings), _quality(settings, dims)

    def seed(self, seed: int) -> None:
        """Draw from `seed` from now on."""
        self._rng = np.random.Generator(np.random.Philox(seed))
        for i, chain in enumerate((self._warp, self._contrast, self._quality)):
            chain.set_random_state(seed=(seed + i) % 2**32)

    def __call__(self, image: Tensor, mask: Tensor) -> Pair:
        """Return a changed crop: image (channels x neighbours, *size), mask (1, *size)."""
        if self._settings.strength == 0:
            return image, mask
        warped = self._warp({"image": image, "mask": mask})
        image, mask = self._flip(warped["image"], warped["mask"])
        groups = image.reshape(len(self._recipe.channels), -1, *image.shape[1:])
        changed = [self._channel(part, ch) for part, ch in zip(groups, self._recipe.channels, strict=True)]
        return torch.stack(changed).reshape(image.shape).contiguous(), mask.contiguous()

    def _flip(self, image: Tensor, mask: Tensor) -> Pair:
        left, up, through = (bool(self._rng.random() < chance) for chance in FLIPS)
        axes = [axis for axis, on in ((-1, left), (-2, up), (-3, through and self._dims == 3)) if on]
        image, mask = image.flip(axes), mask.flip(axes)
        if through and self._dims == 2:
            k = self._recipe.neighbours
            image = image.reshape(-1, k, *image.shape[1:]).flip(1).reshape(image.shape)
        return image, mask

    def _channel(self, part: Tensor, channel: Channel) -> Tensor:
        strength, rng = min(self._settings.strength, 1.0), self._rng
        free = channel.normalisation is Normalisation.FOREGROUND_ZSCORE
        if free:
            floor = part.min()
            part = cast("Tensor", self._contrast(part - floor)) + floor
        if free or channel.role == "PET":
            part = part * float(np.exp(rng.normal(0, 0.12 * strength)))
        if free:
            part = part + float(rng.normal(0, 0.15 * strength))
        part = cast("Tensor", self._quality(part))
        if rng.random() < self._settings.anisotropy * strength:
            part = anisotropic(part, int(rng.integers(3)), float(rng.uniform(1.5, 4)))
        low, high = (channel.low, channel.high) if free else (0.0, 1.0)
        return part.clamp(low, high)


def anisotropic(part: Tensor, axis: int, factor: float) -> Tensor:
    """Return an image as thick slices along `axis` would show it: averaged by `factor` there, then interpolated back.

    `part` is (slices, H, W) or (1, D, H, W); a factor leaves at least two voxels.
    """
    volume = part.reshape(1, 1, *part.shape[-3:])
    size = list(volume.shape[2:])
    size[axis] = max(int(size[axis] / factor), min(2, size[axis]))
    coarse = functional.interpolate(volume, size=size, mode="area")
    fine = functional.interpolate(coarse, size=volume.shape[2:], mode="trilinear", align_corners=False)
    return fine.reshape(part.shape)


def _chance(settings: AugmentSettings, chance: float) -> float:
    return min(chance * settings.strength, 1.0)


def _warp(settings: AugmentSettings, dims: int) -> Compose:
    chance = _chance(settings, settings.elastic)
    turn, size, bend = 0.25 * settings.strength, 0.15 * settings.strength, settings.strength
    keys, mode = ("image", "mask"), ("bilinear", "nearest")
    if dims == 2:
        elastic = Rand2DElasticd(
            keys, spacing=(24, 24), magnitude_range=(0, 2 * bend), prob=chance, rotate_range=(turn,),
            scale_range=(size, size), mode=mode, padding_mode="border",
        )  # fmt: skip
        return Compose([elastic])
    volume = Rand3DElasticd(
        keys, sigma_range=(5, 8), magnitude_range=(0, 60 * bend), prob=chance, rotate_range=(0, 0, turn),
        scale_range=(size, size, size), mode=mode, padding_mode="border",
    )  # fmt: skip
    return Compose([volume])


def _contrast(settings: AugmentSettings) -> Compose:
    return Compose(
        [
            RandAdjustContrast(prob=_chance(settings, settings.gamma), gamma=(0.6, 1.6)),
            RandBiasField(prob=_chance(settings, settings.bias_field), degree=2, coeff_range=(-0.3, 0.3)),
        ]
    )


def _quality(settings: AugmentSettings, dims: int) -> Compose:
    return Compose(
        [
            RandGaussianSmooth(prob=_chance(settings, settings.blur), sigma_x=SIGMA, sigma_y=SIGMA, sigma_z=SIGMA),
            RandSimulateLowResolution(
                prob=_chance(settings, settings.low_resolution),
                zoom_range=(0.5, 1.0),
                downsample_mode="nearest",
                upsample_mode="bilinear" if dims == 2 else "trilinear",
            ),
            RandGaussianNoise(prob=_chance(settings, settings.noise), std=0.1),
        ]
    )
