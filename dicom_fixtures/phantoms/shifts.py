"""What a shifted generator adds to heads: mass effect, bright vessels, ghosts, motion, thick slices.

No training head has ghosts, motion or vessels that are bright without contrast agent. All draws come from a stream
of their own, so that a plain head of the same seed stays as it is.
"""

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dicom_fixtures.phantoms import fields, parts
from dicom_fixtures.phantoms.parts import Array, Blob

FIELD_SPACING_MM = (5.0, 5.0, 5.0)


def generator(seed: int) -> np.random.Generator:
    """Return the stream of shifts of `seed`, independent of the phantom's own."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 1])))


def push(rng: np.random.Generator, like: sitk.Image, blobs: tuple[Blob, ...]) -> Array:
    """Return the displacement (z, y, x, xyz in mm) that presses tissue away from tumours, by up to a third of a radius.

    The push falls off exponentially with distance from the tumour's surface and never folds.
    """
    coarse = fields.coarse(like, FIELD_SPACING_MM)
    z, y, x = parts.axes_mm(coarse)
    displacement = np.zeros((*np.broadcast_shapes(z.shape, y.shape, x.shape), 3), dtype=np.float32)
    for blob in blobs:
        lesion = parts.measure(blob.distance < 1, like, blob.kind)
        radius = max((lesion.volume_ml * 1000 * 0.75 / np.pi) ** (1 / 3), 2.0)
        away = np.stack(np.broadcast_arrays(*(a - c for a, c in zip((x, y, z), lesion.centre_mm, strict=True))), -1)
        beyond = np.maximum(np.linalg.norm(away, axis=-1, keepdims=True) / radius - 1, 0)
        displacement -= away * float(rng.uniform(0.1, 0.33)) * np.exp(-beyond / 0.6)
    return fields.spread(displacement, like)


def move(array: Array, like: sitk.Image, displacement: Array) -> Array:
    """Return `array`, given on the grid of `like`, with each voxel taken from where its displacement points."""
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(like)
    return fields.see(image, like, displacement)


def vessels(rng: np.random.Generator, like: sitk.Image, brain: Array, mask: NDArray[np.bool_]) -> Array:
    """Return 0..1 brightness of thin winding lines in the brain, never inside a tumour."""
    first, second = (fields.noise(rng, like, float(rng.uniform(22, 40))) for _ in range(2))
    lines = np.exp(-(first**2 + second**2) / float(rng.uniform(0.002, 0.006)))
    return np.asarray(lines * (brain > 0.9) * ~mask * float(rng.uniform(0.3, 1.0)), dtype=np.float32)


def lookalikes(rng: np.random.Generator, like: sitk.Image, head: tuple[Array, Array], mask: NDArray[np.bool_]) -> Array:
    """Return 0..1 brightness of confluent white-matter patches and many spots; `head` is T1 and brain fraction."""
    t1, brain = head
    white = (t1 > 90) & (brain > 0.9) & ~mask
    bright = np.clip(2 * fields.noise(rng, like, 8.0) - float(rng.uniform(1.6, 2.8)), 0, 1) * white
    bright = bright * float(rng.uniform(0.3, 0.7))
    for _ in range(int(rng.integers(15, 40)) if white.any() else 0):
        radius = float(rng.uniform(1.2, 4.0))
        centre = parts.pick_centre(rng, white, like)
        window, distance = fields.spot(like, centre, (radius + 1, radius, radius))
        bright[window] = np.maximum(bright[window], np.clip(1.5 - distance, 0, 1) * float(rng.uniform(0.5, 1.0)))
    return np.asarray(bright * ~mask, dtype=np.float32)


def artefact(rng: np.random.Generator, image: Array) -> Array:
    """Return `image` (slices, rows, columns) with a ghost, motion, thick slices, or as it was."""
    kind = rng.choice(["none", "ghost", "motion", "thick"])
    if kind == "ghost":
        image = _ghost(rng, image)
    elif kind == "motion":
        image = _motion(rng, image)
    elif kind == "thick":
        padded = np.pad(image, ((1, 1), (0, 0), (0, 0)), mode="edge")
        image = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    return np.asarray(image, dtype=np.float32)


def _ghost(rng: np.random.Generator, image: Array) -> Array:
    """Add copies displaced along the phase-encoding axis by a fraction of the field of view."""
    axis = int(rng.integers(1, 3))
    step = image.shape[axis] // int(rng.integers(2, 5))
    weight = float(rng.uniform(0.04, 0.15))
    return np.asarray(image + weight * (np.roll(image, step, axis) + np.roll(image, -step, axis)), dtype=np.float32)


def _motion(rng: np.random.Generator, image: Array) -> Array:
    """Shift the head between blocks of phase-encoding lines (translations of up to 3 pixels)."""
    rows, columns = image.shape[1:]
    lines = np.fft.fft2(image, axes=(1, 2))
    shift = np.zeros((rows, 2))
    for start in np.sort(rng.integers(0, rows, int(rng.integers(2, 6)))):
        shift[start:] = rng.uniform(-3, 3, 2)
    # The centre of k-space, rows 0 and its neighbours here, stays: it holds where the head is.
    shift[: rows // 10] = shift[-rows // 10 :] = 0
    along, across = np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None, :]
    phase = np.exp(-2j * np.pi * (shift[:, :1] * along + shift[:, 1:] * across))
    return np.abs(np.fft.ifft2(lines * phase, axes=(1, 2))).astype(np.float32)
