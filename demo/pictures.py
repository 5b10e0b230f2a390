"""Pictures of a result: the source slice, model's outline against the truth, and the uncertainty."""

from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import matplotlib as mpl
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

mpl.use("Agg")
import matplotlib.pyplot as plt

PET_WINDOW = (0.0, 8.0)


def outline(seg: Path | None, truth: sitk.Image) -> NDArray[np.bool_]:
    """Return the SEG's voxels on the truth's grid, read from the object alone."""
    found = np.zeros(truth.GetSize()[::-1], dtype=bool)
    if seg is None:
        return found
    volume = hd.seg.segread(seg).get_volume(combine_segments=True)
    indices = np.argwhere(volume.array > 0)
    points = (volume.affine @ np.concatenate((indices, np.ones((len(indices), 1))), axis=1).T).T[:, :3]
    for point in points:
        found[truth.TransformPhysicalPointToIndex(point.tolist())[::-1]] = True
    return found


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return the overlap; 1 where both are empty."""
    total = int(found.sum() + truth.sum())
    return 1.0 if total == 0 else float(2 * (found & truth).sum() / total)


def series(paths: Sequence[Path]) -> NDArray[np.float32]:
    """Return the voxels of a series, slices along row x column."""
    reader = sitk.ImageSeriesReader()
    names = reader.GetGDCMSeriesFileNames(str(paths[0].parent))
    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(names)), dtype=np.float32)


def draw(path: Path, image: NDArray[np.float32], masks: tuple[NDArray[np.bool_], ...], title: str) -> None:
    """Draw source, outline against truth, and entropy of the key slice; `masks` is (found, truth, entropy)."""
    found, truth, entropy = masks
    weight = (found | truth).sum(axis=(1, 2))
    at = int(weight.argmax()) if weight.any() else image.shape[0] // 2
    low, high = np.percentile(image[at], (1, 99.7))
    figure, axes = plt.subplots(1, 3, figsize=(15, 5.4), layout="constrained")
    for axis in axes:
        axis.imshow(image[at], cmap="gray", vmin=low, vmax=high)
        axis.set_axis_off()
    axes[0].set_title(f"source, slice {at + 1}")
    if truth[at].any():
        axes[1].contour(truth[at], [0.5], colors="#00b3ff", linewidths=1.5, linestyles="dashed")
    if found[at].any():
        axes[1].contour(found[at], [0.5], colors="#ff4040", linewidths=1.5)
    axes[1].set_title("outline from the PACS (red), truth (blue, dashed)")
    shown = axes[2].imshow(np.ma.masked_less(entropy[at], 0.02), cmap="inferno", vmin=0, vmax=np.log(2), alpha=0.85)
    axes[2].set_title("predictive entropy (nats)")
    figure.colorbar(shown, ax=axes[2], fraction=0.046)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)
