"""What a network said around a click, laid as the recipe says, and what of it may change a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clickseg.border import LEAST_LEFT, cheapest_sides
from clickseg.boxes import Slices
from clickseg.config import LikenessConfig, LocalConfig, PassBorderConfig
from clickseg.correction.fusion import Pass, brought, touching
from clickseg.edges import first_shown, follow_edges

CLICK_MM = 0.85
"""No border parts what lies so near to a click, and looks like it, from it: two fine pixels."""

LOOKS_LIKE = 2.0
"""So many ``sigma`` of a border at most is what looks like a click away from it."""

MIDDLE, NEARLY_ALL = 2.0, 0.9
"""A background click is in the middle of a blob if so much of it lies within so many times the
click's depth in it."""

LEAST_CHANGED = 0.2
"""Share of what a network changes at a click that the cheapest border must leave."""


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

    def changed(logits: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        if config.border is not None:
            logits = _laid(
                logits, image, before, clicks_ijk, is_foreground, near, spacing_mm, config.border
            )
        change = brought(logits, before, is_foreground)
        return logits, touching(change, clicks_ijk) if config.merge == "component" else change

    if config.edges is not None:
        logits = follow_edges(logits, image, spacing_mm, config.edges)
    spoken = _spoken(logits, image, clicks_ijk[-1], is_foreground, distance_mm, config.likeness)
    laid, change = changed(spoken)
    if not is_foreground:
        own = change if spoken is logits else changed(logits)[1]
        wrong = _told_wrong(before, own, clicks_ijk, spacing_mm)
        laid, change = np.where(wrong, np.float32(-np.inf), laid), change | wrong
    return Pass.of(where, laid, distance_mm, config.reach_mm, change)


def _spoken(
    logits: NDArray[np.float32],
    image: NDArray[np.float32],
    click_ijk: NDArray[np.int64],
    is_foreground: bool,
    distance_mm: NDArray[np.float32],
    config: LikenessConfig | None,
) -> NDArray[np.float32]:
    """Return logits that give what is near a click and looks like it to the click's kind.

    Only where the network hardly believes the click: it has seen little like it, and would change
    next to nothing but the voxel itself. How the click looks is the median of the nine voxels
    around it in its slice, in every sequence that shows anything.
    """
    sign = np.float32(1 if is_foreground else -1)
    i, j, k = click_ijk
    if config is None or sign * logits[i, j, k] >= config.below:
        return logits
    unlike = np.square(distance_mm / np.float32(config.reach_mm))
    for shown in (part for part in image if part.any()):
        around = shown[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2, k]
        unlike += np.square((shown - np.median(around)) / np.float32(config.sigma))
    likeness = np.float32(config.weight) * np.exp(-unlike / 2)
    return np.asarray(logits + sign * likeness)


def _laid(
    logits: NDArray[np.float32],
    image: NDArray[np.float32],
    start: NDArray[np.uint8],
    clicks_ijk: NDArray[np.int64],
    is_foreground: bool,
    near: NDArray[np.bool_],
    spacing_mm: NDArray[np.float64],
    config: PassBorderConfig,
) -> NDArray[np.float32]:
    """Return logits laid where a border costs least and parts no click from what is beside it.

    Where tumor and surroundings look alike the shortest border is the cheapest: around next to
    nothing, or around all. There a network is believed, if it obeys the click.
    """
    clicked = _clicked(image, clicks_ijk, spacing_mm, config.sigma)
    held = np.where(clicked, np.float32(np.inf if is_foreground else -np.inf), logits)
    laid = cheapest_sides(held, image, spacing_mm, config)
    if (logits[tuple(clicks_ijk[-1])] > 0) != is_foreground:
        return laid
    (changed, *drawn), (left, *remaining) = (
        _sizes(sides, start, clicks_ijk[-1], is_foreground, near) for sides in (held, laid)
    )
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
        beside = _distance_mm(clicked.shape, np.array(ijk), spacing_mm) <= CLICK_MM
        if shown is not None:
            beside &= np.abs(shown - shown[ijk]) <= LOOKS_LIKE * sigma
        clicked |= beside
    return clicked


def _told_wrong(
    start: NDArray[np.uint8],
    change: NDArray[np.bool_],
    clicks_ijk: NDArray[np.int64],
    spacing_mm: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return the blobs that background clicks are in the middle of and hardly change.

    What was taken for a tumor looks like one all over: a network that looks for a border inside of
    it finds none, and removes nothing (``change``) but what is at the click. If it removes more, a
    cyst say, that counts. A blob that goes on beyond the box of the pass is not told wrong as a
    whole.
    """
    wrong = np.zeros(start.shape, dtype=bool)
    inside = _inside(clicks_ijk, start.shape)
    if not any(start[ijk] for ijk in inside):
        return wrong
    away_mm = {ijk: _distance_mm(start.shape, np.array(ijk), spacing_mm) for ijk in inside}
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
    logits: NDArray[np.float32],
    start: NDArray[np.uint8],
    click_ijk: NDArray[np.int64],
    is_foreground: bool,
    near: NDArray[np.bool_],
) -> tuple[int, int, int]:
    """Return how many voxels near a click it changes, and are foreground and background then."""
    change = touching(brought(logits, start, is_foreground), [click_ijk]) & near
    after = (start > 0) ^ change
    return int(change.sum()), int((after & near).sum()), int((~after & near).sum())


def _distance_mm(
    shape: tuple[int, ...], center_ijk: NDArray[np.int64], spacing_mm: NDArray[np.float64]
) -> NDArray[np.float32]:
    i, j, k = (
        ((np.arange(n) - center) * spacing).astype(np.float32) ** 2
        for n, center, spacing in zip(shape, center_ijk, spacing_mm, strict=True)
    )
    return np.asarray(np.sqrt(i[:, None, None] + j[:, None] + k))
