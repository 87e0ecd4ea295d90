"""Flooding: the voxels that hang together with the click and look like it.

Flood fill (scikit-image) with a tolerance, in 3D and within a dynamic disk: the flood of a click
stays within a ball whose radius the reader gave by dragging. Without that bound it runs along
vessels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import flood

from clickseg.baselines.region import Region
from clickseg.baselines.strokes import StrokeMethod

TOLERANCE = 0.8
"""Difference of T1ce to the click, in standard deviations of the tissue of the head."""

WIDER = 1.1
"""The ball is wider than the drag by this factor: readers do not drag exactly."""

CLICK_MM = 1.0
"""A click sets at least the ball of this radius."""


def flooding() -> StrokeMethod:
    """Make the method."""
    return StrokeMethod(f"tolerance {TOLERANCE:g}", spread)


def spread(region: Region, number: int, drag_mm: float) -> NDArray[np.bool_]:
    """Return what the click of that number floods."""
    center = region.voxels[number]
    ball = region.ball(center, max(WIDER * drag_mm, CLICK_MM))
    shown = np.where(ball, region.image[0], np.float32(1e6))
    found = flood(shown, tuple(int(n) for n in center), tolerance=TOLERANCE)
    return np.asarray((found & ball) | region.ball(center, CLICK_MM))
