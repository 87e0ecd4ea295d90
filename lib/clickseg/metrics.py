"""Measures of masks and of their agreement; numpy and scipy only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from clickseg.boxes import bounding_box
from clickseg.geometry import voxel_ml

HARM = 0.005
"""A click after which Dice falls by more than this did harm."""

DIRECTIONS = 16
"""In which the width of a plane is measured before its diameter: a width within 0.5 % of it."""


def dice(pred: NDArray[Any], label: NDArray[Any]) -> float:
    """Return the Dice coefficient of two masks of one shape; 1 where both are empty."""
    both, total = _overlap(pred, label)
    return 2 * both / total if total else 1.0


def iou(pred: NDArray[Any], label: NDArray[Any]) -> float:
    """Return intersection over union of two masks of one shape; 1 where both are empty."""
    both, total = _overlap(pred, label)
    return both / (total - both) if total else 1.0


def worst_decile(scores: ArrayLike) -> NDArray[np.float64]:
    """Return the lowest tenth along the first axis, at least one, lowest first."""
    ordered = np.sort(np.asarray(scores, dtype=float), axis=0)
    return np.asarray(ordered[: max(1, math.ceil(len(ordered) / 10))])


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
    first, stop = part.argmax(axis=1), part.shape[1] - part[:, ::-1].argmax(axis=1)
    # The diameter is at least the width in any direction, and hardly more than in the best of
    # some: most planes of a tumor need no closer look.
    angles = np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    along_mm = np.stack([np.cos(angles), np.sin(angles)], axis=-1) @ plane_mm
    widths = _widths(filled, first, stop, along_mm).max(axis=0)
    longest = 0.0
    for k in np.flatnonzero(widths >= widths.max() * np.cos(np.pi / (2 * DIRECTIONS)) - 1e-6):
        i = np.flatnonzero(filled[:, k])
        edges = first[i, k], stop[i, k]
        # The hull of outer corners is that of all pixels.
        corners = np.concatenate([np.column_stack([x, e]) for x in (i, i + 1) for e in edges])
        hull = corners[ConvexHull(corners).vertices]
        longest = max(longest, float(pdist(hull @ plane_mm.T).max()))
    return longest


def _widths(
    filled: NDArray[np.bool_],
    first: NDArray[np.int64],
    stop: NDArray[np.int64],
    along_mm: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return how wide each plane is along some directions, ``(D, K)``; 0 where nothing is filled.

    Args:
        filled: rows of pixels ``(I, K)`` that hold any.
        first: the first pixel of each row.
        stop: the one after its last.
        along_mm: how far a step along I and along J goes in each direction, ``(D, 2)``.
    """
    i_mm, j_mm = (column[:, None, None] for column in along_mm.T)
    row = np.arange(len(filled))[:, None]
    far = np.maximum(i_mm * row, i_mm * (row + 1)) + np.maximum(j_mm * first, j_mm * stop)
    near = np.minimum(i_mm * row, i_mm * (row + 1)) + np.minimum(j_mm * first, j_mm * stop)
    most = np.where(filled, far, -np.inf).max(axis=1)
    least = np.where(filled, near, np.inf).min(axis=1)
    return np.asarray(np.where(filled.any(axis=0), most - least, 0.0))


def _overlap(pred: NDArray[Any], label: NDArray[Any]) -> tuple[int, int]:
    """Return the sizes of the intersection and of both masks together."""
    if pred.shape != label.shape:
        raise ValueError(f"masks of one shape were wanted, got {pred.shape} and {label.shape}")
    a, b = pred != 0, label != 0
    return int(np.count_nonzero(a & b)), int(np.count_nonzero(a)) + int(np.count_nonzero(b))
