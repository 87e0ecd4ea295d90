"""Place a standard head in the scanner: turned, scaled, and bent smoothly."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial.transform import Rotation

from clickseg.phantom.fields import Array, Points, smooth_noise

STEP_MM = 5.0
HALF_MM = 185.0
BENDS = ((22.0, (1.2, 2.6)), (8.0, (0.5, 0.9)))
"""Distance over which the bending changes, and by how much it bends, from and to (mm)."""


@dataclass(frozen=True, eq=False)
class Pose:
    """Where scanner RAS mm lie in the standard head: ``matrix @ (p - center) + anchor + bend``."""

    matrix: NDArray[np.float64]
    center_ras: NDArray[np.float64]
    anchor_head: NDArray[np.float64]
    bend_mm: Array
    """Displacement ``(3, n, n, n)`` every 5 mm around the center."""

    @staticmethod
    def draw(
        rng: np.random.Generator, center_ras: NDArray[np.float64], anchor_head: NDArray[np.float64]
    ) -> "Pose":
        """Draw a pose that brings the head position ``anchor_head`` to ``center_ras``."""
        turn = Rotation.from_euler("xyz", rng.normal(0, (3.5, 3, 4.5)), degrees=True)
        scale = rng.normal(1, 0.03) * (1 + rng.normal(0, 0.03, 3))
        count = int(2 * HALF_MM / STEP_MM) + 1
        bend = np.zeros((3, count, count, count), np.float32)
        for reach_mm, (least, most) in BENDS:
            amount = np.float32(rng.uniform(least, most))
            for axis in range(3):
                sigma = reach_mm / STEP_MM
                bend[axis] += amount * smooth_noise(rng, bend.shape[1:], (sigma,) * 3)
        middle = count // 2
        bend -= bend[:, middle, middle, middle][:, None, None, None]
        matrix = np.diag(1 / scale) @ turn.as_matrix()
        return Pose(matrix, center_ras, anchor_head, bend.astype(np.float32))

    def head_on(
        self,
        origin_ras: NDArray[np.float64],
        spacing_mm: NDArray[np.float64],
        shape: tuple[int, int, int],
    ) -> Points:
        """Return the head positions of a grid along the scanner's axes."""
        axes = [
            (origin_ras[a] + np.arange(shape[a]) * spacing_mm[a])
            .astype(np.float32)
            .reshape([-1 if a == b else 1 for b in range(3)])
            for a in range(3)
        ]
        # The bending is smooth: resample it separably, along one axis after the other.
        out = []
        for row in range(3):
            field = self.bend_mm[row]
            for a in range(3):
                at = (axes[a].ravel() - self.center_ras[a] + HALF_MM) / STEP_MM
                field = _sample_axis(field, at, a)
            for a in range(3):
                shift = self.anchor_head[row] / 3 - self.matrix[row, a] * self.center_ras[a]
                field += np.float32(self.matrix[row, a]) * axes[a] + np.float32(shift)
            out.append(field)
        return out[0], out[1], out[2]

    def to_head(self, points_ras: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map ``(N, 3)`` scanner positions into the standard head."""
        rel = np.atleast_2d(points_ras) - self.center_ras
        index = ((rel + HALF_MM) / STEP_MM).T
        bend = np.stack(
            [ndi.map_coordinates(b, index, order=1, mode="nearest") for b in self.bend_mm]
        )
        return np.asarray(rel @ self.matrix.T + self.anchor_head + bend.T)

    def to_scanner(self, points_head: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map ``(N, 3)`` positions in the standard head to scanner RAS (to about 0.01 mm)."""
        inverse = np.linalg.inv(self.matrix)
        points = np.atleast_2d(points_head)
        guess = (points - self.anchor_head) @ inverse.T + self.center_ras
        for _ in range(8):
            guess = guess + (points - self.to_head(guess)) @ inverse.T
        return np.asarray(guess)


def _sample_axis(field: Array, at: NDArray[np.float64], axis: int) -> Array:
    """Interpolate linearly along one axis at any places."""
    at = np.clip(at, 0, field.shape[axis] - 1.001)
    low = at.astype(int)
    weight = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    first = np.take(field, low, axis)
    second = np.take(field, low + 1, axis)
    return np.asarray(first + weight * (second - first), np.float32)
