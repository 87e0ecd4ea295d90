"""Join overlapping passes into one mask that obeys every click and changes nothing far away.

Each pass offers logits in a ball around its click. Where balls overlap the logits are averaged,
the nearer click weighing more; towards the edge of the ball the start mask takes over; the
clicked voxels are set last. The sum runs over clicks in a fixed order, so that the result is the
same bit for bit in whatever order they were made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clickseg.cuts import Slices

START_LOGIT = 4.0
"""The start mask counts as logits of this size; those of a pass are clipped to it."""

PLATEAU = 0.75
"""Up to this share of the reach a pass counts fully; from there the start mask takes over."""

_TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class Pass:
    """What the network says around one click: logits in ``where``, distances to the click."""

    where: Slices
    logits: NDArray[np.float32]
    distance_mm: NDArray[np.float32]


def keep_touching(
    logits: NDArray[np.float32],
    start: NDArray[np.uint8],
    foreground: Iterable[NDArray[np.int64]],
    background: Iterable[NDArray[np.int64]],
) -> NDArray[np.float32]:
    """Take back every change that hangs together with no click of its kind.

    What is added must touch a foreground click, what is removed a background click (the clicked
    voxel or one beside it). A network that did nothing at the click thus changes nothing.

    Args:
        logits: ``(i, j, k)`` of a pass.
        start: the start mask there.
        foreground: voxels of foreground clicks, within the array or not.
        background: the same of background clicks.
    """
    pred, before = logits > 0, start > 0
    kept = np.zeros(logits.shape, dtype=bool)
    for change, voxels in ((pred & ~before, foreground), (before & ~pred, background)):
        parts, count = ndimage.label(change, _TOUCHING)
        if count == 0:
            continue
        touched = {
            int(number)
            for voxel in voxels
            for number in np.unique(
                parts[tuple(slice(max(0, v - 1), max(0, v + 2)) for v in voxel)]
            )
        }
        kept |= np.isin(parts, [number for number in touched if number])
    changed = pred != before
    return np.where(changed & ~kept, _as_logits(start), logits)


def fuse(
    start: NDArray[np.uint8], passes: Iterable[Pass], reach_mm: float
) -> tuple[NDArray[np.uint8], list[tuple[NDArray[np.float32], Slices]]]:
    """Return the fused mask, and the logits in the boxes that hold the passes.

    Passes whose boxes do not meet have nothing to do with each other and are fused apart, so that
    clicks far from each other cost no more than clicks nearby.

    Args:
        start: canonical start mask ``(I, J, K)``; left alone.
        passes: in a fixed order.
        reach_mm: a pass changes nothing at this distance from its click or beyond.
    """
    mask = start.copy(order="K")
    parts = []
    for group in _meeting(list(passes)):
        logits, box = _fuse_group(start, group, reach_mm)
        mask[box] = logits > 0
        parts.append((logits, box))
    return mask, parts


def _fuse_group(
    start: NDArray[np.uint8], passes: list[Pass], reach_mm: float
) -> tuple[NDArray[np.float32], Slices]:
    box = _hull([item.where for item in passes])
    total, weight, trust = (
        np.zeros([part.stop - part.start for part in box], dtype=np.float32) for _ in range(3)
    )
    for item in passes:
        inner = tuple(
            slice(a.start - b.start, a.stop - b.start) for a, b in zip(item.where, box, strict=True)
        )
        relative = np.minimum(item.distance_mm / np.float32(reach_mm), 1)
        near = (1 - relative**2) ** 2
        total[inner] += near * np.clip(item.logits, -START_LOGIT, START_LOGIT)
        weight[inner] += near
        np.maximum(trust[inner], np.minimum((1 - relative) / (1 - PLATEAU), 1), out=trust[inner])
    offered = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    before = _as_logits(start[box])
    return np.where(trust > 0, (1 - trust) * before + trust * offered, before), box


def _meeting(passes: list[Pass]) -> list[list[Pass]]:
    """Divide passes into groups whose hulls have no voxel in common; the order is kept."""
    groups: list[list[int]] = []
    hulls: list[Slices] = []
    for number, item in enumerate(passes):
        group, hull = [number], item.where
        while True:
            touched = [n for n, other in enumerate(hulls) if _meet(hull, other)]
            if not touched:
                break
            hull = _hull([hull, *(hulls[n] for n in touched)])
            group = sorted([*group, *(k for n in touched for k in groups[n])])
            groups = [g for n, g in enumerate(groups) if n not in touched]
            hulls = [h for n, h in enumerate(hulls) if n not in touched]
        groups.append(group)
        hulls.append(hull)
    return [[passes[number] for number in group] for group in groups]


def _meet(a: Slices, b: Slices) -> bool:
    return all(x.start < y.stop and y.start < x.stop for x, y in zip(a, b, strict=True))


def pin(
    mask: NDArray[np.uint8], voxels_ijk: NDArray[np.int64], is_foreground: NDArray[np.bool_]
) -> None:
    """Set every clicked voxel, in place: a click is obeyed whatever the network says."""
    mask[tuple(voxels_ijk.T)] = is_foreground


def _as_logits(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.where(mask > 0, np.float32(START_LOGIT), np.float32(-START_LOGIT))


def _hull(boxes: list[Slices]) -> Slices:
    i, j, k = (
        slice(min(part.start for part in parts), max(part.stop for part in parts))
        for parts in zip(*boxes, strict=True)
    )
    return i, j, k
