"""How large an outline is, and how well voxels alone can tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clickseg.boxes import bounding_box
from clickseg.geometry import Grid
from clickseg.metrics import max_axial_diameter_mm, volume_ml


@dataclass(frozen=True)
class Measurement:
    """Volume and largest axial diameter of one outline, each with the error that voxels make.

    The errors are what half a voxel does if the whole outline lies that much farther out or in.
    They know nothing of readers and scanners.
    """

    volume_ml: float
    diameter_mm: float
    volume_error_ml: float
    diameter_error_mm: float


def measure(mask: NDArray[Any], grid: Grid) -> Measurement:
    """Measure a mask ``(I, J, K)`` on its canonical grid; all is 0 where it is empty."""
    diameter_mm = max_axial_diameter_mm(mask, grid.affine)
    # Half a voxel at either end of the diameter; the larger of both directions in the plane.
    error_mm = float(grid.spacing_mm[:2].max()) if diameter_mm else 0.0
    return Measurement(
        volume_ml(mask, grid.affine), diameter_mm, half_layer_ml(mask, grid.voxel_ml), error_mm
    )


def half_layer_ml(mask: NDArray[Any], voxel_ml: float) -> float:
    """Return the volume of half a layer of voxels at the surface of a mask; 0 where it is empty.

    A layer is the mean of the outermost voxels of the mask and of those that touch it from
    outside, each by a face. What lies beyond the image counts as outside.
    """
    box = bounding_box(mask)
    if box is None:
        return 0.0
    part = np.pad(mask[box] != 0, 1)
    outer = np.count_nonzero(ndimage.binary_dilation(part)) - np.count_nonzero(part)
    inner = np.count_nonzero(part) - np.count_nonzero(ndimage.binary_erosion(part))
    return (outer + inner) / 2 / 2 * voxel_ml
