"""Join overlapping passes into one mask that obeys every click and changes nothing far away.

Each pass offers logits in a ball around its click. Where balls overlap the logits are averaged,
the nearest click nearly deciding; towards the edge of the ball the start mask takes over (where the
box of a pass ends before, as across slices, the pass ends with it). Of what
then differs from the start mask only that stays which a pass of its kind brought: foreground
clicks add, background clicks remove. The clicked voxels are set last. The sum runs over clicks in
a fixed order, so that the result is the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clickseg.boxes import Slices, bounding_box, hull

START_LOGIT = 4.0
"""The start mask counts as logits of this size; those of a pass are clipped to it."""

PLATEAU = 0.85
"""Up to this share of the reach a pass counts fully; from there the start mask takes over."""

NEARNESS = 16
"""How much more the nearer click counts, as a power: halfway to its reach a hundredth is left.

The pass of a click knows nothing of later ones: if it counted much beside them, it would hold back
what they mend.
"""

TINY = np.finfo(np.float32).tiny
"""A weight is less at the edge of a reach alone, where the start mask has taken over, and at 0."""

_TOUCHING = np.ones((3, 3, 3), dtype=bool)
_TIE_MM = 1e-6


@dataclass(frozen=True, eq=False)
class Pass:
    """What the network says around one click, in the voxels ``where``.

    ``votes``: logits times ``weight``, which falls from 1 at the click to 0 at its reach.
    ``trust``: how far the pass counts against the start mask. ``may_change``: where the mask may
    become what the pass says.
    """

    where: Slices
    votes: NDArray[np.float32]
    weight: NDArray[np.float32]
    trust: NDArray[np.float32]
    may_change: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        where: Slices,
        logits: NDArray[np.float32],
        distance_mm: NDArray[np.float32],
        reach_mm: float,
        may_change: NDArray[np.bool_],
    ) -> Pass:
        """Weigh logits by their distance to the click; beyond the reach they count nothing."""
        # In the memory order of masks, as they come from files: sums run along whole rows.
        relative = np.asfortranarray(distance_mm) / np.float32(reach_mm)
        relative = np.minimum(relative, np.float32(1))
        weight = (1 - np.square(relative)) ** NEARNESS
        trust = np.minimum((1 - relative) / (1 - PLATEAU), 1)
        votes = weight * np.clip(np.asfortranarray(logits), -START_LOGIT, START_LOGIT)
        return cls(where, votes, weight, trust, np.asfortranarray(may_change) & (relative < 1))

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return sum(a.nbytes for a in (self.votes, self.weight, self.trust, self.may_change))


def brought(
    logits: NDArray[np.float32], start: NDArray[np.uint8], is_foreground: bool
) -> NDArray[np.bool_]:
    """Return the voxels that a pass adds (foreground) or removes (background)."""
    change: NDArray[np.bool_] = (
        (logits > 0) & (start == 0) if is_foreground else (logits <= 0) & (start > 0)
    )
    return change


def touching(change: NDArray[np.bool_], voxels: Iterable[NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Return the part of a change that hangs together with a click (its voxel or one beside it).

    A network that did nothing at the clicks thus changes nothing.

    Args:
        change: ``(i, j, k)``.
        voxels: of the clicks, within the array or not.
    """
    parts, _ = ndimage.label(change, _TOUCHING)
    touched = {
        int(number)
        for voxel in voxels
        for number in np.unique(parts[tuple(slice(max(0, v - 1), max(0, v + 2)) for v in voxel)])
    }
    return np.isin(parts, [number for number in touched if number])


def clicked_part(
    change: NDArray[np.bool_],
    voxels: Sequence[NDArray[np.int64]],
    spacing_mm: NDArray[np.float64],
    thick_mm: float | None,
) -> NDArray[np.bool_]:
    """Return the part of a change that hangs together with a click, ``without_lobes``."""
    part = touching(change, voxels)
    if thick_mm is None:
        return part
    left = without_lobes(part, voxels, spacing_mm, thick_mm)
    return part if left is part else touching(left, voxels)


