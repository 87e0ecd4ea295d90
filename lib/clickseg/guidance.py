"""Draw clicks into the grid of a box, as balls in mm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def draw_clicks(
    points_vox: NDArray[np.float64],
    is_foreground: NDArray[np.bool_],
    size: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    radius_mm: float,
) -> NDArray[np.float32]:
    """Return ``(2, *size)``: foreground then background balls, 1 inside, 0 elsewhere.

    The voxel nearest to a click is always drawn, so that none vanishes between thick slices.

    Args:
        points_vox: clicks ``(N, 3)`` in continuous voxels of the box; those outside draw what of
            their ball lies inside.
        is_foreground: which of them ``(N,)`` are foreground.
        size: voxels of the box.
        spacing_mm: voxel size of the box.
        radius_mm: radius of a ball.
    """
    maps = np.zeros((2, *size), dtype=np.float32)
    reach = radius_mm / np.array(spacing_mm) + 1  # one voxel more than the ball, for rounding
    for point, foreground in zip(points_vox, is_foreground, strict=True):
        first = np.clip(np.floor(point - reach), 0, size).astype(int)
        last = np.clip(np.ceil(point + reach), -1, np.array(size) - 1).astype(int)
        axes = [np.arange(a, b + 1) for a, b in zip(first, last, strict=True)]
        offsets = [(a - p) * s for a, p, s in zip(axes, point, spacing_mm, strict=True)]
        squared = offsets[0][:, None, None] ** 2 + offsets[1][:, None] ** 2 + offsets[2] ** 2
        channel = maps[0 if foreground else 1]
        box = tuple(slice(a, max(a, b + 1)) for a, b in zip(first, last, strict=True))
        channel[box][squared <= radius_mm**2] = 1
        nearest = np.rint(point).astype(int)
        if (nearest >= 0).all() and (nearest < np.array(size)).all():
            channel[tuple(nearest)] = 1
    return maps
