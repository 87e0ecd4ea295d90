"""What a network said around a click, laid as the recipe says, and what of it may change a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clickseg.border import LEAST_LEFT, cheapest_sides
from clickseg.boxes import Slices, grown
from clickseg.config import LikenessConfig, LocalConfig
from clickseg.correction.fusion import Pass, brought, clicked_part
from clickseg.edges import first_shown, follow_edges

CLICK_MM = 0.85
"""No border parts what lies so near to a click, and looks like it, from it: two fine pixels."""

LOOKS_LIKE = 2.0
"""So many ``sigma`` of a border at most is what looks like a click away from it."""

MIDDLE, NEARLY_ALL = 2.0, 0.9
"""A background click is in the middle of a blob if so much of it lies within so many times the
click's depth in it."""

LEAST_ALIKE = 0.25
"""Share of its weight below which a click does not speak for a voxel, however little it takes."""

LEAST_CHANGED = 0.2
"""Share of what logits change at a click that the cheapest border must leave."""


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
    distance_mm = _distance_mm(before.shape, clicks_ijk[-1], spacing_mm)
    near = distance_mm < config.reach_mm

    def laid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
        return _laid(logits, image, before, clicks_ijk, is_foreground, near, spacing_mm, config)

    def change_of(logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        change = brought(logits, before, is_foreground)
        if config.merge == "component":
            return clicked_part(change, list(clicks_ijk), spacing_mm, config.thick_mm)
        return change

    if config.edges is not None:
        logits = follow_edges(logits, image, spacing_mm, config.edges)
    spoken = _spoken(logits, image, clicks_ijk, is_foreground, spacing_mm, config.likeness)
    outline = laid(logits if spoken is None else spoken)
    change = change_of(outline)
    inside_ijk = _inside(clicks_ijk, before.shape)
    if not is_foreground and any(before[ijk] for ijk in inside_ijk):
        own = change if spoken is None else change_of(laid(logits))
        wrong = _told_wrong(before, own, inside_ijk, spacing_mm)
        outline, change = np.where(wrong, np.float32(-np.inf), outline), change | wrong
    return Pass.of(where, outline, distance_mm, config.reach_mm, change)


def _spoken(
    logits: NDArray[np.float32],
    image: NDArray[np.float32],
    clicks_ijk: NDArray[np.int64],
    is_foreground: bool,
    spacing_mm: NDArray[np.float64],
    config: LikenessConfig | None,
) -> NDArray[np.float32] | None:
    """Return logits that give what is near a click and looks like it to the click's kind.

    Only where the network is not sure of a click: it has seen little like it, and might change
    next to nothing but the voxel itself. None where it is sure of all.
    """
    if config is None:
        return None
    sign = np.float32(1 if is_foreground else -1)
    unlike = np.full(logits.shape, np.inf, dtype=np.float32)
    farthest_mm = config.reach_mm * float(np.sqrt(-2 * np.log(LEAST_ALIKE)))
    for ijk in _inside(clicks_ijk, logits.shape):
        if sign * logits[ijk] < config.below:
            box = _within(ijk, farthest_mm, logits.shape, spacing_mm)
            np.minimum(unlike[box], _unlike(image, box, ijk, spacing_mm, config), out=unlike[box])
    if np.isinf(unlike).all():
        return None
    share = np.exp(unlike * np.float32(-0.5))
    share[share < LEAST_ALIKE] = 0
    return np.asarray(logits + sign * np.float32(config.weight) * share)


def _unlike(
    image: NDArray[np.float32],
    box: tuple[slice, ...],
    click_ijk: tuple[int, ...],
    spacing_mm: NDArray[np.float64],
    config: LikenessConfig,
) -> NDArray[np.float32]:
    """Return how far from a click, and unlike it, the voxels of a box are: a sum of squares.

    How the click looks is the median of those around it in its slice that look like it: noise
    counts less, and of a thin or pointed tumor, whose surroundings are most of them, none.
    """
    i, j, k = click_ijk
    unlike = np.square(
        _distance_mm(image.shape[1:], np.array(click_ijk), spacing_mm, box)
        / np.float32(config.reach_mm)
    )
    for part in image:
        around = part[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2, k]
        alike = np.sort(around[np.abs(around - part[i, j, k]) <= config.sigma])
        look = (alike[(alike.size - 1) // 2] + alike[alike.size // 2]) / 2  # a median costs 30 us
        apart = part[box] - look
        apart *= np.float32(1 / config.sigma)
        unlike += np.square(apart, out=apart)
    return np.asarray(unlike)


def _laid(
    logits: NDArray[np.float32],
    image: NDArray[np.float32],
    start: NDArray[np.uint8],
    clicks_ijk: NDArray[np.int64],
    is_foreground: bool,
    near: NDArray[np.bool_],
    spacing_mm: NDArray[np.float64],
    config: LocalConfig,
) -> NDArray[np.float32]:
    """Return logits laid where a border costs least and parts no click from what is beside it.

    As they are, if the recipe has no border.

    Where tumor and surroundings look alike the shortest border is the cheapest: around next to
    nothing, or around all. There the logits are believed, if they obey the click.
    """
    border = config.border
    if border is None:
        return logits
    clicked = _clicked(image, clicks_ijk, spacing_mm, border.sigma)
    held = np.where(clicked, np.float32(np.inf if is_foreground else -np.inf), logits)
    laid = cheapest_sides(held, image, spacing_mm, border)
    if (logits[tuple(clicks_ijk[-1])] > 0) != is_foreground:
        return laid
    click_ijk, thick_mm = clicks_ijk[-1:], config.thick_mm
    changes = (
        clicked_part(brought(sides, start, is_foreground), list(click_ijk), spacing_mm, thick_mm)
        for sides in (held, laid)
    )
    (changed, *drawn), (left, *remaining) = (_sizes(change, start, near) for change in changes)
    is_kept = left >= LEAST_CHANGED * changed and all(
        b >= LEAST_LEFT * a for a, b in zip(drawn, remaining, strict=True)
    )
    return laid if is_kept else held


def _clicked(
    image: NDArray[np.float32],
    clicks_ijk: NDArray[np.int64],
    spacing_mm: NDArray[np.float64],
    sigma: float,
) -> NDArray[np.bool_]:
    """Return the voxels at clicks, and those beside them that look like them."""
    clicked, shown = np.zeros(image.shape[1:], dtype=bool), first_shown(image)
    for ijk in _inside(clicks_ijk, clicked.shape):
        box = _within(ijk, CLICK_MM, clicked.shape, spacing_mm)
        beside = _distance_mm(clicked.shape, np.array(ijk), spacing_mm, box) <= CLICK_MM
        if shown is not None:
            beside &= np.abs(shown[box] - shown[ijk]) <= LOOKS_LIKE * sigma
        clicked[box] |= beside
    return clicked


def _told_wrong(
    start: NDArray[np.uint8],
    change: NDArray[np.bool_],
    inside_ijk: list[tuple[int, ...]],
    spacing_mm: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return the blobs that background clicks are in the middle of and hardly change.

    What was taken for a tumor looks like one all over: a network that looks for a border inside of
    it finds none, and removes nothing (``change``) but what is at the click. If it removes more, a
    cyst say, that counts. A blob that goes on beyond the box of the pass is not told wrong as a
    whole.
    """
    wrong = np.zeros(start.shape, dtype=bool)
    away_mm = {ijk: _distance_mm(start.shape, np.array(ijk), spacing_mm) for ijk in inside_ijk}
    beyond = change & np.all([mm > CLICK_MM for mm in away_mm.values()], axis=0)
    blobs, _ = ndimage.label(start, np.ones((3, 3, 3)))
    for ijk, mm in away_mm.items():
        blob = blobs == blobs[ijk]
        if not start[ijk] or blob.sum() > blob[1:-1, 1:-1, 1:-1].sum():
            continue
        depth_mm = mm[~blob].min()
        is_middle = np.mean(mm[blob] <= MIDDLE * depth_mm) >= NEARLY_ALL
        if is_middle and not beyond[blob].any():
            wrong |= blob
    return wrong


def _inside(clicks_ijk: NDArray[np.int64], shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the clicks in a box; others were seen from farther away than it reaches."""
    return [tuple(ijk) for ijk in clicks_ijk if (ijk >= 0).all() and (ijk < shape).all()]


def _sizes(
    change: NDArray[np.bool_], start: NDArray[np.uint8], near: NDArray[np.bool_]
) -> tuple[int, int, int]:
    """Return how many voxels near a click it changes, and are foreground and background then."""
    change = change & near
    after = (start > 0) ^ change
    return int(change.sum()), int((after & near).sum()), int((~after & near).sum())


def _within(
    click_ijk: tuple[int, ...],
    farthest_mm: float,
    shape: tuple[int, ...],
    spacing_mm: NDArray[np.float64],
) -> tuple[slice, ...]:
    """Return the box that holds all within a distance of a click."""
    at_click = [slice(at, at + 1) for at in click_ijk]
    return grown(at_click, np.floor(farthest_mm / spacing_mm), shape)


def _distance_mm(
    shape: tuple[int, ...],
    center_ijk: NDArray[np.int64],
    spacing_mm: NDArray[np.float64],
    box: tuple[slice, ...] | None = None,
) -> NDArray[np.float32]:
    """Return the distance of all voxels, or of those of a box, to a center."""
    places = (slice(None),) * 3 if box is None else box
    i, j, k = (
        ((np.arange(n)[part] - center) * spacing).astype(np.float32) ** 2
        for n, part, center, spacing in zip(shape, places, center_ijk, spacing_mm, strict=True)
    )
    return np.asarray(np.sqrt(i[:, None, None] + j[:, None] + k))
