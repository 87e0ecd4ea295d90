"""Measures of masks and of their agreement; numpy and scipy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from clickseg.boxes import bounding_box
from clickseg.geometry import voxel_ml

HARM = 0.005
"""A click after which Dice falls by more than this did harm."""


def dice(pred: NDArray[Any], label: NDArray[Any]) -> float:
    """Return the Dice coefficient of two masks of one shape; 1 where both are empty."""
    both, total = _overlap(pred, label)
    return 2 * both / total if total else 1.0


def iou(pred: NDArray[Any], label: NDArray[Any]) -> float:
    """Return intersection over union of two masks of one shape; 1 where both are empty."""
    both, total = _overlap(pred, label)
    return both / (total - both) if total else 1.0


def volume_ml(mask: NDArray[Any], affine: ArrayLike) -> float:
    """Return the volume of a mask in ml; 0 where it is empty."""
    return int(np.count_nonzero(mask)) * voxel_ml(affine)


def max_axial_diameter_mm(mask: NDArray[Any], affine: ArrayLike) -> float:
    """Return the largest distance between two points of a mask in one axial plane; 0 if empty.

    Measured between outer corners of voxels, so one voxel of 3x4 mm has a diameter of 5 mm.

    Args:
        mask: canonical ``(I, J, K)``: axial planes are those of constant K.
        affine: of the canonical grid; oblique and sheared ones are measured along their plane.
    """
    box = bounding_box(mask)
    if box is None:
        return 0.0
    matrix = np.asarray(affine, dtype=float)
    plane_mm = np.linalg.qr(matrix[:3, :2])[1]  # coordinates of I and J steps within the plane
    part = mask[box] != 0
    filled = part.any(axis=1)  # (I, K): does a row of pixels hold any
    first = part.argmax(axis=1)
    stop = part.shape[1] - part[:, ::-1].argmax(axis=1)
    planes = []
    for k in np.flatnonzero(filled.any(axis=0)):
        rows = np.flatnonzero(filled[:, k])
        edges = first[rows, k], stop[rows, k]
        i, j = rows[-1] + 1 - rows[0], edges[1].max() - edges[0].min()
        # No two points of a plane are farther apart than the corners of their bounding box: most
        # planes of a tumor need no closer look.
        diagonals = (np.linalg.norm(plane_mm @ [i, side]) for side in (j, -j))
        planes.append((float(max(diagonals)), rows, edges))
    longest = 0.0
    for bound, rows, edges in sorted(planes, key=lambda plane: -plane[0]):
        if bound <= longest:
            break
        # The hull of outer corners is that of all pixels.
        corners = np.concatenate([np.column_stack([r, e]) for r in (rows, rows + 1) for e in edges])
        hull = corners[ConvexHull(corners).vertices]
        longest = max(longest, float(pdist(hull @ plane_mm.T).max()))
    return longest


def _overlap(pred: NDArray[Any], label: NDArray[Any]) -> tuple[int, int]:
    """Return the sizes of the intersection and of both masks together."""
    if pred.shape != label.shape:
        raise ValueError(f"masks of one shape were wanted, got {pred.shape} and {label.shape}")
    a, b = pred != 0, label != 0
    return int(np.count_nonzero(a & b)), int(np.count_nonzero(a)) + int(np.count_nonzero(b))
