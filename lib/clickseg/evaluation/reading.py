"""One reader, one study, one method: the mask after each click, scored."""

from __future__ import annotations

import itertools
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clickseg.baselines.method import Method
from clickseg.clicking import clicking
from clickseg.clicks import Click, Clicks
from clickseg.drags import drag_mm
from clickseg.evaluation.scores import Scores, score
from clickseg.geometry import Grid
from clickseg.reader import Robot
from clickseg.study import Study

Mask = NDArray[np.uint8]

COMMON_RADIUS_MM = 16.0
"""For methods that state no radius: farther from a click than this nothing should change."""


@dataclass(frozen=True)
class Reading:
    """What came of one study.

    Attributes:
        scores: of the start mask and after each click.
        clicks: ``{"point_ras": [x, y, z], "is_foreground": bool}`` each; fewer than wanted if
            nothing was wrong any more.
        changed_outside: by each click, voxels farther from it than the radius that changed.
        disobeyed: how many clicks some answer at or after them disobeyed.
        click_ms: time of each answer.
    """

    scores: tuple[Scores, ...]
    clicks: tuple[dict[str, Any], ...]
    changed_outside: tuple[int, ...]
    disobeyed: int
    click_ms: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def read(
    method: Method,
    study: Study,
    label: Mask,
    start: Mask | None,
    clicks: int,
    robot: Robot = "center",
    seed: int = 0,
) -> tuple[Reading, Mask, Mask]:
    """Let the simulated reader click, and score each answer.

    Args:
        method: answers.
        study: the images.
        label: reference, canonical ``(I, J, K)``.
        start: the mask before the first click; None is the method's own.
        clicks: how many at most; the reader stops where nothing is wrong.
        robot: how the reader clicks.
        seed: of the reader.

    Returns:
        The reading, the start mask and the last mask.
    """
    grid, rng = study.grid.canonical, np.random.default_rng([seed, *study.case_id.encode()])
    session = method.open(study, start)
    mask = first = method.initial(study) if start is None else start
    made: Clicks = ()
    drags_mm: tuple[float, ...] = ()
    scores, outside, times_ms = [score(mask, label, grid)], [], []
    disobeyed: set[int] = set()

    def answer(made: Clicks) -> Mask:
        nonlocal drags_mm
        drag = drag_mm(label, mask, grid.spacing_mm.tolist(), made[-1].voxel(grid))
        drags_mm = (*drags_mm, drag)
        started_s = time.perf_counter()
        answered = session.answer(made, drags_mm)
        times_ms.append(1000 * (time.perf_counter() - started_s))
        radius_mm = COMMON_RADIUS_MM if answered.radius_mm is None else answered.radius_mm
        outside.append(_changed_outside(mask, answered.mask, made[-1], grid, radius_mm))
        return answered.mask

    answers = clicking(label, mask, grid, answer, robot, rng)
    for made, mask in itertools.islice(answers, clicks):
        disobeyed |= {
            number
            for number, known in enumerate(made)
            if bool(mask[known.voxel(grid)]) != known.is_foreground
        }
        scores.append(score(mask, label, grid))
    points = tuple(
        {"point_ras": list(click.point_ras), "is_foreground": click.is_foreground} for click in made
    )
    reading = Reading(tuple(scores), points, tuple(outside), len(disobeyed), tuple(times_ms))
    return reading, first, mask


def _changed_outside(before: Mask, after: Mask, click: Click, grid: Grid, radius_mm: float) -> int:
    """Return how many voxels changed whose centers lie farther than the radius from a click."""
    changed = np.argwhere(before != after)
    offsets = changed - np.array(click.voxel(grid))
    distance_mm = np.linalg.norm(offsets @ grid.affine[:3, :3].T, axis=1)
    return int(np.count_nonzero(distance_mm > radius_mm + 1e-6))
