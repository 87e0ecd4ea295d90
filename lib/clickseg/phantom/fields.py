"""Make smooth random fields and signed distances, the raw material of a phantom.

Signed distances are in mm and negative inside. Everything is float32.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

Array = NDArray[np.float32]
Points = tuple[Array, Array, Array]


def generator(*key: object) -> np.random.Generator:
    """Return a random generator that depends on the key alone, on every machine."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def enlarge(array: Array, shape: Sequence[int], step: Sequence[float]) -> Array:
    """Interpolate linearly so that output voxel n lies at input voxel n / step, per axis."""
    out = array
    for axis in range(3):
        if step[axis] == 1 and out.shape[axis] == shape[axis]:
            continue
        at = np.minimum(np.arange(shape[axis]) / step[axis], out.shape[axis] - 1.0)
        low = np.minimum(at.astype(int), max(out.shape[axis] - 2, 0))
        high = np.minimum(low + 1, out.shape[axis] - 1)
        weight = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        first = np.take(out, low, axis)
        second = np.take(out, high, axis)
        second -= first
        second *= weight
        second += first
        out = second
    return np.asarray(out, np.float32)


def smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], sigma_vox: Sequence[float]
) -> Array:
    """Return Gaussian noise of unit variance, smooth over ``sigma_vox`` voxels per axis."""
    step = [max(1, int(s / 2)) for s in sigma_vox]
    small = [int(np.ceil(n / s)) + 2 for n, s in zip(shape, step, strict=True)]
    pad = [int(np.ceil(2 * s / k)) for s, k in zip(sigma_vox, step, strict=True)]
    noise = rng.standard_normal(
        [n + 2 * p for n, p in zip(small, pad, strict=True)], dtype=np.float32
    )
    sigmas = [s / k for s, k in zip(sigma_vox, step, strict=True)]
    noise = ndi.gaussian_filter(noise, sigmas)
    # The variance that a Gaussian filter leaves is known; a small field's own deviation is not it.
    noise *= np.float32(np.prod([np.sqrt(max(1.0, 2 * np.sqrt(np.pi) * s)) for s in sigmas]))
    noise = noise[tuple(slice(p, p + n) for p, n in zip(pad, small, strict=True))]
    return enlarge(noise, shape, step)


def ellipsoid(p: Points, center: Sequence[float], radii: Sequence[float]) -> Array:
    """Return nearly the signed distance to an ellipsoid (first-order, exact for a ball)."""
    q = [(p[a] - np.float32(center[a])) / np.float32(radii[a]) for a in range(3)]
    k0 = np.sqrt(q[0] ** 2 + q[1] ** 2 + q[2] ** 2)
    k1 = np.sqrt(sum((q[a] / np.float32(radii[a])) ** 2 for a in range(3)))
    return np.asarray(k0 * (k0 - 1) / np.maximum(k1, 1e-6), np.float32)


def capsule_chain(p: Points, path: NDArray[np.float64], radii_mm: Sequence[float]) -> Array:
    """Return the signed distance to a polyline ``(N, 3)`` in mm with a radius at each point."""
    best = np.full(np.broadcast_shapes(*(a.shape for a in p)), 1e3, np.float32)
    for start, stop, r0, r1 in zip(path[:-1], path[1:], radii_mm[:-1], radii_mm[1:], strict=True):
        axis = (stop - start).astype(np.float32)
        length2 = np.float32(max(float(axis @ axis), 1e-6))
        rel = [p[a] - np.float32(start[a]) for a in range(3)]
        t = np.clip((rel[0] * axis[0] + rel[1] * axis[1] + rel[2] * axis[2]) / length2, 0, 1)
        d2 = sum((rel[a] - t * axis[a]) ** 2 for a in range(3))
        best = np.minimum(best, np.sqrt(d2) - (np.float32(r0) + t * np.float32(r1 - r0)))
    return best


def smooth_min(a: Array, b: Array, width_mm: float) -> Array:
    """Unite two signed distances with a fillet of ``width_mm``."""
    h = np.maximum(width_mm - np.abs(a - b), 0) / np.float32(width_mm)
    return np.asarray(np.minimum(a, b) - h * h * np.float32(width_mm / 4), np.float32)


def smooth_max(a: Array, b: Array, width_mm: float) -> Array:
    """Intersect two signed distances with a fillet of ``width_mm``."""
    return -smooth_min(-a, -b, width_mm)


def coverage(sdf: Array, edge_mm: float) -> Array:
    """Return 0 outside to 1 inside over ``edge_mm`` on each side: the share of a voxel taken up."""
    return np.asarray(np.clip(0.5 - sdf / np.float32(2 * edge_mm), 0, 1), np.float32)


def curve(points: NDArray[np.float64], per_segment: int = 4) -> NDArray[np.float64]:
    """Return a smooth curve (Catmull-Rom) through ``(N, 3)`` points."""
    if len(points) < 3:
        return points
    ext = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    t = np.linspace(0, 1, per_segment, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(ext[:-3], ext[1:-2], ext[2:-1], ext[3:], strict=True):
        pieces.append(
            0.5
            * (
                2 * b
                + (c - a) * t
                + (2 * a - 5 * b + 4 * c - d) * t**2
                + (3 * b - a - 3 * c + d) * t**3
            )
        )
    return np.vstack([*pieces, points[-1:]])


@dataclass(frozen=True)
class Lattice:
    """Values on an axis-aligned lattice in RAS mm: ``values[0, 0, 0]`` lies at ``origin_ras``."""

    values: Array
    origin_ras: NDArray[np.float64]
    spacing_mm: NDArray[np.float64]

    def axes(self) -> Points:
        """Return the three coordinates in mm, ready to broadcast."""
        shapes = [(-1, 1, 1), (1, -1, 1), (1, 1, -1)]
        x, y, z = (
            (self.origin_ras[a] + np.arange(self.values.shape[a]) * self.spacing_mm[a])
            .astype(np.float32)
            .reshape(shapes[a])
            for a in range(3)
        )
        return x, y, z

    def at(self, points_ras: Points, outside: float) -> Array:
        """Interpolate linearly at RAS points; ``outside`` is the value beyond the lattice."""
        index = [
            (points_ras[a] - np.float32(self.origin_ras[a])) / np.float32(self.spacing_mm[a])
            for a in range(3)
        ]
        coords = np.stack(np.broadcast_arrays(*index))
        return np.asarray(
            ndi.map_coordinates(self.values, coords, order=1, cval=outside, prefilter=False),
            np.float32,
        )
