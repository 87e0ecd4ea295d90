"""Bring an image onto the grid of another."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk  # noqa: N813  # its documented name
from numpy.typing import NDArray

from clickseg.geometry import Grid, ijk_to_ras, ras_to_ijk
from clickseg.volume import Volume, as_image, set_geometry


def resample(volume: Volume, grid: Grid) -> tuple[NDArray[np.float32], float]:
    """Bring an image onto another grid by physical coordinates, linearly; 0 outside of it.

    Returns:
        The image on ``grid``, and how much both overlap: the share of the smaller that lies in the
        other, so that a thin slab within a whole head overlaps fully.
    """
    if volume.grid == grid:
        return volume.array.astype(np.float32, copy=False), 1.0
    source = Volume(volume.array.astype(np.float32, copy=False), volume.grid)
    moved = sitk.Resample(as_image(source), _grid_as_image(grid), sitk.Transform(), sitk.sitkLinear)
    overlap = max(_share_inside(volume.grid, grid), _share_inside(grid, volume.grid))
    return sitk.GetArrayFromImage(moved).transpose(), overlap


def _share_inside(grid: Grid, other: Grid) -> float:
    """Return the share of the voxels of a grid, a sample of them, that lie in another."""
    axes = [np.arange(0, n, max(1, n // 32)) for n in grid.shape]
    ijk = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    there_ijk = ras_to_ijk(ijk_to_ras(ijk, grid.affine), other.affine)
    inside = (there_ijk > -0.5) & (there_ijk < np.array(other.shape) - 0.5)
    return float(inside.all(axis=1).mean())


def _grid_as_image(grid: Grid) -> sitk.Image:
    image = sitk.Image(list(grid.shape), sitk.sitkUInt8)
    set_geometry(image, grid)
    return image
