"""Draw clicks into the grid of a box, as balls in mm."""

from __future__ import annotations

from functools import lru_cache

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
    points, spacing = np.asarray(points_vox, dtype=float).reshape(-1, 3), np.array(spacing_mm)
    nearest = np.rint(points).astype(int)
    offsets = _around(spacing_mm, radius_mm)
    voxels = nearest[:, None] + offsets  # (N, M, 3)
    squared_mm = (((voxels - points[:, None]) * spacing) ** 2).sum(axis=-1)
    drawn = (squared_mm <= radius_mm**2) | (offsets == 0).all(axis=-1)
    drawn &= ((voxels >= 0) & (voxels < size)).all(axis=-1)
    channel = np.where(np.asarray(is_foreground, dtype=bool), 0, 1)[:, None]
    maps[(np.broadcast_to(channel, drawn.shape)[drawn], *voxels[drawn].T)] = 1
    return maps


@lru_cache(maxsize=8)  # a drag has a radius of its own
def _around(spacing_mm: tuple[float, float, float], radius_mm: float) -> NDArray[np.int64]:
    """Return steps ``(M, 3)`` from the voxel nearest to a click to all that its ball may hold."""
    reach = (int(np.ceil(radius_mm / spacing + 0.5)) for spacing in spacing_mm)
    steps = np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij")
    return np.asarray(np.stack(steps, axis=-1).reshape(-1, 3))
