"""Choose scan grids and turn a scene into what a scanner stores."""

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial.transform import Rotation

from clickseg.geometry import Grid
from clickseg.phantom.details import Tube
from clickseg.phantom.fields import Array, Lattice, Points, capsule_chain, enlarge, smooth_noise

KNOWN_GRIDS: dict[str, tuple[tuple[float, float, float], float]] = {
    "448x448x80": ((0.5, 0.5, 1.5), 0.4),
    "384x384x40": ((0.55, 0.55, 1.5), 0.2),
    "256x256x60": ((0.8, 0.8, 1.5), 0.08),
    "320x320x64": ((0.68, 0.68, 1.2), 0.08),
    "512x512x44": ((0.43, 0.43, 1.5), 0.08),
    "240x240x20": ((0.82, 0.82, 1.5), 0.08),
    "208x208x28": ((0.94, 0.94, 1.5), 0.08),
}
"""Voxel size in mm and share of the mixture; the first two are those of the public data set, the
last two thin slabs."""
MIXED = "mixed"


def check_grid(name: str) -> None:
    """Refuse what names no grid.

    Raises:
        ValueError: if the name is not ``mixed`` or three sizes of at least 16, 16 and 4 voxels.
    """
    found = re.fullmatch(r"(\d+)x(\d+)x(\d+)", name)
    if name == MIXED:
        return
    if not found:
        raise ValueError(f"a grid is {MIXED!r} or voxels as in 448x448x80; got {name!r}")
    shape = [int(n) for n in found.groups()]
    if min(shape[:2]) < 16 or shape[2] < 4 or max(shape) > 1024:
        raise ValueError(f"a grid has 16x16x4 to 1024x1024x1024 voxels; got {name}")


