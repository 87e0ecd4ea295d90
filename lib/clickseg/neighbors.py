"""How much neighboring voxels have to do with each other: by their looks, and by their faces."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def alike(
    image: NDArray[Any],
    axis: int,
    spacing_mm: NDArray[np.float64],
    weight: float,
    sigma: float,
) -> NDArray[Any]:
    """Return how much each voxel but the last along an axis has to do with the next one.

    Args:
        image: one sequence ``(i, j, k)``, of floats.
        axis: 0, 1 or 2; the result is shorter by one there.
        spacing_mm: voxel size; across a coarse axis neighbors count less, as their faces are
            smaller.
        weight: of neighbors that look the same, along the finest axis.
        sigma: the difference of two at which they count 0.6 of that.
    """
    counts: NDArray[Any] = np.square(np.diff(image, axis=axis))
    counts *= -0.5 / sigma**2
    np.exp(counts, out=counts)
    counts *= weight * spacing_mm.min() / spacing_mm[axis]
    return counts
