"""Training patches of the local correction: a start mask, its errors, and clicks to begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from monai.transforms import Compose
from numpy.typing import NDArray
from torch import Tensor

from clickseg.clicks import Clicks
from clickseg.config import LocalConfig
from clickseg.correction.fusion import Pass
from clickseg.cuts import Box
from clickseg.geometry import Grid
from clickseg.mistakes import mistaken
from clickseg.reader import Robot
from clickseg.training.augment import augment, drop_sequences
from clickseg.training.prepare import Prepared

ROBOTS: tuple[Robot, ...] = ("center", "center", "jitter", "border")
"""The simulated reader of an item is drawn from these."""

NEEDLESS = 0.08
"""Share of items whose first click is on a place that is right already: nothing should change."""

TURNING_ROOM = 24, 24, 4
"""How much more than the patch is cut out, so that it can be turned, in voxels."""

MARK_MM = 1.2
"""Radius of the ball that a recorded click is turned and shifted as, with its patch."""

Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class Recorded:
    """Clicks that readers made, by case, and in which share of its items the first is one."""

    clicks: Mapping[str, Clicks] = field(default_factory=dict)
    share: float = 0.0


@dataclass
class Item:
    """One training patch as the loop goes on: its clicks so far, and the mask they made."""

    image: Tensor
    start: NDArray[np.uint8]
    label: NDArray[np.uint8]
    current: NDArray[np.uint8]
    robot: Robot
    rounds: int
    clicks: list[tuple[Voxel, bool]] = field(default_factory=list)
    passes: list[Pass] = field(default_factory=list)
    is_given: bool = False
    """The first click is there already; the reader makes the next one."""


def draw_item(
    cases: Sequence[Prepared],
    real: Mapping[str, Tensor],
    recorded: Recorded,
    config: LocalConfig,
    transform: Compose,
    patch: Voxel,
    rng: np.random.Generator,
) -> Item:
    """Draw a patch around an error of a start mask, or around a click that a reader made."""
    case = cases[rng.integers(len(cases))]
    label = case.region_label[0].numpy()
    click = _recorded_click(case, recorded, rng)
    if case.case_id in real and (click is not None or rng.random() < config.real):
        start = real[case.case_id][0].numpy()
    else:
        start = np.asarray(mistaken(label, config.spacing_mm, rng)).astype(np.uint8)
    wrong = np.argwhere(label != start)
    center = wrong[rng.integers(len(wrong))] if len(wrong) else np.argwhere(label).mean(0)
    masks = [label, start]
    if click is not None:
        center = np.array(click[0])
        masks.append(_mark(click[0], label.shape, config))
    size = tuple(a + b for a, b in zip(patch, TURNING_ROOM, strict=True))
    box = Box(tuple(np.rint(center).tolist()), (1.0, 1.0, 1.0), size)  # type: ignore[arg-type]
    cut = box.take(torch.from_numpy(np.stack(masks)))
    image, turned = augment(transform, box.take(case.region), cut, rng)
    turned = (turned > 0.5).byte()
    robot = ROBOTS[rng.integers(len(ROBOTS))]
    rounds = int(rng.integers(1, config.clicks + 1))
    item = Item(
        drop_sequences(image, config.drop, rng), turned[1].numpy(),
        turned[0].numpy(), turned[1].numpy().copy(), robot, rounds,
    )  # fmt: skip
    if click is not None:
        _click_as_recorded(item, turned[2].numpy(), click[1])
    elif rng.random() < NEEDLESS:
        _click_needlessly(item, rng)
    return item


def _recorded_click(
    case: Prepared, recorded: Recorded, rng: np.random.Generator
) -> tuple[Voxel, bool] | None:
    """Draw a click that a reader made in the region of a case, if there are any."""
    clicks = recorded.clicks.get(case.case_id, ())
    if not clicks or rng.random() >= recorded.share:
        return None
    grid = Grid(tuple(case.region.shape[1:]), case.affine)  # type: ignore[arg-type]
    click = clicks[rng.integers(len(clicks))]
    voxel = click.voxel(grid)
    if not all(0 <= v < n for v, n in zip(voxel, grid.shape, strict=True)):
        return None
    # What the reader took back by hand before accepting is no example to follow.
    is_right = bool(case.region_label[0][voxel]) == click.is_foreground
    return (voxel, click.is_foreground) if is_right else None


def _mark(voxel_ijk: Voxel, shape: tuple[int, ...], config: LocalConfig) -> NDArray[np.uint8]:
    """Return a ball of ``MARK_MM`` around a voxel, 0/1."""
    i, j, k = (
        (np.arange(n) - v) ** 2 * spacing**2
        for n, v, spacing in zip(shape, voxel_ijk, config.spacing_mm, strict=True)
    )
    return np.asarray(i[:, None, None] + j[:, None] + k <= MARK_MM**2, dtype=np.uint8)


def _click_as_recorded(item: Item, mark: NDArray[np.uint8], is_foreground: bool) -> None:
    """Add a reader's click where its mark came to lie; none if it was turned out of the patch."""
    places = np.argwhere(mark)
    if len(places):
        i, j, k = np.rint(places.mean(0)).astype(int).tolist()
        item.clicks.append(((i, j, k), is_foreground))
        item.is_given = True


def _click_needlessly(item: Item, rng: np.random.Generator) -> None:
    """Add a click where the start mask is right already."""
    middle = tuple(slice(n // 4, n - n // 4) for n in item.label.shape)
    kind = bool(rng.random() < 0.5)
    right = (item.label == item.current) & (item.label == kind)
    places = np.argwhere(right[middle])
    if len(places):
        i, j, k = (places[rng.integers(len(places))] + [part.start for part in middle]).tolist()
        item.clicks.append(((i, j, k), kind))
        item.is_given = True
