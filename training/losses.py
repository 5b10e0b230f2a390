"""Losses, by libraries where these have them; a sample without a truth skips that loss."""

import warnings

import torch
from monai.losses import DiceLoss, TverskyLoss
from torch import Tensor
from torch.nn import functional
from torchsurv.loss.cox import neg_partial_log_likelihood


def dice_bce(logits: Tensor, mask: Tensor) -> Tensor:
    """Return soft Dice over the batch plus BCE for logits and mask (n, 1, H, W) or (n, 1, D, H, W).

    The batch is one sum: a slice without tumour then adds no undefined term.
    """
    dice: Tensor = DiceLoss(sigmoid=True, batch=True)(logits, mask)
    return dice + functional.binary_cross_entropy_with_logits(logits, mask)


def focal_tversky(logits: Tensor, mask: Tensor, gamma: float = 0.75) -> Tensor:
    """Return (1 - Tversky index)^gamma with misses at .7 and false alarms at .3 (Abraham and Khan 2019)."""
    tversky: Tensor = TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7, batch=True)(logits, mask)
    return tversky.clamp_min(1e-6) ** gamma


def cells(cam: Tensor, mask: Tensor) -> Tensor:
    """Return BCE of the activation map (n, 1, h, w) against the mask (n, 1, H, W) reduced by maximum.

    Of volumes the map holds all slices in a row and the mask is (n, 1, D, H, W). Tumour cells are rare, so they weigh
    three times.
    """
    return cell_loss(cam, cell_truth(mask, mask.shape[-1] // cam.shape[-1]))


def cell_loss(cam: Tensor, target: Tensor) -> Tensor:
    """Return BCE of the activation map against a mask that is reduced to cells already, both (n, 1, h, w)."""
    return functional.binary_cross_entropy_with_logits(cam, target, pos_weight=cam.new_tensor(3.0))


def cell_truth(mask: Tensor, size: int) -> Tensor:
    """Return a mask (n, 1, H, W) or (n, 1, D, H, W) reduced by maximum to cells of `size`, as slices (n, 1, h, w)."""
    if mask.ndim == 4:
        return functional.max_pool2d(mask, size)
    return functional.max_pool3d(mask, size).transpose(1, 2).flatten(0, 1)


def cox(risk: Tensor, event: Tensor, time: Tensor) -> Tensor:
    """Return the negative Cox partial log likelihood per death, ties by Efron (1977).

    `risk` (n,) log hazards, `event` (n,) 1 where the death was seen, `time` (n,) days. Without an event, or of
    one subject alone, it is 0.
    """
    if len(risk) < 2 or not bool(event.any()):
        return risk.sum() * 0
    order = torch.argsort(time)
    with warnings.catch_warnings():
        # That ties are handled is what was asked for.
        warnings.filterwarnings("ignore", message="Ties in")
        loss: Tensor = neg_partial_log_likelihood(
            risk[order], event[order].bool(), time[order], ties_method="efron", reduction="sum"
        )
    return loss / event.sum()
