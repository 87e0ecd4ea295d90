"""Paint tissues onto two sequences at once, later over earlier."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clickseg.phantom.contrast import Tissue
from clickseg.phantom.fields import (
    Array,
    Points,
    capsule_chain,
    coverage,
    ellipsoid,
    enlarge,
    smooth_noise,
)

Shape = Callable[[Points], Array]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Canvas:
    """T1ce and T2 of ``(I, J, K)`` voxels and where each lies in the standard head, in mm."""

    t1ce: Array
    t2: Array
    head: Points
    edge_mm: float
    pitch_mm: float
    rough_box: tuple[Array, Array, Array]
    """The same coordinates every 8 voxels, to find boxes quickly."""

    @staticmethod
    def blank(head: Points, pitch_mm: float) -> "Canvas":
        """Return an empty canvas."""
        zeros = np.zeros(head[0].shape, np.float32)
        rough = tuple(np.ascontiguousarray(h[::8, ::8, ::8]) for h in head)
        return Canvas(zeros, zeros.copy(), head, 0.55 * max(pitch_mm, 0.8), pitch_mm, rough)  # type: ignore[arg-type]

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...], sigma_mm: float) -> Array:
        """Return noise of unit variance, smooth over ``sigma_mm`` in plane and across."""
        across = sigma_mm / max(self.pitch_mm, 1.2)
        return smooth_noise(rng, shape, (sigma_mm / self.pitch_mm,) * 2 + (across,))

    def whole(self, shape: Shape) -> Array:
        """Evaluate a large smooth shape everywhere, on every second voxel."""
        half = shape(tuple(h[::2, ::2, ::2] for h in self.head))  # type: ignore[arg-type]
        return enlarge(half, self.t1ce.shape, (2, 2, 2))

    def box(self, center: Sequence[float], reach: Sequence[float]) -> Box | None:
        """Return the box of voxels around a head position, or None if it is outside."""
        near = np.ones(self.rough_box[0].shape, bool)
        for axis in range(3):
            near &= np.abs(self.rough_box[axis] - center[axis]) < reach[axis] + 12
        if not near.any():
            return None
        slices = []
        for axis in range(3):
            along = np.flatnonzero(near.any(axis=tuple(a for a in range(3) if a != axis)))
            start, stop = 8 * (int(along[0]) - 1), 8 * (int(along[-1]) + 2)
            slices.append(slice(max(0, start), min(self.t1ce.shape[axis], stop)))
        return slices[0], slices[1], slices[2]

    def points(self, box: Box) -> Points:
        """Return the head positions in a box."""
        x, y, z = (h[box] for h in self.head)
        return x, y, z

    def fill(self, alpha: Array, tissue: Tissue, box: Box | None = None) -> None:
        """Blend a tissue in where ``alpha`` says."""
        where = box or (slice(None),) * 3
        for image, value in ((self.t1ce, tissue[0]), (self.t2, tissue[1])):
            part = image[where]
            part += alpha * (np.float32(value) - part)

    def paint(
        self,
        center: Sequence[float],
        reach: Sequence[float],
        shape: Shape,
        tissue: Tissue,
        opacity: float = 1.0,
    ) -> None:
        """Paint a shape that lies within ``reach`` mm of ``center``."""
        box = self.box(center, reach)
        if box is not None:
            alpha = coverage(shape(self.points(box)), self.edge_mm)
            self.fill(alpha * np.float32(opacity), tissue, box)

    def paint_ball(
        self,
        center: Sequence[float],
        radii: Sequence[float],
        tissue: Tissue,
        opacity: float = 1.0,
    ) -> None:
        """Paint an ellipsoid along the axes of the head."""
        self.paint(center, radii, lambda p: ellipsoid(p, center, radii), tissue, opacity)

    def paint_rod(
        self, path: NDArray[np.float64], radii_mm: Sequence[float], tissue: Tissue
    ) -> None:
        """Paint a chain of cones along a path ``(N, 3)``."""
        middle = (path.max(0) + path.min(0)) / 2
        reach = np.ptp(path, axis=0) / 2 + max(radii_mm)
        self.paint(list(middle), list(reach), lambda p: capsule_chain(p, path, radii_mm), tissue)


def sides() -> Iterator[float]:
    """Go through right and left."""
    yield 1.0
    yield -1.0
