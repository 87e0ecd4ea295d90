"""Take a box of fixed size in mm out of an image, and put what was computed there back.

A box is aligned with the axes of the canonical image, so positions on it are
``center_ijk + (n - size // 2) * step`` for box voxel ``n``: voxel ``size // 2`` is at the center,
also where the size is even. Where ``step`` is 1 the box voxels are image voxels and nothing is
interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from clickseg.boxes import Slices


@dataclass(frozen=True)
class Box:
    """``size`` voxels, ``step`` image voxels apart, around the point ``center_ijk`` of an image."""

    center_ijk: tuple[float, float, float]
    step: tuple[float, float, float]
    size: tuple[int, int, int]

    @classmethod
    def around(
        cls,
        center_ijk: Sequence[float] | NDArray[np.float64],
        image_spacing_mm: Sequence[float] | NDArray[np.float64],
        spacing_mm: Sequence[float],
        size: tuple[int, int, int],
    ) -> Box:
        """Make a box of voxels of ``spacing_mm`` around a point of an image."""
        i, j, k = (float(value) for value in center_ijk)
        step = [float(a / b) for a, b in zip(spacing_mm, image_spacing_mm, strict=True)]
        # A spacing that differs by rounding alone must not cost an interpolation.
        a, b, c = (1.0 if abs(value - 1) < 1e-3 else value for value in step)
        return cls((i, j, k), (a, b, c), size)

    def affine(self, image_affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what brings box voxels to where ``image_affine`` brings those of the image."""
        first = np.array(self.center_ijk) - np.array(self.size) // 2 * np.array(self.step)
        inside = np.diag([*self.step, 1.0])
        inside[:3, 3] = first
        return np.asarray(image_affine @ inside)

    def take(self, image: Tensor, mode: str = "bilinear") -> Tensor:
        """Return ``(C, *size)`` of a ``(C, I, J, K)`` image; beyond its edge the edge goes on."""
        axes = [
            center + (torch.arange(n, dtype=torch.float64) - n // 2) * step
            for center, step, n in zip(self.center_ijk, self.step, self.size, strict=True)
        ]
        return _sample(image, axes, mode, "border")

    def put_back(self, values: Tensor, shape: tuple[int, int, int]) -> tuple[Slices, Tensor]:
        """Bring ``(C, *size)`` of the box onto the voxels of the image that lie in it.

        Returns:
            Which voxels of an image of ``shape`` (possibly none), and ``(C, i, j, k)`` for them.
        """
        slices, axes = [], []
        for center, step, n, size in zip(self.center_ijk, self.step, shape, self.size, strict=True):
            first, last = center - size // 2 * step, center + (size - 1 - size // 2) * step
            start = int(np.clip(np.ceil(first - 1e-6), 0, n))
            stop = int(np.clip(np.floor(last + 1e-6) + 1, start, n))
            slices.append(slice(start, stop))
            voxels = torch.arange(start, stop, dtype=torch.float64)
            axes.append((voxels - center) / step + size // 2)
        return (slices[0], slices[1], slices[2]), _sample(values, axes, "bilinear", "border")


def _sample(image: Tensor, axes: list[Tensor], mode: str, padding: str) -> Tensor:
    """Sample ``(C, I, J, K)`` at the product of three axes of continuous voxel indices."""
    if min(len(axis) for axis in axes) == 0:
        return image.new_zeros((image.shape[0], *(len(axis) for axis in axes)))
    whole = [torch.round(axis) for axis in axes]
    if all(torch.equal(a, b) for a, b in zip(axes, whole, strict=True)):
        picked = image
        for dim, (axis, n) in enumerate(zip(whole, image.shape[1:], strict=True), start=1):
            index = axis.long().clamp(0, n - 1)
            first, last = int(index.min()), int(index.max())
            near = picked.narrow(dim, first, last - first + 1)  # a view: nothing else is copied
            if len(index) != near.shape[dim] or not _counts_up(index):
                near = near.index_select(dim, (index - first).to(image.device))
            picked = near
        return picked.clone(memory_format=torch.contiguous_format)  # never a view of the image
    scaled = [2 * axis / max(n - 1, 1) - 1 for axis, n in zip(axes, image.shape[1:], strict=True)]
    grid = torch.stack(torch.meshgrid(*scaled, indexing="ij")[::-1], dim=-1)
    return functional.grid_sample(
        image[None],
        grid[None].to(image),
        mode=mode,
        padding_mode=padding,
        align_corners=True,
    )[0]


def _counts_up(index: Tensor) -> bool:
    return bool((index[1:] - index[:-1] == 1).all())


def shrink(image: Tensor, spacing_mm: Sequence[float], wanted_mm: Sequence[float]) -> Tensor:
    """Bring a ``(C, I, J, K)`` image to about ``wanted_mm`` by averaging; ``area`` never aliases.

    The first and last voxels' outer faces stay where they are.
    """
    i, j, k = (
        max(1, round(n * a / b))
        for n, a, b in zip(image.shape[1:], spacing_mm, wanted_mm, strict=True)
    )
    return functional.adaptive_avg_pool3d(image[None], (i, j, k))[0]
