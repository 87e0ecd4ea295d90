"""Where the slices of a DICOM image lie, be they one a file or many in one.

DICOM counts millimeters in LPS; what leaves this module is RAS, as everywhere in the project.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from clickseg.geometry import LPS_FROM_RAS, Grid
from clickseg.volume import SHEAR, ImageError

GAP_TOLERANCE = 0.05
"""How far, in gaps between slices, one may lie from where even gaps put it."""

SAME_MM = 1e-3
"""Pixel sizes that differ by less are the same."""

MALFORMED = (ValueError, TypeError, AttributeError, KeyError, IndexError)
"""What a file raises that lacks what DICOM asks for, or says it otherwise."""

IN_ONE_FILE = "one slice a file was wanted, or all in one"
"""What is wanted of a series of which a SEG is to be made."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice: ``shape`` (I, J) counts its columns, then its rows.

    ``corner_ras``: center ``(3,)`` of the first pixel, mm. ``axes_ras``: unit vectors ``(3, 2)``
    in which I and J rise. ``spacing_mm``: ``(2,)`` along I and J. ``thickness_mm``: the distance
    to the next slice where the file tells it, else the thickness of this one.
    """

    corner_ras: NDArray[np.float64]
    axes_ras: NDArray[np.float64]
    spacing_mm: NDArray[np.float64]
    thickness_mm: float
    shape: tuple[int, int]

    @property
    def normal_ras(self) -> NDArray[np.float64]:
        """The direction ``(3,)`` in which DICOM orders slices."""
        # In RAS, which is LPS turned by 180 degrees, the cross product is the same direction.
        return np.cross(self.axes_ras[:, 0], self.axes_ras[:, 1])


def is_enhanced(dataset: Dataset) -> bool:
    """Tell whether a file describes its frames one by one, as enhanced images do."""
    return bool(dataset.get("PerFrameFunctionalGroupsSequence"))


def planes_of(dataset: Dataset) -> Iterator[Plane]:
    """Yield the planes of a file, in the order of its frames.

    Raises:
        ImageError: if the file does not say where its pixels lie.
    """
    count = int(dataset.get("NumberOfFrames") or 1)
    frames = dataset.get("PerFrameFunctionalGroupsSequence", [])
    if frames and len(frames) != count:
        raise ImageError(f"{count} frames were wanted, the file describes {len(frames)}")
    if not frames and count > 1:
        raise ImageError(f"a file holds {count} frames and does not say where they lie")
    shared = dataset.get("SharedFunctionalGroupsSequence", [])
    for frame in frames or [dataset]:
        yield _plane(dataset, [frame, *shared, dataset])


def stack(planes: Sequence[Plane]) -> tuple[list[int], Grid]:
    """Order slices along their normal, and return the grid that they make.

    Returns:
        The indices of ``planes`` in the order of K, and the grid.

    Raises:
        ImageError: if they are no stack: not all alike, uneven gaps, a slice twice or missing.
    """
    first = planes[0]
    if any(plane.shape != first.shape for plane in planes):
        raise ImageError(f"slices of one size were wanted, got {_distinct(planes)}")
    if any(np.abs(plane.spacing_mm - first.spacing_mm).max() > SAME_MM for plane in planes):
        raise ImageError("slices of one pixel spacing were wanted, this series has several")
    if any(np.abs(plane.axes_ras - first.axes_ras).max() > SHEAR for plane in planes):
        raise ImageError("slices of one orientation were wanted, this series has several")
    corners = np.array([plane.corner_ras for plane in planes])
    order = np.argsort(corners @ first.normal_ras, kind="stable")
    corners = corners[order]
    affine = np.eye(4)
    affine[:3, :2] = first.axes_ras * first.spacing_mm
    affine[:3, 2] = _step(corners, first)
    affine[:3, 3] = corners[0]
    try:
        return order.tolist(), Grid((*first.shape, len(planes)), affine)
    except ValueError as error:
        raise ImageError(str(error)) from error


def _step(corners: NDArray[np.float64], first: Plane) -> NDArray[np.float64]:
    """Return the way ``(3,)`` from slice to slice, in mm."""
    normal, count = first.normal_ras, len(corners)
    if count == 1:
        return normal * (first.thickness_mm or 1.0)
    gaps_mm = np.diff(corners @ normal)
    usual_mm = float(np.median(gaps_mm))
    if gaps_mm.min() < SAME_MM:
        twice = int((gaps_mm < SAME_MM).sum())
        raise ImageError(f"one slice a position was wanted, {twice} of {count} lie on another")
    step = np.asarray((corners[-1] - corners[0]) / (count - 1))
    even = corners[0] + np.arange(count)[:, None] * step
    if np.linalg.norm(corners - even, axis=1).max() > GAP_TOLERANCE * usual_mm:
        missing = int(np.rint(gaps_mm / usual_mm - 1).clip(0).sum())
        raise ImageError(
            f"even gaps between slices were wanted, got {gaps_mm.min():.3f} to {gaps_mm.max():.3f}"
            f" mm{f': {missing} of them are missing' if missing else ''}"
        )
    if np.linalg.norm(step / np.linalg.norm(step) - normal) > SHEAR:
        raise ImageError("slices that lie straight above each other were wanted, these are sheared")
    return step


def _plane(dataset: Dataset, groups: Sequence[Dataset]) -> Plane:
    position = _numbers(groups, "PlanePositionSequence", "ImagePositionPatient", 3)
    axes = _numbers(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    rows_mm, columns_mm = _numbers(groups, "PixelMeasuresSequence", "PixelSpacing", 2)
    axes_lps = axes.reshape(2, 3).T
    if np.abs(axes_lps.T @ axes_lps - np.eye(2)).max() > SHEAR:
        raise ImageError(f"a slice has axes that are not at right angles: {axes.tolist()}")
    if min(rows_mm, columns_mm) <= 0:
        raise ImageError(f"pixels of a positive size were wanted, got {rows_mm} x {columns_mm} mm")
    shape = int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0)
    if min(shape) < 1:
        raise ImageError("a file does not say how many pixels it has: Rows and Columns are wanted")
    return Plane(
        corner_ras=LPS_FROM_RAS[:3, :3] @ position,
        axes_ras=LPS_FROM_RAS[:3, :3] @ (axes_lps / np.linalg.norm(axes_lps, axis=0)),
        spacing_mm=np.array([columns_mm, rows_mm]),
        thickness_mm=_thickness_mm(groups),
        shape=shape,
    )


def _numbers(
    groups: Sequence[Dataset], sequence: str, name: str, count: int
) -> NDArray[np.float64]:
    """Return an attribute of the first group that has it, within its sequence or by itself."""
    for group in groups:
        holder = group[sequence][0] if group.get(sequence) else group
        values = holder.get(name)
        if values is not None and len(values) == count:
            numbers = np.array([float(value) for value in values])
            if np.isfinite(numbers).all():
                return numbers
    raise ImageError(f"a file does not say where its pixels lie: it has no usable {name}")


def _thickness_mm(groups: Sequence[Dataset]) -> float:
    measures = [
        group.PixelMeasuresSequence[0] for group in groups if "PixelMeasuresSequence" in group
    ]
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        for holder in (*measures, *groups):
            if holder.get(name):
                return abs(float(holder[name].value))
    return 0.0


def _distinct(planes: Sequence[Plane]) -> str:
    return ", ".join(f"{i} x {j}" for i, j in sorted({plane.shape for plane in planes}))