def without_lobes(
    change: NDArray[np.bool_],
    voxels: Sequence[NDArray[np.int64]],
    spacing_mm: NDArray[np.float64],
    thick_mm: float,
) -> NDArray[np.bool_]:
    """Return a change without its thick parts that no click is in or beside.

    Readers click where an error is thickest. What is thick elsewhere, and hangs together with the
    click by a rim of a voxel or two, is something else: a vessel beside the tumor, say.

    Args:
        change: ``(i, j, k)``; may be empty. Beyond the array nothing is changed.
        voxels: of the clicks, within the array or not.
        spacing_mm: voxel size.
        thick_mm: radius of a ball that fits into what is thick, and how far from the middles of
            such balls a click is still beside it.
    """
    box = bounding_box(change)
    if box is None:
        return change
    least_mm = thick_mm - _TIE_MM
    part = np.pad(change[box], 1)
    middles = ndimage.distance_transform_edt(part, sampling=spacing_mm)[1:-1, 1:-1, 1:-1] > least_mm
    lobes, count = ndimage.label(middles, _TOUCHING)
    if not count:
        return change
    corner = [side.start for side in box]
    kept = change.copy()
    for number in range(1, count + 1):
        lobe = np.argwhere(lobes == number)
        away_mm = [np.linalg.norm((lobe + corner - v) * spacing_mm, axis=1).min() for v in voxels]
        if min(away_mm) > thick_mm + _TIE_MM:
            to_lobe_mm = ndimage.distance_transform_edt(lobes != number, sampling=spacing_mm)
            kept[box] &= to_lobe_mm > thick_mm + _TIE_MM
    return kept


def fuse(
    start: NDArray[np.uint8], passes: Iterable[Pass]
) -> list[tuple[NDArray[np.float32], Slices]]:
    """Return fused logits in the boxes that hold the passes; elsewhere the start mask stays.

    Passes whose boxes do not meet have nothing to do with each other and are fused apart, so that
    clicks far from each other cost no more than clicks nearby. No two boxes have a voxel in common.

    Args:
        start: canonical start mask ``(I, J, K)``.
        passes: in a fixed order.
    """
    return [_fuse_group(start, group) for group in _meeting(list(passes))]


def _fuse_group(start: NDArray[np.uint8], passes: list[Pass]) -> tuple[NDArray[np.float32], Slices]:
    box = hull([item.where for item in passes])
    shape = [part.stop - part.start for part in box]
    total, weight, trust = (np.zeros(shape, np.float32, "F") for _ in range(3))
    may_change = np.zeros(shape, bool, "F")
    for item in passes:
        inner = tuple(
            slice(a.start - b.start, a.stop - b.start) for a, b in zip(item.where, box, strict=True)
        )
        total[inner] += item.votes
        weight[inner] += item.weight
        np.maximum(trust[inner], item.trust, out=trust[inner])
        may_change[inner] |= item.may_change
    before = np.where(start[box] > 0, np.float32(START_LOGIT), np.float32(-START_LOGIT))
    # Where no pass counts both are 0, and so is what is offered. Every step in place: a new array
    # costs as much as the sum in it.
    mixed = np.divide(total, np.maximum(weight, TINY, out=weight), out=total)
    mixed -= before
    mixed *= trust
    mixed += before
    taken_back = ((mixed > 0) != (before > 0)) & ~may_change
    mixed[taken_back] = before[taken_back]
    return mixed, box


def _meeting(passes: list[Pass]) -> list[list[Pass]]:
    """Divide passes into groups whose hulls have no voxel in common; the order is kept."""
    groups: list[list[int]] = []
    hulls: list[Slices] = []
    for number, item in enumerate(passes):
        group, around = [number], item.where
        while True:
            touched = [n for n, other in enumerate(hulls) if _meet(around, other)]
            if not touched:
                break
            around = hull([around, *(hulls[n] for n in touched)])
            group = sorted([*group, *(k for n in touched for k in groups[n])])
            groups = [g for n, g in enumerate(groups) if n not in touched]
            hulls = [h for n, h in enumerate(hulls) if n not in touched]
        groups.append(group)
        hulls.append(around)
    return [[passes[number] for number in group] for group in groups]


def _meet(a: Slices, b: Slices) -> bool:
    return all(x.start < y.stop and y.start < x.stop for x, y in zip(a, b, strict=True))


def pin(
    mask: NDArray[np.uint8], voxels_ijk: NDArray[np.int64], is_foreground: NDArray[np.bool_]
) -> None:
    """Set every clicked voxel, in place: a click is obeyed whatever the network says."""
    mask[tuple(voxels_ijk.T)] = is_foreground
