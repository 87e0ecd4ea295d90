"""Losses: logits ``(B, 1, ...)`` and a 0/1 label of the same shape in, a scalar out.

MONAI's are used where they do the job. Weights are named for what they weigh, since papers
disagree on what alpha and beta stand for.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.losses import DiceCELoss, DiceLoss, TverskyLoss
from torch import Tensor, nn

__all__ = [
    "LOSSES",
    "CorrectionLoss",
    "DepthCorrectionLoss",
    "FocalTverskyLoss",
    "WeightedBCELoss",
    "build_loss",
    "center_weights",
]


class WeightedBCELoss(nn.Module):
    """Binary cross-entropy in which a voxel of tumor counts ``foreground_weight`` times.

    Tumor fills about 0.006 of a volume; 50 gives it a quarter of the weight.
    """

    def __init__(self, foreground_weight: float = 50.0) -> None:
        super().__init__()
        self.foreground_weight = foreground_weight

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the mean over voxels."""
        _check_shapes(logits, label)
        weight = logits.new_tensor(self.foreground_weight)
        return nn.functional.binary_cross_entropy_with_logits(
            logits, label.to(logits.dtype), pos_weight=weight
        )


class FocalTverskyLoss(nn.Module):
    """``(1 - Tversky index) ^ exponent`` of the tumor (Abraham and Khan 2019, arXiv:1810.07842).

    There is one class, so the sum over classes has one term. The paper writes the exponent as
    1 / gamma, with gamma = 4 / 3.

    Args:
        fn_weight: of missed tumor in the index; the rest of 1 goes to spurious tumor.
        exponent: below 1 stresses cases that are nearly right.
        eps: added to both sides of the index, and the floor under the power.
    """

    def __init__(self, fn_weight: float = 0.7, exponent: float = 0.75, eps: float = 1e-6) -> None:
        super().__init__()
        self.fn_weight, self.exponent, self.eps = fn_weight, exponent, eps

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the mean over the batch."""
        _check_shapes(logits, label)
        prob, label = logits.float().sigmoid().flatten(1), label.float().flatten(1)
        hit = (prob * label).sum(dim=1)
        missed, spurious = label.sum(dim=1) - hit, prob.sum(dim=1) - hit
        wrong = self.fn_weight * missed + (1 - self.fn_weight) * spurious
        # wrong / (hit + wrong) is 1 - index without the cancellation of a difference.
        ratio = wrong / (hit + wrong + self.eps)
        # A power below 1 is infinitely steep at 0: a perfect case would have NaN gradients.
        return ratio.clamp_min(self.eps).pow(self.exponent).mean()


class CorrectionLoss(nn.Module):
    """Soft Dice that counts most at the center of a cut, where the click is.

    ``1 - 2 sum(p y w) / sum((p + y) w)`` for each cut, with w from `center_weights`.
    """

    def __init__(self, sigma: float = 0.25, eps: float = 1e-5) -> None:
        super().__init__()
        self.sigma, self.eps = sigma, eps

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the mean over the batch of ``(B, 1, ...)`` cuts."""
        _check_shapes(logits, label)
        prob, label = logits.float().sigmoid(), label.float()
        weight = center_weights(tuple(logits.shape[2:]), self.sigma).to(prob)
        both = (prob * label * weight).flatten(1).sum(dim=1)
        each = ((prob + label) * weight).flatten(1).sum(dim=1)
        return (1 - (2 * both + self.eps) / (each + self.eps)).mean()


class DepthCorrectionLoss(nn.Module):
    """`CorrectionLoss` on the middle slice of 3D cuts plus ``all_weight`` times Dice on all.

    The middle of an even number of slices is the first of the upper half: slice 4 of 0 to 7.
    """

    def __init__(self, sigma: float = 0.25, all_weight: float = 0.75) -> None:
        super().__init__()
        self.middle, self.all_weight = CorrectionLoss(sigma), all_weight
        self.all = DiceLoss(sigmoid=True)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the mean over the batch of ``(B, 1, H, W, K)`` cuts."""
        _check_shapes(logits, label)
        k = logits.shape[-1] // 2
        middle: Tensor = self.middle(logits[..., k], label[..., k])
        whole: Tensor = self.all(logits.float(), label.float())
        return middle + self.all_weight * whole


def center_weights(shape: tuple[int, ...], sigma: float = 0.25) -> Tensor:
    """Return a Gaussian of ``shape`` that is largest at the click's voxel, ``size // 2``.

    The method only says that the weight is highest at the center. Sigma is a share of the size
    along each axis: 0.25 of 48 voxels is 12, which leaves 0.02 in the corners.
    """
    weight = torch.ones(())
    for size in shape:
        gaps = torch.arange(size) - size // 2
        along = torch.exp(-0.5 * (gaps / (sigma * size)) ** 2)
        weight = weight[..., None] * along
    return weight


def _dice() -> nn.Module:
    loss: nn.Module = DiceLoss(sigmoid=True)
    return loss


def _dice_bce(dice_weight: float = 1.0, bce_weight: float = 1.0) -> nn.Module:
    loss: nn.Module = DiceCELoss(sigmoid=True, lambda_dice=dice_weight, lambda_ce=bce_weight)
    return loss


def _tversky(fn_weight: float = 0.7) -> nn.Module:
    loss: nn.Module = TverskyLoss(sigmoid=True, alpha=1 - fn_weight, beta=fn_weight)
    return loss


LOSSES: dict[str, Callable[..., nn.Module]] = {
    "correction": CorrectionLoss,
    "correction_3d": DepthCorrectionLoss,
    "dice": _dice,
    "dice_bce": _dice_bce,
    "focal_tversky": FocalTverskyLoss,
    "tversky": _tversky,
    "weighted_bce": WeightedBCELoss,
}
"""Losses by name."""


def build_loss(name: str, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """Make a loss by its name and arguments, as they stand in a configuration.

    Raises:
        ValueError: if there is no such loss, or it takes no such argument.
    """
    if name not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(sorted(LOSSES))}, not {name!r}")
    taken = list(inspect.signature(LOSSES[name]).parameters)
    unknown = sorted(set(arguments or {}) - set(taken))
    if unknown:
        raise ValueError(f"{name} takes {', '.join(taken) or 'nothing'}, not {', '.join(unknown)}")
    return LOSSES[name](**(arguments or {}))


def _check_shapes(logits: Tensor, label: Tensor) -> None:
    if logits.shape != label.shape:
        raise ValueError(
            f"logits and label must have one shape, got {tuple(logits.shape)} and "
            f"{tuple(label.shape)}"
        )
