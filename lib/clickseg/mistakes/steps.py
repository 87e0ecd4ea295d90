"""Errors with their numbers fixed: the same mask and step always give the same result.

Masks are boolean, of two or three axes. Lengths are in the unit of ``spacing``: mm, or pixels with
a spacing of 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clickseg.boxes import bounding_box, grown

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


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
        box = bounding_box(mask)
        if box is None:
            return deformed
        extent = np.array([side.stop - side.start for side in box]) * spacing
        growth = max(self.scale) - 1 + np.sin(np.deg2rad(np.abs(self.rotation_deg).max()))
        margin = np.abs(self.shift).max() + self.elastic + 0.6 * extent.max() * max(growth, 0)
        box = grown(box, np.ceil(margin / spacing).astype(int) + 1, mask.shape)
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
