"""Losses, by libraries where these have them; a sample without a truth skips that loss."""

import warnings

import torch
from monai.losses import DiceLoss, TverskyLoss
from torch import Tensor
from torch.nn import functional
from torchsurv.loss.cox import neg_partial_log_likelihood


def dice_bce(logits: Tensor, mask: Tensor) -> Tensor:
    """Return soft Dice over the batch plus BCE for logits and mask (n, 1, H, W).

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

    Tumour cells are rare, so they weigh three times.
    """
    size = mask.shape[-1] // cam.shape[-1]
    target = functional.max_pool2d(mask, size)
    return functional.binary_cross_entropy_with_logits(cam, target, pos_weight=torch.tensor(3.0))


def cox(risk: Tensor, event: Tensor, time: Tensor) -> Tensor:
    """Return the negative Cox partial log likelihood per death, ties by Efron.

    `risk` (n,) log hazards, `event` (n,) 1 where the death was seen, `time` (n,) days. Without an event it is 0.
    """
    if not bool(event.any()):
        return risk.sum() * 0
    order = torch.argsort(time)
    with warnings.catch_warnings():
        # That ties are handled is what was asked for.
        warnings.filterwarnings("ignore", message="Ties in")
        loss: Tensor = neg_partial_log_likelihood(
            risk[order], event[order].bool(), time[order], ties_method="efron", reduction="sum"
        )
    return loss / event.sum()
