"""Simulated errors of a segmentation, to train correction before real errors are at hand.

Every error is drawn first, as a few numbers, and then applied without chance: what was drawn can
be looked at, stored and applied again. Masks are 0/1 arrays of two or three axes. Lengths are in
the unit of ``spacing``: mm, or pixels with a spacing of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = [
    "Cutoff",
    "Deformation",
    "Ellipsoid",
    "Missing",
    "Step",
    "deformed_mistake",
    "draw_deformation",
    "draw_mistake",
    "mistaken",
    "morphological_mistake",
]

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

ROTATION_DEG = 20.0
SCALE = 0.3
SHIFT_PX = 3.5
ELASTIC_PX = 5.0
ELASTIC_SIGMA_PX = 5.0
PIXEL_MM = 0.45
"""Pixel size for which the limits in pixels hold; turns them into mm for volumes."""

FULL_RADIUS_MM = 6.0
"""Errors of a smaller tumor shrink with it; 6 mm is a ball of 0.9 ml."""


class Step(Protocol):
    """One error with its numbers fixed."""

    def apply(self, mask: Mask, spacing: Floats) -> Mask:
        """Return the mask with this error; the mask given is not changed."""


@dataclass(frozen=True)
class Deformation:
    """The mask turned, scaled and moved about its center of mass, then bent.

    Attributes:
        rotation_deg: one angle in 2D; in 3D one about each of I, J and K, applied in this order.
        scale: factor along each axis; 1 leaves the size.
        shift: along each axis.
        elastic: length of the longest displacement of the bending; 0 for none.
        sigma: of the Gaussians that the bending is a sum of.
        seed: of the bending.
    """

    rotation_deg: tuple[float, ...]
    scale: tuple[float, ...]
    shift: tuple[float, ...]
    elastic: float
    sigma: float
    seed: int

    def apply(self, mask: Mask, spacing: Floats) -> Mask:
        """Return the deformed mask: linear interpolation, cut at one half."""
        deformed = np.zeros_like(mask)
        box = _bounding_box(mask)
        if box is None:
            return deformed
        extent = np.array([side.stop - side.start for side in box]) * spacing
        growth = max(self.scale) - 1 + np.sin(np.deg2rad(np.abs(self.rotation_deg).max()))
        margin = np.abs(self.shift).max() + self.elastic + 0.6 * extent.max() * max(growth, 0)
        box = _grown(box, np.ceil(margin / spacing).astype(int) + 1, mask.shape)
        source = mask[box]
        axes = np.meshgrid(
            *(n * size for n, size in zip(map(np.arange, source.shape), spacing, strict=True)),
            indexing="ij",
            sparse=True,
        )
        center = np.array(ndimage.center_of_mass(source)) * spacing
        # Target to source: the inverse of "scale, then turn, then move".
        inverse = np.diag(1 / np.array(self.scale)) @ _rotation(self.rotation_deg).T
        moved = [axis - c - s for axis, c, s in zip(axes, center, self.shift, strict=True)]
        bend = self._bend(source.shape, spacing)
        at = np.empty((mask.ndim, *source.shape), dtype=np.float32)
        for row in range(mask.ndim):
            at[row] = sum(inverse[row, n] * moved[n] for n in range(mask.ndim)) + center[row]
            at[row] = (at[row] + bend[row]) / spacing[row]
        values = ndimage.map_coordinates(source.astype(np.float32), at, order=1, mode="nearest")
        deformed[box] = values >= 0.5
        return deformed

    def _bend(self, shape: tuple[int, ...], spacing: Floats) -> NDArray[np.float32]:
        """Return displacements ``(D, *shape)``: Gaussians on a grid of knots one sigma apart."""
        if not self.elastic:
            return np.zeros((len(shape), *([1] * len(shape))), dtype=np.float32)
        rng = np.random.default_rng(self.seed)
        rows = []
        for size, step in zip(shape, spacing, strict=True):
            knots = np.arange(-2 * self.sigma, (size - 1) * step + 3 * self.sigma, self.sigma)
            gaps = np.arange(size)[:, None] * step - knots
            rows.append(np.exp(-0.5 * (gaps / self.sigma) ** 2).astype(np.float32))
        bend = rng.normal(size=(len(shape), *(row.shape[1] for row in rows))).astype(np.float32)
        for axis, row in enumerate(rows, start=1):
            bend = np.moveaxis(np.tensordot(bend, row, axes=(axis, 1)), -1, axis)
        longest = np.sqrt((bend**2).sum(axis=0).max())
        return np.asarray(bend * np.float32(self.elastic / longest))


@dataclass(frozen=True)
class Ellipsoid:
    """A blob that is added (leak, second tumor) or taken away (dent, hole).

    Attributes:
        center: distance from voxel 0 along each axis.
        radii: half axes, before the rotation.
        rotation_deg: as in `Deformation`.
        is_added: whether the blob becomes tumor.
    """

    center: tuple[float, ...]
    radii: tuple[float, ...]
    rotation_deg: tuple[float, ...]
    is_added: bool

    def apply(self, mask: Mask, spacing: Floats) -> Mask:
        """Return the mask with the blob set or cleared."""
        changed = mask.copy()
        box, inside = self.voxels(mask.shape, spacing)
        changed[box][inside] = self.is_added
        return changed

    def voxels(self, shape: tuple[int, ...], spacing: Floats) -> tuple[tuple[slice, ...], Mask]:
        """Return a box of an image of that shape, and which of its voxels are in the blob."""
        low = np.floor((np.array(self.center) - max(self.radii)) / spacing).astype(int)
        high = np.ceil((np.array(self.center) + max(self.radii)) / spacing).astype(int) + 1
        box = tuple(
            slice(*np.clip(side, 0, size)) for *side, size in zip(low, high, shape, strict=True)
        )
        index = np.stack(
            np.meshgrid(*(np.arange(side.start, side.stop) for side in box), indexing="ij"), -1
        )
        along = (index * spacing - self.center) @ _rotation(self.rotation_deg) / self.radii
        return box, (along**2).sum(axis=-1) <= 1


@dataclass(frozen=True)
class Cutoff:
    """Everything beyond a plane is missed: the canal part, the last slices.

    Attributes:
        normal: unit vector out of what is kept.
        offset: of the plane along the normal, from voxel 0.
    """

    normal: tuple[float, ...]
    offset: float

    def apply(self, mask: Mask, spacing: Floats) -> Mask:
        """Return the mask on this side of the plane."""
        kept = mask.copy()
        where = np.argwhere(mask)
        beyond = where[where * spacing @ np.array(self.normal) > self.offset]
        kept[tuple(beyond.T)] = False
        return kept


@dataclass(frozen=True)
class Missing:
    """The whole tumor is missed."""

    def apply(self, mask: Mask, spacing: Floats) -> Mask:  # noqa: ARG002  # a step's signature
        """Return an empty mask."""
        return np.zeros_like(mask)


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
    outline, be taken out of it or out of the middle (a cyst), or lie apart. One in 30 tumors is
    missed altogether. For an empty label the only error is a blob, in half of the draws.
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    mask = label.astype(bool)
    box = _bounding_box(mask)
    if box is None:
        return _spurious(mask, spacing, 2.0, rng) if rng.random() < 0.5 else ()
    if rng.random() < 1 / 30:
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


def deformed_mistake(
    label: NDArray[Any], rng: np.random.Generator, unchanged: float = 0.2
) -> NDArray[Any]:
    """Return a 2D mask ``(H, W)`` deformed by up to the limits in pixels, some left as they are."""
    if rng.random() < unchanged:
        return label.copy()
    step = draw_deformation(2, rng)
    return step.apply(label.astype(bool), np.ones(2)).astype(label.dtype)


def morphological_mistake(
    label: NDArray[Any],
    rng: np.random.Generator,
    unchanged: float = 0.2,
    max_iterations: int = 5,
) -> NDArray[Any]:
    """Return a 2D mask ``(H, W)`` dilated or eroded: the published simulation of errors.

    Up to one iteration for every three pixels of the radius is drawn, and an erosion stops before
    nothing is left; a mask too thin for any is dilated. The edge of the cut does not erode. The
    method's text gives no numbers of iterations; these are ours.

    Args:
        label: 0/1; an empty one is returned as it is.
        rng: draws all.
        unchanged: share of the masks that are returned as they are.
        max_iterations: of large masks.
    """
    mask = label.astype(bool)
    if rng.random() < unchanged or not mask.any():
        return label.copy()
    radius_px = np.sqrt(mask.sum() / np.pi)
    limit = int(np.clip(radius_px / 3, 1, max_iterations))
    iterations = int(rng.integers(1, limit, endpoint=True))
    if rng.random() < 0.5:
        for fewer in range(iterations, 0, -1):
            eroded = ndimage.binary_erosion(mask, iterations=fewer, border_value=1)
            if eroded.any():
                return np.asarray(eroded).astype(label.dtype)
        iterations = 1
    dilated = ndimage.binary_dilation(mask, iterations=iterations)
    return np.asarray(dilated).astype(label.dtype)


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
        if inside.any() and not mask[_grown(box, np.ones(mask.ndim, int), mask.shape)].any():
            return (blob,)
    return ()


def _rotation(angles_deg: tuple[float, ...]) -> Floats:
    """Return the matrix that turns about I, then J, then K; or in the plane for one angle."""
    matrix = np.eye(2 if len(angles_deg) == 1 else 3)
    planes = [(0, 1)] if len(angles_deg) == 1 else [(1, 2), (2, 0), (0, 1)]
    for (a, b), angle in zip(planes, np.deg2rad(angles_deg), strict=True):
        turn = np.eye(len(matrix))
        turn[[a, b], [a, b]] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def _bounding_box(mask: Mask) -> tuple[slice, ...] | None:
    """Return the smallest box around the mask, or None if it is empty."""
    box = [slice(0, n) for n in mask.shape]
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        used = np.flatnonzero(mask[tuple(box)].any(axis=others))
        if not used.size:
            return None
        box[axis] = slice(int(used[0]), int(used[-1]) + 1)
    return tuple(box)


def _grown(
    box: tuple[slice, ...], margin: NDArray[np.int64], shape: tuple[int, ...]
) -> tuple[slice, ...]:
    return tuple(
        slice(max(side.start - int(more), 0), min(side.stop + int(more), size))
        for side, more, size in zip(box, margin, shape, strict=True)
    )