def choose_grid(
    name: str, rng: np.random.Generator
) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Return shape and voxel size (mm) of a grid such as ``448x448x80``, or of the mixture."""
    check_grid(name)
    if name == MIXED:
        shares = np.array([share for _, share in KNOWN_GRIDS.values()])
        name = str(rng.choice(list(KNOWN_GRIDS), p=shares / shares.sum()))
    shape = tuple(int(n) for n in name.split("x"))
    if name in KNOWN_GRIDS:
        return shape, np.array(KNOWN_GRIDS[name][0])  # type: ignore[return-value]
    in_plane = float(np.clip(196 / max(shape[:2]), 0.4, 0.95))
    return shape, np.array([in_plane, in_plane, 1.5])  # type: ignore[return-value]


def axial_grid(
    shape: tuple[int, int, int], spacing: NDArray[np.float64], center_ras: NDArray[np.float64]
) -> Grid:
    """Return an axial grid stored as LPS around a center."""
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = center_ras - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def t2_grid(
    t1ce: Grid, kind: str, target_ras: NDArray[np.float64], rng: np.random.Generator
) -> Grid:
    """Return the grid of the T2: the ``same``, a thin ``slab`` or an ``oblique`` one."""
    if kind == "same":
        return t1ce
    size_mm = np.array(t1ce.shape) * t1ce.spacing_mm
    ratio = rng.uniform(0.8, 1.25)
    spacing = t1ce.spacing_mm * [ratio, ratio, 1]
    spacing[2] = rng.uniform(0.7, 1.0) * t1ce.spacing_mm[2]
    cover = np.array([rng.uniform(0.85, 1.0)] * 2 + [rng.uniform(0.6, 0.9)]) * size_mm
    shape = tuple(int(n) for n in np.ceil(cover / spacing))
    middle = t1ce.affine[:3, :3] @ ((np.array(t1ce.shape) - 1) / 2) + t1ce.affine[:3, 3]
    middle[2] += np.clip(target_ras[2] - middle[2], -1, 1) * (size_mm[2] - cover[2]) / 2
    grid = axial_grid(shape, spacing, middle)  # type: ignore[arg-type]
    affine = np.array(grid.affine)
    if kind == "oblique":
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_euler(
            "xyz", rng.normal(0, (5, 2, 2)), degrees=True
        ).as_matrix()
        shift = np.eye(4)
        shift[:3, 3] = middle
        affine = shift @ turn @ np.linalg.inv(shift) @ affine
    if rng.random() < 0.3:  # stored front to back the other way round
        flip = np.diag([1.0, -1.0, 1.0, 1.0])
        flip[1, 3] = shape[1] - 1
        affine = affine @ flip
    return Grid(shape, affine)  # type: ignore[arg-type]


def resample_scene(
    scene: Array, from_grid: Grid, to_grid: Grid, shift_mm: NDArray[np.float64]
) -> Array:
    """Interpolate the coarse scene at the voxels of a scan, moved by ``shift_mm``."""
    m = np.linalg.inv(from_grid.affine) @ to_grid.affine
    offset = m[:3, 3] + np.linalg.inv(from_grid.affine)[:3, :3] @ shift_mm
    diagonal = np.diag(m[:3, :3])
    if np.allclose(m[:3, :3], np.diag(diagonal), atol=1e-6):
        out = scene
        for axis in (2, 0, 1):
            at = offset[axis] + diagonal[axis] * np.arange(to_grid.shape[axis])
            at = np.clip(at, 0, scene.shape[axis] - 1.001)
            low = at.astype(int)
            weight = (at - low).astype(np.float32)
            weight = weight.reshape([-1 if a == axis else 1 for a in range(3)])
            first = np.take(out, low, axis)
            second = np.take(out, low + 1, axis)
            second -= first
            second *= weight
            second += first
            out = second
        return out
    return np.asarray(
        ndi.affine_transform(
            scene, m[:3, :3], offset, to_grid.shape, order=1, mode="nearest", prefilter=False
        ),
        np.float32,
    )


class Scan:
    """One sequence on its grid; thin things are drawn onto it at full resolution."""

    def __init__(
        self, image: Array, grid: Grid, shift_mm: NDArray[np.float64], channel: int
    ) -> None:
        """Take an image that is to be drawn on; ``channel`` 0 is T1ce, 1 is T2."""
        self.image, self.grid, self.shift_mm, self.channel = image, grid, shift_mm, channel
        self._inverse = np.linalg.inv(grid.affine)

    def _box(
        self, low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> list[tuple[int, int]] | None:
        corners = (
            np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T - self.shift_mm
        )
        ijk = corners @ self._inverse[:3, :3].T + self._inverse[:3, 3]
        start = np.maximum(np.floor(ijk.min(0)), 0).astype(int)
        stop = np.minimum(np.ceil(ijk.max(0)) + 1, self.grid.shape).astype(int)
        if (start >= stop).any():
            return None
        return list(zip(start.tolist(), stop.tolist(), strict=True))

    def _layers(self, box: list[tuple[int, int]]) -> Iterator[Points]:
        """Go through the positions of a box, at two depths a voxel where slices are thick."""
        thick = self.grid.spacing_mm[2] > 1.1
        for depth in (-0.25, 0.25) if thick else (0.0,):
            i, j, k = (
                np.arange(a, b, dtype=np.float32).reshape(
                    [-1 if n == axis else 1 for n in range(3)]
                )
                for axis, (a, b) in enumerate(box)
            )
            k = k + np.float32(depth)
            rows = []
            for r in range(3):
                m = self.grid.affine[r].astype(np.float32)
                terms = [t * c for t, c in zip((i, j, k), m[:3], strict=True) if c != 0]
                rows.append(sum(terms[1:], terms[0]) + (m[3] + np.float32(self.shift_mm[r])))
            yield rows[0], rows[1], rows[2]

    def draw_tube(self, tube: Tube) -> None:
        """Draw a tube whose path is in scanner RAS mm."""
        value = np.float32(tube.tissue[self.channel])
        edge = np.float32(0.35 + 0.25 * self.grid.spacing_mm[0])
        n = len(tube.path) - 1
        for start in range(0, n, 3):
            path = tube.path[start : start + 4]
            radii = tube.radii_mm[start : start + 4]
            reach = max(radii) + 1
            box = self._box(path.min(0) - reach, path.max(0) + reach)
            if box is None:
                continue
            layers = [
                np.clip(0.5 - capsule_chain(p, path, radii) / (2 * edge), 0, 1)
                for p in self._layers(box)
            ]
            self._blend(box, sum(layers[1:], layers[0]) / np.float32(len(layers)), value)

    def sample(
        self, lattices: list[tuple[Lattice, float]]
    ) -> tuple[list[tuple[int, int]], list[Array]] | None:
        """Return a box around lattices that share their place, and their values there."""
        first = lattices[0][0]
        high = first.origin_ras + first.spacing_mm * (np.array(first.values.shape) - 1)
        box = self._box(first.origin_ras, high)
        if box is None:
            return None
        sums: list[Array] = []
        layers = list(self._layers(box))
        for lattice, outside in lattices:
            parts = [lattice.at(p, outside) for p in layers]
            sums.append(np.asarray(sum(parts[1:], parts[0]) / np.float32(len(parts)), np.float32))
        return box, sums

    def blend(self, box: list[tuple[int, int]], alpha: Array, value: Array | float) -> None:
        """Blend a value in."""
        self._blend(box, alpha, value)

    def _blend(
        self, box: list[tuple[int, int]], alpha: Array, value: Array | np.float32 | float
    ) -> None:
        part = self.image[tuple(slice(a, b) for a, b in box)]
        part += (alpha * (np.asarray(value, np.float32) - part)).astype(np.float32)


def acquire(image: Array, grid: Grid, noise: float, rng: np.random.Generator) -> NDArray[np.int16]:
    """Add uneven coil sensitivity and Rician noise, scale as a scanner does; round."""
    spacing = grid.spacing_mm
    step = np.maximum(1, np.floor(8 / spacing)).astype(int)
    small = [int(np.ceil(n / s)) + 2 for n, s in zip(grid.shape, step, strict=True)]
    bias = smooth_noise(rng, small, tuple(60 / (spacing * step)))
    gain = np.exp(bias * np.float32(rng.uniform(0.03, 0.1))) * np.float32(1)
    out = image * enlarge(gain, grid.shape, tuple(step))
    np.maximum(out, 0, out=out)
    level = np.float32(noise)
    part = rng.standard_normal(grid.shape, dtype=np.float32)
    part *= level
    out += part
    out *= out
    part = rng.standard_normal(grid.shape, dtype=np.float32)
    part *= level
    part *= part
    out += part
    np.sqrt(out, out=out)
    out *= np.float32(rng.uniform(250, 700))
    np.clip(out, 0, 4095, out=out)
    return np.asarray(np.rint(out, out=out), np.int16)
