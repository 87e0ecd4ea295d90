"""How T1 and T2 of a study lie to each other: as published, else by what else tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clickseg.geometry import ijk_to_ras
from clickseg.importing.contours import Plan
from clickseg.importing.documents import Document
from clickseg.importing.source import ImportingError
from clickseg.importing.transforms import (
    T1_FROM_T2,
    T2_FROM_T1,
    Matrix,
    TransformError,
    apply,
    disagreement_mm,
    from_outlines,
    motion_of,
    read_transform,
)
from clickseg.outlines import Points
from clickseg.registration import register
from clickseg.volume import Volume

AGREE_MM = 1.0
"""Outlines that lie farther apart than this after the registration are told: most of a voxel."""

INVERSE_MM = 0.05
"""A registration and the inverse that it was published with agree to much less than this."""

FAR_MM, FAR_DEG = 30.0, 15.0
"""Larger motions between two series of one visit are told."""


@dataclass(frozen=True, eq=False)
class Registered:
    """``t2_from_t1_ras`` maps RAS mm of the T1ce to RAS mm of the T2; ``by`` says what tells so.

    ``shift_mm`` is how far the center of the T1ce moves. ``apart_mm`` is how far the same outlines
    lie apart in both; None where they are drawn in one only.
    """

    t2_from_t1_ras: Matrix
    by: str
    shift_mm: float
    rotation_deg: float
    apart_mm: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return it for the provenance."""
        return {
            "by": self.by,
            "shift_mm": round(self.shift_mm, 3),
            "rotation_deg": round(self.rotation_deg, 3),
            "outlines_apart_mm": None if self.apart_mm is None else round(self.apart_mm, 3),
            "t2_from_t1_ras": self.t2_from_t1_ras.round(9).tolist(),
        }


def register_pair(
    transforms: Mapping[str, Document],
    plans: Mapping[str, Plan],
    t1ce: Volume,
    t2: Volume,
    is_one_frame: bool,
    warnings: list[str],
) -> Registered:
    """Return how T1ce and T2 lie to each other.

    What was published counts. Where it is missing, outlines that were copied from one image to the
    other tell it exactly; then one frame of reference, in which both lie as they are; then the
    images themselves.

    Args:
        transforms: the published registrations by what they are called.
        plans: the outlines in the T1ce (``t1``) and the T2 (``t2``), where there are any.
        t1ce: the image.
        t2: the image.
        is_one_frame: whether both have the same frame of reference.
        warnings: doubts are added to it.
    """
    in_t1, in_t2 = _common(plans)
    matrix, by = _published(transforms, warnings), "published transform"
    if matrix is None:
        matrix, by = from_outlines(in_t1, in_t2), "outlines drawn in both"
    if matrix is None and is_one_frame:
        matrix, by = np.eye(4), "frame of reference"
    if matrix is None:
        matrix, by = _by_voxels(t1ce, t2, warnings)
    apart_mm = disagreement_mm(matrix, in_t1, in_t2) if in_t1 and in_t2 else None
    if apart_mm is not None and apart_mm > AGREE_MM:
        warnings.append(f"the outlines in T1ce and T2 lie {apart_mm:.1f} mm apart once registered")
    shift_mm, rotation_deg = motion_of(matrix, _center_ras(t1ce))
    if shift_mm > FAR_MM or rotation_deg > FAR_DEG:
        warnings.append(f"T2 is registered by {shift_mm:.0f} mm and {rotation_deg:.0f} degrees")
    return Registered(matrix, by, shift_mm, rotation_deg, apart_mm)


def _center_ras(volume: Volume) -> Points:
    return np.asarray(ijk_to_ras((np.array(volume.grid.shape) - 1) / 2, volume.grid.affine)[0])


def _published(transforms: Mapping[str, Document], warnings: list[str]) -> Matrix | None:
    """Return the published registration, or the inverse of its inverse, or None."""
    found: dict[str, Matrix] = {}
    for name, document in transforms.items():
        try:
            matrix = read_transform(document.text(), document.name)
        except (TransformError, ImportingError) as error:
            warnings.append(str(error))
            continue
        found[name] = matrix if name == T2_FROM_T1 else np.linalg.inv(matrix)
    if len(found) == 2:
        # Compared where the head is: a small turn moves its ends most.
        ends = np.array([[100.0, 100, 100], [-100, -100, -100]])
        apart_mm = disagreement_mm(found[T2_FROM_T1], [ends], [apply(found[T1_FROM_T2], ends)])
        if apart_mm > INVERSE_MM:
            warnings.append(f"the two published transforms differ by {apart_mm:.2f} mm")
    return found.get(T2_FROM_T1, found.get(T1_FROM_T2))


def _by_voxels(t1ce: Volume, t2: Volume, warnings: list[str]) -> tuple[Matrix, str]:
    """Register by mutual information; where no place is better, the headers count."""
    # Headers of two frames of reference say nothing of each other: begin elsewhere, too.
    found = register(moving=t2, fixed=t1ce, frames_differ=True)
    if not found.accepted:
        warnings.append("no transform of T2 was published, and its voxels tell none: as stored")
        return np.eye(4), "headers"
    warnings.append("no transform of T2 was published: it is registered by its voxels")
    return np.linalg.inv(found.matrix), "mutual information"


def _common(plans: Mapping[str, Plan]) -> tuple[Sequence[Points], Sequence[Points]]:
    """Return the outlines of the structures that are in both plans, in the same order."""
    if not {"t1", "t2"} <= set(plans):
        return (), ()
    second = {structure.name: structure.outlines_ras for structure in plans["t2"].structures}
    names = [structure.name for structure in plans["t1"].structures]
    both = [s for s in plans["t1"].structures if s.name in second and names.count(s.name) == 1]
    return (
        [points for structure in both for points in structure.outlines_ras],
        [points for structure in both for points in second[structure.name]],
    )
