"""Scores of one mask against its reference."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from numpy.typing import NDArray

from clickseg.boxes import Slices, bounding_box, grown
from clickseg.geometry import Grid
from clickseg.metrics import dice, iou, max_axial_diameter_mm

Mask = NDArray[np.uint8]

TOLERANCE_MM = 1.0
"""Surfaces this near to each other agree."""


@dataclass(frozen=True)
class Scores:
    """How a mask agrees with its reference; errors are mask minus reference.

    ``precision``, ``recall``, ``hd95_mm`` and ``volume_error_share`` are None where a mask is empty
    and they have no meaning. ``dice``, ``iou`` and ``surface_dice`` are 1 where both masks are
    empty, 0 where one is.
    """

    dice: float
    iou: float
    precision: float | None
    recall: float | None
    hd95_mm: float | None
    surface_dice: float
    volume_error_ml: float
    volume_error_share: float | None
    diameter_error_mm: float


def score(pred: Mask, label: Mask, grid: Grid) -> Scores:
    """Score a mask.

    Args:
        pred: canonical 0/1 ``(I, J, K)``.
        label: the reference, same shape.
        grid: canonical grid of both.
    """
    both = int(np.count_nonzero((pred != 0) & (label != 0)))
    found, wanted = int(np.count_nonzero(pred)), int(np.count_nonzero(label))
    hd95_mm, surface = None, float(not found and not wanted)
    if found and wanted:
        hd95_mm, surface = _surfaces(pred, label, grid)
    diameters = [max_axial_diameter_mm(mask, grid.affine) for mask in (pred, label)]
    return Scores(
        dice=dice(pred, label),
        iou=iou(pred, label),
        precision=both / found if found else None,
        recall=both / wanted if wanted else None,
        hd95_mm=hd95_mm,
        surface_dice=surface,
        volume_error_ml=(found - wanted) * grid.voxel_ml,
        volume_error_share=(found - wanted) / wanted if wanted else None,
        diameter_error_mm=diameters[0] - diameters[1],
    )


def _surfaces(pred: Mask, label: Mask, grid: Grid) -> tuple[float, float]:
    """Return HD95 in mm and surface Dice, by area, of two masks that are not empty."""
    box = _around(pred, label)
    a, b = (torch.from_numpy(np.ascontiguousarray(mask[box]))[None, None] for mask in (pred, label))
    spacing = tuple(grid.spacing_mm.tolist())
    with warnings.catch_warnings():
        # MONAI 1.6 warns of how one of its own functions calls another.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        hd95 = compute_hausdorff_distance(
            a, b, include_background=True, percentile=95, spacing=spacing
        )
        surface = compute_surface_dice(
            a, b, [TOLERANCE_MM], include_background=True, spacing=spacing, use_subvoxels=True
        )
    return float(hd95), float(surface)


def _around(pred: Mask, label: Mask) -> Slices:
    """Return the box of both masks with one voxel more, where the image has one."""
    box = bounding_box((pred != 0) | (label != 0))
    assert box is not None
    i, j, k = grown(box, 1, pred.shape)
    return i, j, k
