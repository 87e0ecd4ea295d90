"""Outlines of a plan with their names: from the published JSON, or from a DICOM RTSTRUCT."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from clickseg.importing.structures import Kind, load_rules, tumor_among
from clickseg.outlines import Points

AS_RAS = np.array([-1.0, -1.0, 1.0])


class ContourError(ValueError):
    """Outlines cannot be used; the text says what was wanted and what came."""


@dataclass(frozen=True, eq=False)
class Structure:
    """A named structure: closed outlines ``(N, 3)`` in RAS mm, at least one."""

    name: str
    outlines_ras: tuple[Points, ...]

    @property
    def kind(self) -> Kind:
        """What the name stands for."""
        return load_rules().kind_of(self.name)


@dataclass(frozen=True, eq=False)
class Plan:
    """The structures that were drawn on one series, in their order.

    ``origin`` says where they were read. ``frame_uid`` is empty where it is not told.
    """

    origin: str
    series_uid: str
    frame_uid: str
    structures: tuple[Structure, ...]

    def tumor(self) -> tuple[Structure, str]:
        """Return the tumor, and a warning or nothing.

        Raises:
            ContourError: if there is none.
        """
        try:
            number, warning = tumor_among([structure.name for structure in self.structures])
        except ValueError as error:
            raise ContourError(f"{self.origin}: {error}") from error
        return self.structures[number], warning


def read_contours(text: str, origin: str) -> Plan:
    """Read the published JSON: a list of structures with ``LPS_contour_points``.

    Raises:
        ContourError: if it is something else, or its structures lie on several series.
    """
    try:
        rows = json.loads(text)
        structures = [
            Structure(
                str(row["structure_name"]).strip(),
                tuple(_outline(points) for points in row["LPS_contour_points"] if points),
            )
            for row in rows
        ]
        series = {str(row["MR_SeriesInstanceUID"]) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise ContourError(
            f"{origin}: a list of structures with structure_name, MR_SeriesInstanceUID and "
            f"LPS_contour_points was wanted; it fails at {error}"
        ) from error
    if len(series) != 1:
        raise ContourError(f"{origin}: structures on one series were wanted, got {len(series)}")
    return Plan(origin, series.pop(), "", _drawn(structures))


def read_rtstruct(dataset: Dataset, origin: str) -> Plan:
    """Read the outlines of an RTSTRUCT, in the order of its structures.

    Raises:
        ContourError: if it is none, or does not say on which series it was drawn.
    """
    try:
        contours = {int(item.ReferencedROINumber): item for item in dataset.ROIContourSequence}
        frame = dataset.ReferencedFrameOfReferenceSequence[0]
        series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].SeriesInstanceUID
        structures = [
            Structure(str(roi.ROIName).strip(), _outlines_of(contours.get(int(roi.ROINumber))))
            for roi in dataset.StructureSetROISequence
        ]
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ContourError(f"{origin} is no RTSTRUCT that can be read: {error}") from error
    frame_uid = str(getattr(frame, "FrameOfReferenceUID", ""))
    return Plan(origin, str(series), frame_uid, _drawn(structures))


def _outlines_of(item: Dataset | None) -> tuple[Points, ...]:
    """Return the outlines of a structure; points and open lines enclose nothing."""
    sequence: Any = getattr(item, "ContourSequence", None) or ()
    return tuple(
        _outline(np.reshape([float(value) for value in contour.ContourData], (-1, 3)))
        for contour in sequence
        if contour.ContourGeometricType == "CLOSED_PLANAR" and len(contour.ContourData) >= 9
    )


def _outline(points: Any) -> Points:
    array = np.asarray(points, dtype=float)
    if array.ndim != 2 or array.shape[1] != 3 or not np.isfinite(array).all():
        raise ValueError(f"an outline of LPS points (N, 3) was wanted, got shape {array.shape}")
    return np.asarray(array * AS_RAS)


def _drawn(structures: list[Structure]) -> tuple[Structure, ...]:
    """Leave out outlines of one or two points, repeated ones, and structures that nobody drew."""
    kept = []
    for structure in structures:
        # An outline that is there twice would be a hole in itself.
        once = {points.tobytes(): points for points in structure.outlines_ras if len(points) > 2}
        if once:
            kept.append(Structure(structure.name, tuple(once.values())))
    return tuple(kept)
