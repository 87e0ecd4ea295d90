"""The simulated reader at work: click, look at the answer, click again.

One loop for training, evaluation, the gate and the simulated server, so that all mean the same by
"after three clicks".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from clickseg.clicks import Click, Clicks
from clickseg.geometry import Grid
from clickseg.reader import Robot, next_click

Mask = NDArray[np.uint8]


def clicking(
    label: Mask,
    start: Mask,
    grid: Grid,
    answer: Callable[[Clicks], Mask],
    robot: Robot = "center",
    rng: np.random.Generator | None = None,
) -> Iterator[tuple[Clicks, Mask]]:
    """Let the simulated reader click; yield all clicks so far, and the answer to them, after each.

    Ends where no voxel is wrong that was not clicked.

    Args:
        label: reference, ``(I, J, K)``.
        start: what the reader sees first, same shape.
        grid: of both, canonical.
        answer: returns the mask that all clicks so far make of the start.
        robot: how the reader clicks.
        rng: of the reader, see ``next_click``.
    """
    mask = start
    clicks: Clicks = ()
    while True:
        seen = [click.voxel(grid) for click in clicks]
        found = next_click(label, mask, grid.spacing_mm.tolist(), seen, robot, rng)
        if found is None:
            return
        clicks = (*clicks, Click.at(found[0], found[1], grid))
        mask = answer(clicks)
        yield clicks, mask
