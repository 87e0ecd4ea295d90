"""What a network said around a click, laid as the recipe says, and what of it may change a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clickseg.border import cheapest_sides
from clickseg.boxes import Slices
from clickseg.config import LocalConfig
from clickseg.correction.fusion import Pass, brought, touching
from clickseg.edges import follow_edges

CLICK_MM = 0.8
"""No border parts what lies so near to a click from it."""

LEAST_LEFT = 0.2, 0.5, 0.5
"""Share that the cheapest border must leave of a click's change, of tumor and of surroundings.

Where these look alike the shortest border is the cheapest: around next to nothing, or around all.
There the network is believed.
"""


def make_pass(
    where: Slices,
    logits: NDArray[np.float32],
    image: NDArray[np.float32],
    start: NDArray[np.uint8],
    seen_ijk: NDArray[np.int64],
    is_foreground: bool,
    spacing_mm: NDArray[np.float64] | Sequence[float],
    config: LocalConfig,
) -> Pass:
    """Return the pass of a click.

    Args:
        where: the voxels that the network saw.
        logits: what it said there ``(i, j, k)``.
        image: T1ce and T2 there ``(2, i, j, k)``, normalized.
        start: the whole mask ``(I, J, K)`` that is mended.
        seen_ijk: clicks ``(N, 3)`` that the pass saw, all of one kind, the last one its own.
        is_foreground: that kind.
        spacing_mm: voxel size.
        config: the recipe.
    """
    spacing_mm = np.asarray(spacing_mm, dtype=np.float64)
    before = start[where]
    clicks_ijk = seen_ijk - [part.start for part in where]
    distance_mm = _distance_mm(where, seen_ijk[-1], spacing_mm)
    if config.edges is not None:
        logits = follow_edges(logits, image, spacing_mm, config.edges)
    if config.border is not None:
        clicked = distance_mm <= CLICK_MM
        near = distance_mm < config.reach_mm
        laid = cheapest_sides(logits, image, spacing_mm, config.border, clicked, is_foreground)
        drawn, left = (
            _sizes(sides, before, clicks_ijk[-1], is_foreground, near) for sides in (logits, laid)
        )
        logits = laid if (left >= drawn * LEAST_LEFT).all() else logits
    change = brought(logits, before, is_foreground)
    if config.merge == "component":
        change = touching(change, clicks_ijk)
    return Pass.of(where, logits, distance_mm, config.reach_mm, change)


def _sizes(
    logits: NDArray[np.float32],
    start: NDArray[np.uint8],
    click_ijk: NDArray[np.int64],
    is_foreground: bool,
    near: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Return how many voxels near a click it changes, and are foreground and background then."""
    change = touching(brought(logits, start, is_foreground), [click_ijk]) & near
    after = (start > 0) ^ change
    return np.array([part.sum() for part in (change, after & near, ~after & near)])


def _distance_mm(
    where: Slices, center_ijk: NDArray[np.int64], spacing_mm: NDArray[np.float64]
) -> NDArray[np.float32]:
    i, j, k = (
        ((np.arange(part.start, part.stop) - center) * spacing).astype(np.float32) ** 2
        for part, center, spacing in zip(where, center_ijk, spacing_mm, strict=True)
    )
    return np.asarray(np.sqrt(i[:, None, None] + j[:, None] + k))
