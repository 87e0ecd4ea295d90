"""The only module that converts between voxel indices, patient coordinates and axis orders.

IJK: voxel indices in array order; integers lie at voxel *centers*.
RAS: millimeters in the patient frame of NIfTI, MONAI and 3D Slicer (right, anterior, superior).
LPS: millimeters in the patient frame of DICOM and ITK (left, posterior, superior).
An affine is 4x4, maps IJK to RAS, and is named for that: ``affine`` without a suffix is IJK to RAS.
Canonical: the axes of an array permuted and flipped, without resampling, so that I, J and K run
closest to right, anterior and superior. Planes of constant canonical K are the axial ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from nibabel import orientations
from numpy.typing import ArrayLike, NDArray

SMALLEST_VOXEL_ML = 1e-12
"""An affine whose voxels are smaller than this is taken for singular."""

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Flips the first two axes; its own inverse, so it also maps LPS to RAS."""


def ijk_to_ras(points_ijk: ArrayLike, affine: ArrayLike) -> NDArray[np.float64]:
    """Map voxel indices ``(N, 3)`` to RAS coordinates ``(N, 3)`` in mm.

    Raises:
        ValueError: if a coordinate is not finite.
    """
    points, matrix = _as_points(points_ijk), np.asarray(affine, dtype=float)
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def ras_to_ijk(points_ras: ArrayLike, affine: ArrayLike) -> NDArray[np.float64]:
    """Map RAS coordinates ``(N, 3)`` in mm to continuous voxel indices ``(N, 3)``.

    Raises:
        ValueError: if a coordinate is not finite.
    """
    return ijk_to_ras(points_ras, np.linalg.inv(np.asarray(affine, dtype=float)))


def spacing_mm(affine: ArrayLike) -> NDArray[np.float64]:
    """Return the voxel size ``(3,)`` in mm along I, J and K."""
    return np.asarray(np.linalg.norm(np.asarray(affine, dtype=float)[:3, :3], axis=0))


def voxel_ml(affine: ArrayLike) -> float:
    """Return the volume of one voxel in ml."""
    return float(abs(np.linalg.det(np.asarray(affine, dtype=float)[:3, :3]))) / 1000


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an image lie: its shape ``(I, J, K)`` and its affine (IJK to RAS, mm)."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Refuse what is not a grid; a constructed one can be trusted.

        Raises:
            ValueError: if the shape is not three positive sizes, or the affine not invertible.
        """
        if np.shape(self.shape) != (3,) or min(self.shape) < 1:
            raise ValueError(f"a grid has three axes of at least one voxel, got {self.shape}")
        affine = np.array(self.affine, dtype=float)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError(f"an affine is 4x4 and finite, got {affine.tolist()}")
        if voxel_ml(affine) < SMALLEST_VOXEL_ML:
            raise ValueError(f"an affine must be invertible, got {affine[:3].round(6).tolist()}")
        affine.flags.writeable = False
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        """Tell whether both grids have the same voxels, to 1e-4 mm."""
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and np.allclose(self.affine, other.affine, atol=1e-4)

    __hash__ = None  # type: ignore[assignment]  # equality is up to a tolerance

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Voxel size ``(3,)`` in mm along I, J and K."""
        return spacing_mm(self.affine)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml."""
        return voxel_ml(self.affine)

    @cached_property
    def _orientation(self) -> NDArray[np.float64]:
        return np.asarray(orientations.io_orientation(self.affine))

    @cached_property
    def canonical(self) -> Grid:
        """The same voxels with axes in canonical order."""
        back = orientations.inv_ornt_aff(self._orientation, self.shape)
        order = np.argsort(self._orientation[:, 0])
        shape = tuple(self.shape[axis] for axis in order)
        return Grid(shape, self.affine @ back)  # type: ignore[arg-type]

    def to_canonical(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return ``(I, J, K)`` of this grid as a view in canonical order."""
        self._check(array, self.shape)
        return np.asarray(orientations.apply_orientation(array, self._orientation))

    def to_stored(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a canonical ``(I, J, K)`` array as a view in the order of this grid."""
        self._check(array, self.canonical.shape)
        order = self._orientation[:, 0].astype(int)
        flips = self._orientation[:, 1][np.argsort(order)]
        flipped = array[tuple(slice(None, None, int(step)) for step in flips)]
        return flipped.transpose(order)

    def as_written(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a copy of a canonical array; its stored order lies in memory as in files.

        Writing such an array copies nothing: 9 ms less for a mask of 448x448x80.
        """
        return self.to_canonical(self.to_stored(array).copy(order="F"))

    def _check(self, array: NDArray[Any], shape: tuple[int, ...]) -> None:
        if array.shape != shape:
            raise ValueError(f"an array of shape {shape} was wanted, got {array.shape}")


def _as_points(points: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(points, dtype=float).reshape(-1, 3)
    if not np.isfinite(array).all():
        raise ValueError(f"points must be finite, but are {array.tolist()}")
    return array
