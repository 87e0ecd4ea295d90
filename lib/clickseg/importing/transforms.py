"""Where a point of the T1 image lies in the T2 image: read, found, and checked.

A registration here is a 4x4 matrix ``t2_from_t1_ras`` that maps RAS mm of the T1 image to RAS mm of
the T2 image. The published files have names that say the opposite of what ITK does with them:
``inv_T2_LPS_to_T1_LPS.tfm`` maps points of T1 to points of T2, which is what ITK's resampling of
T2 onto the grid of T1 asks for. The outlines that were drawn in both images say so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813  # its documented name
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from clickseg.geometry import LPS_FROM_RAS
from clickseg.outlines import Points

Matrix = NDArray[np.float64]

T2_FROM_T1 = "inv_T2_LPS_to_T1_LPS"
"""The file that maps points of T1 to points of T2."""

T1_FROM_T2 = "inv_T1_LPS_to_T2_LPS"
"""Its inverse."""

SAME_OUTLINE_MM = 0.2
"""Outlines drawn in one image and copied to the other agree to much less than this."""

RIGID = 1e-3
"""How much lengths may change, as a share: images of one head."""


class TransformError(ValueError):
    """A registration cannot be used; the text says what was wanted and what came."""


def read_transform(text: str, name: str) -> Matrix:
    """Read an ITK transform file and return its matrix, in RAS mm.

    Args:
        text: the content of the file.
        name: how the file is called, for the error.

    Raises:
        TransformError: if it is no ITK transform, none that is linear, or not rigid.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "transform.tfm"  # ITK reads files only, and by their ending
        path.write_text(text, encoding="utf-8")
        try:
            transform = sitk.ReadTransform(str(path))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].rpartition("): ")[2]  # without addresses
            raise TransformError(f"{name} is no ITK transform: {reason}") from error
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise TransformError(f"{name} is {transform.GetName()}, a linear one in 3D was wanted")
    lps = np.eye(4)
    lps[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    for axis, unit in enumerate(np.eye(3)):
        lps[:3, axis] = transform.TransformPoint(unit.tolist()) - lps[:3, 3]
    if np.abs(lps[:3, :3].T @ lps[:3, :3] - np.eye(3)).max() > RIGID or np.linalg.det(lps) < 0:
        raise TransformError(f"{name} is not rigid: {lps[:3, :3].round(4).tolist()}")
    return np.asarray(LPS_FROM_RAS @ lps @ LPS_FROM_RAS)


def apply(matrix: Matrix, points: Points) -> Points:
    """Map points ``(N, 3)`` by a 4x4 matrix."""
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def from_outlines(in_t1: Sequence[Points], in_t2: Sequence[Points]) -> Matrix | None:
    """Return the rigid registration by outlines that were copied from one image to the other.

    Args:
        in_t1: outlines ``(N, 3)`` in RAS mm of the T1 image.
        in_t2: the same points in RAS mm of the T2 image.

    Returns:
        ``t2_from_t1_ras``, or None where they are not the same points.
    """
    if not in_t1 or [len(p) for p in in_t1] != [len(p) for p in in_t2]:
        return None
    first, second = np.concatenate(in_t1), np.concatenate(in_t2)
    turn, _ = Rotation.align_vectors(second - second.mean(0), first - first.mean(0))
    matrix = np.eye(4)
    matrix[:3, :3] = turn.as_matrix()
    matrix[:3, 3] = second.mean(0) - matrix[:3, :3] @ first.mean(0)
    return matrix if disagreement_mm(matrix, in_t1, in_t2) < SAME_OUTLINE_MM else None


def disagreement_mm(matrix: Matrix, in_t1: Sequence[Points], in_t2: Sequence[Points]) -> float:
    """Return how far the middle of the outlines of T2 lies from where a registration puts it.

    Where both have the same points, it is the largest distance of any two of them instead.
    """
    first, second = apply(matrix, np.concatenate(in_t1)), np.concatenate(in_t2)
    if len(first) == len(second):
        return float(np.linalg.norm(first - second, axis=1).max())
    return float(np.linalg.norm(first.mean(0) - second.mean(0)))


def motion_of(matrix: Matrix, center_ras: NDArray[np.float64]) -> tuple[float, float]:
    """Return how far a point moves in mm, and by how many degrees all turns."""
    angle = Rotation.from_matrix(matrix[:3, :3]).magnitude()
    shift_mm = np.linalg.norm(apply(matrix, center_ras[None]) - center_ras)
    return float(shift_mm), float(np.degrees(angle))


def rigid(matrix: Matrix) -> Matrix:
    """Return the closest rotation and shift: an affine of an image keeps its right angles so."""
    out = np.array(matrix, dtype=float)
    out[:3, :3] = Rotation.from_matrix(matrix[:3, :3]).as_matrix()
    return out
