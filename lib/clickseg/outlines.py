"""Stacks of outlines that readers drew in parallel planes, and the signed distance to them.

An outline is a closed polygon ``(N, 3)`` in mm, in one plane of (almost) constant third coordinate:
its height. Several outlines may lie in a plane; they are joined by exclusive or, so that a hole
stays one. Signed distances are in mm and negative inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.draw import polygon2mask
from skimage.measure import points_in_poly

Points = NDArray[np.float64]

FINE_MM = 0.25
"""Distance of the points at which distances are computed, unless told otherwise."""

MARGIN_MM = 6.0
"""How far distances are computed around the outlines."""

SAME_PLANE_MM = 0.1
"""Outlines whose heights differ by less lie in one plane: planes of readers are 1 mm apart."""

LONE_STEP_MM = 1.5
"""How thick one plane alone is taken to be: the usual distance of planes in the public data set."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Planes of outlines: signed distances on the points of each plane.

    ``heights_mm`` ``(P,)`` rise; ``maps_mm`` ``(P, U, V)`` are the distances in the planes, whose
    point ``[0, 0]`` lies at ``low_mm`` and whose points are ``fine_mm`` apart.
    """

    heights_mm: NDArray[np.float64]
    maps_mm: NDArray[np.float64]
    low_mm: NDArray[np.float64]
    fine_mm: float

    @property
    def step_mm(self) -> float:
        """Distance from plane to plane, the median; ``LONE_STEP_MM`` of one plane alone."""
        return (
            float(np.median(np.diff(self.heights_mm))) if len(self.heights_mm) > 1 else LONE_STEP_MM
        )

    def at(self, height_mm: float) -> NDArray[np.float64]:
        """Return the distances ``(U, V)`` in any plane: between planes they are interpolated."""
        if len(self.heights_mm) == 1:
            return np.asarray(self.maps_mm[0])
        j = int(np.clip(np.searchsorted(self.heights_mm, height_mm), 1, len(self.heights_mm) - 1))
        low, high = self.heights_mm[j - 1 : j + 1]
        weight = np.clip((height_mm - low) / (high - low), 0, 1)
        return np.asarray((1 - weight) * self.maps_mm[j - 1] + weight * self.maps_mm[j])


def stack_outlines(
    outlines: Sequence[Points], fine_mm: float = FINE_MM, margin_mm: float = MARGIN_MM
) -> Stack:
    """Return the stack of the planes of outlines, at least one."""
    planes = planes_of(outlines)
    points = np.concatenate([outline[:, :2] for outline in outlines])
    low = points.min(0) - margin_mm - fine_mm / 2  # so that straight edges lie between points
    size = tuple(int(n) for n in np.ceil((points.max(0) + margin_mm - low) / fine_mm))
    maps = []
    for polygons in planes.values():
        mask = np.zeros(size, bool)
        for polygon in polygons:
            mask ^= polygon2mask(size, (polygon - low) / fine_mm)
        maps.append(_signed_distance(mask, fine_mm, margin_mm))
    return Stack(np.array(list(planes)), np.array(maps), low, fine_mm)


def planes_of(outlines: Sequence[Points]) -> dict[float, list[Points]]:
    """Return the outlines ``(N, 2)`` of each plane by its height in mm; heights rise."""
    planes: dict[float, list[Points]] = {}
    height = -np.inf
    for outline in sorted(outlines, key=lambda points: float(points[:, 2].mean())):
        here = float(outline[:, 2].mean())
        if here - height > SAME_PLANE_MM:
            height = round(here, 2)
            planes[height] = []
        planes[height].append(outline[:, :2])
    return planes


def stacked_volume_ml(outlines: Sequence[Points]) -> float:
    """Return the volume of stacked outlines: of each plane its area times its thickness.

    A plane reaches half way to the next; the first and the last reach half a step beyond.
    """
    planes = planes_of(outlines)
    heights = np.array(list(planes))
    step = float(np.median(np.diff(heights))) if len(heights) > 1 else LONE_STEP_MM
    middles = (heights[1:] + heights[:-1]) / 2
    edges = np.concatenate([[heights[0] - step / 2], middles, [heights[-1] + step / 2]])
    areas = [_area_mm2(polygons) for polygons in planes.values()]
    return float(np.dot(areas, np.diff(edges))) / 1000


def _area_mm2(polygons: Sequence[Points]) -> float:
    """Return the area that the outlines of a plane enclose: one within another is a hole."""
    total = 0.0
    for n, polygon in enumerate(polygons):
        others = (other for m, other in enumerate(polygons) if m != n)
        around = sum(bool(points_in_poly(polygon, other).mean() > 0.5) for other in others)
        x, y = polygon.T
        area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
        total += -area if around % 2 else area
    return total


def _signed_distance(
    mask: NDArray[np.bool_], fine_mm: float, margin_mm: float
) -> NDArray[np.float64]:
    if not mask.any():
        return np.full(mask.shape, margin_mm)
    outer = ndi.distance_transform_edt(~mask) - 0.5
    inner = ndi.distance_transform_edt(mask) - 0.5
    return np.where(mask, -inner, outer) * fine_mm
