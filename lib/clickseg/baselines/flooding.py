"""Flooding: the voxels that hang together with the click and look like it.

Flood fill (scikit-image) with a tolerance, in 3D and within a dynamic disk: the flood of a click
stays within a ball whose radius the reader gave by dragging. Without that bound it runs along
vessels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import flood

from clickseg.baselines.region import Region
from clickseg.baselines.strokes import StrokeMethod

CLICK_MM = 1.0
"""A click sets at least the ball of this radius."""


@dataclass(frozen=True)
class FloodSettings:
    """How far the T1ce may differ from the click, in standard deviations of the head's tissue.

    ``wider``: the ball is wider than the drag by this factor.
    """

    tolerance: float = 0.4
    wider: float = 0.8


GRID = [
    FloodSettings(tolerance, wider)
    for tolerance in (0.2, 0.4, 0.8, 1.2, 2.0)
    for wider in (0.6, 0.8, 1.0)
]


def flooding(settings: FloodSettings | None = None) -> StrokeMethod:
    """Make the method."""
    return StrokeMethod(settings or FloodSettings(), spread)


def spread(
    settings: FloodSettings, region: Region, number: int, drag_mm: float
) -> NDArray[np.bool_]:
    """Return what the click of that number floods."""
    center = region.voxels[number]
    ball = region.ball(center, max(settings.wider * drag_mm, CLICK_MM))
    shown = np.where(ball, region.shown, np.float32(1e6))
    found = flood(shown, tuple(int(n) for n in center), tolerance=settings.tolerance)
    return np.asarray((found & ball) | region.ball(center, CLICK_MM))
