"""Min-max scaling, the intensity rule of the published networks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def intensity_range(image: NDArray[np.float32]) -> Tensor:
    """Return the smallest and largest value of each channel, ``(2, C)``, of ``(C, I, J, K)``.

    A study's values are clipped far out before (see ``study.normalize``), so that one hot voxel
    does not decide the range.
    """
    flat = image.reshape(len(image), -1)
    return torch.from_numpy(np.stack([flat.min(axis=1), flat.max(axis=1)]))


def to_unit_range(image: Tensor, limits: Tensor) -> Tensor:
    """Map a ``(C, ...)`` image to 0 to 1 by its limits; a channel without contrast becomes 0."""
    low, high = (limit.to(image).reshape(-1, *([1] * (image.ndim - 1))) for limit in limits)
    width = high - low
    return torch.where(width > 0, (image - low) / torch.where(width > 0, width, 1), 0)
