"""Errors that a network makes with a whole tumor, drawn as `Step` after `Step`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clickseg.boxes import bounding_box, grown
from clickseg.mistakes.steps import (
    Cutoff,
    Deformation,
    Ellipsoid,
    Floats,
    Mask,
    Missing,
    Step,
)

ROTATION_DEG = 20.0
SCALE = 0.3
SHIFT_PX = 3.5
ELASTIC_PX = 5.0
ELASTIC_SIGMA_PX = 5.0
PIXEL_MM = 0.45
"""Pixel size for which the limits in pixels hold; turns them into mm for volumes."""

FULL_RADIUS_MM = 6.0
"""Errors of a smaller tumor shrink with it; 6 mm is a ball of 0.9 ml."""


def mistaken(
    label: NDArray[Any], spacing_mm: Sequence[float], rng: np.random.Generator
) -> NDArray[Any]:
    """Return a wrong mask of the same shape and type: `draw_mistake`, applied."""
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    pred = label.astype(bool)
    for step in draw_mistake(label, spacing_mm, rng):
        pred = step.apply(pred, spacing)
    return pred.astype(label.dtype)


def draw_mistake(
    label: NDArray[Any], spacing_mm: Sequence[float], rng: np.random.Generator
) -> tuple[Step, ...]:
    """Draw what a network does wrong with a whole tumor, as steps to apply one after the other.

    Most masks are deformed, slightly or much. Besides, a part may be missing at one end (along
    the slices, or along the longest axis, where the canal part lies), a blob may leak out of the
    outline, be taken out of it or out of the middle (a cyst), or lie apart. One in 12 tumors is
    missed altogether. For an empty label the only error is a blob, in half of the draws.
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    mask = label.astype(bool)
    box = bounding_box(mask)
    if box is None:
        return _spurious(mask, spacing, 2.0, rng) if rng.random() < 0.5 else ()
    if rng.random() < 1 / 12:
        return (Missing(),)
    voxels = np.argwhere(mask[box]) + [side.start for side in box]
    points = voxels * spacing
    # Of a disk in 2D, of a ball in 3D: both within a tenth of this.
    radius = 0.6 * float((len(points) * spacing.prod()) ** (1 / label.ndim))
    steps: list[Step] = []
    while not steps:
        if rng.random() < 0.25:
            steps.append(_cutoff(points, rng))
        if rng.random() < 0.7:
            limit = rng.uniform(0.1, 1.0) * min(1.0, radius / FULL_RADIUS_MM)
            sigma = ELASTIC_SIGMA_PX * PIXEL_MM * rng.uniform(1.0, 2.0)
            steps.append(draw_deformation(label.ndim, rng, limit, PIXEL_MM, sigma))
        outline = np.argwhere(mask[box] & ~ndimage.binary_erosion(mask[box]))
        outline_points = (outline + [side.start for side in box]) * spacing
        for share, centers, largest, is_added in (
            (0.3, outline_points, 0.8, True),  # leak
            (0.3, outline_points, 0.7, False),  # dent
            (0.1, points, 0.6, False),  # hole
        ):
            if rng.random() < share:
                center = tuple(rng.choice(centers).tolist())
                size = rng.uniform(0.2, largest) * radius
                steps.append(_ellipsoid(center, size, is_added, rng))
        if rng.random() < 0.1:
            steps.extend(_spurious(mask, spacing, radius, rng))
    return tuple(steps)


def draw_deformation(
    axes: int,
    rng: np.random.Generator,
    strength: float = 1.0,
    pixel: float = 1.0,
    sigma: float = ELASTIC_SIGMA_PX,
) -> Deformation:
    """Draw a deformation, uniformly up to ``strength`` times the limits of this module.

    At full strength blobs of some 20 pixels keep a mean Dice of about 0.75 with what they were,
    as the errors of a published initial network do.

    Args:
        axes: 2 or 3.
        rng: draws everything.
        strength: 0 to 1.
        pixel: length of one pixel in the unit of the spacing it will be applied with.
        sigma: of the bending, in that unit.
    """
    angles = 1 if axes == 2 else 3
    rotation = rng.uniform(-1, 1, angles) * ROTATION_DEG * strength
    scale = 1 + rng.uniform(-1, 1, axes) * SCALE * strength
    shift = rng.uniform(-1, 1, axes) * SHIFT_PX * pixel * strength
    elastic = float(rng.uniform(0, 1) * ELASTIC_PX * pixel * strength)
    seed = int(rng.integers(2**32))
    return Deformation(
        tuple(rotation.tolist()), tuple(scale.tolist()), tuple(shift.tolist()), elastic, sigma, seed
    )


def _cutoff(points: Floats, rng: np.random.Generator) -> Cutoff:
    """Draw a plane that leaves 40 to 95 % of the points: across the slices, or across the length.

    Directions are tilted by some 10 degrees.
    """
    axes = points.shape[1]
    if rng.random() < 0.5:
        normal = np.eye(axes)[-1]
    else:
        _, _, directions = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
        normal = directions[0]
    normal = normal * rng.choice([-1.0, 1.0]) + rng.normal(0, 0.1, axes)
    normal /= np.linalg.norm(normal)
    offset = float(np.quantile(points @ normal, rng.uniform(0.4, 0.95)))
    return Cutoff(tuple(normal.tolist()), offset)


def _ellipsoid(
    center: tuple[float, ...], size: float, is_added: bool, rng: np.random.Generator
) -> Ellipsoid:
    axes = len(center)
    radii = size * np.exp(rng.uniform(-0.5, 0.5, axes))
    rotation = rng.uniform(-90, 90, 1 if axes == 2 else 3)
    return Ellipsoid(center, tuple(radii.tolist()), tuple(rotation.tolist()), is_added)


def _spurious(
    mask: Mask, spacing: Floats, radius: float, rng: np.random.Generator
) -> tuple[Step, ...]:
    """Draw a blob that does not touch the mask; none if ten places are all taken."""
    for _ in range(10):
        center = rng.uniform(0, np.array(mask.shape) - 1) * spacing
        blob = _ellipsoid(tuple(center.tolist()), rng.uniform(0.3, 0.8) * radius, True, rng)
        box, inside = blob.voxels(mask.shape, spacing)
        if inside.any() and not mask[grown(box, 1, mask.shape)].any():
            return (blob,)
    return ()
