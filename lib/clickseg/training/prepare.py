"""Bring the studies of a training into memory: the tumor's surroundings, the rest coarse.

Per case about 5 MB are kept in place of 130: a region of a few cm at the fine spacing, two regions
without tumor, and the whole volume at the coarse spacing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from clickseg.boxes import bounding_box
from clickseg.cache import ByteCache, Fingerprints
from clickseg.cuts import Box, shrink
from clickseg.study import Case, placing_of, read_case_label, read_study
from clickseg.volume import ImageError

logger = logging.getLogger(__name__)

FAR_MM = 25.0
"""A bright place at least this far from the tumor's center is taken for a vessel or mucosa."""

SPECKS = 10
"""So many times smaller than the largest part of a label another part is none of the tumor."""

Size3 = tuple[int, int, int]
Spacing = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Prepared:
    """One labeled case. Images are float16 ``(2, I, J, K)``, labels uint8 ``(1, I, J, K)``.

    ``region`` surrounds the tumor, less specks of the label, at the fine spacing; ``empty`` are
    somewhat smaller regions without tumor (the mirrored place, a bright vessel); ``coarse`` is
    the whole volume.
    ``has_tumor`` is False for a tumor-free study: then ``region`` is one more empty place.
    ``affine`` brings voxels of the region to RAS mm.
    """

    case_id: str
    region: Tensor
    region_label: Tensor
    empty: tuple[Tensor, ...]
    coarse: Tensor
    coarse_label: Tensor
    has_tumor: bool
    affine: NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        """Size of the voxels in memory."""
        parts = (self.region, self.region_label, *self.empty, self.coarse, self.coarse_label)
        return sum(part.nbytes for part in parts)

    def middle(self, patch: Size3) -> Box:
        """Return a patch in the middle of the region, as in use around what was located."""
        i, j, k = (float(n // 2) for n in self.region.shape[1:])
        return Box((i, j, k), (1.0, 1.0, 1.0), patch)


_KEPT: ByteCache[Prepared] = ByteCache(512 << 20)
_FINGERPRINTS = Fingerprints()


def prepare_cases(
    cases: Sequence[Case], fine_mm: Spacing, region: Size3, coarse_mm: Spacing, seed: int
) -> list[Prepared]:
    """Read and shrink cases; one that cannot be read is reported and left out.

    What was prepared before, of the same files and in the same way, is not read again.

    Raises:
        ImageError: if none is left.
    """
    prepared = []
    for case in tqdm(cases, desc="reading", unit="study"):
        try:
            key = (*contents_of(case), fine_mm, region, coarse_mm, seed)
            one = _KEPT.get(key)
            if one is None:
                one = _prepare(case, fine_mm, region, coarse_mm, seed)
                _KEPT.put(key, one, one.nbytes)
            prepared.append(one)
        except ImageError as error:
            logger.warning("case %s is left out: %s", case.case_id, error)
    if not prepared:
        raise ImageError("no case with image and label is left to train on")
    return prepared


def contents_of(case: Case) -> tuple[str, ...]:
    """Name a case, what its files hold and how its T2 is placed.

    Raises:
        ImageError: if a file cannot be read.
    """
    files = (case.t1ce, case.t2, case.label)
    contents = ("" if path is None else _FINGERPRINTS(path) for path in files)
    return (case.case_id, *contents, placing_of(case.t1ce).key)


def _prepare(case: Case, fine_mm: Spacing, size: Size3, coarse_mm: Spacing, seed: int) -> Prepared:
    study = read_study(case.t1ce, case.t2)
    label = read_case_label(case, study.grid)
    image, mask = torch.from_numpy(study.image), torch.from_numpy(label)[None].float()
    spacing_mm = study.grid.canonical.spacing_mm
    rng = np.random.default_rng([seed, *case.case_id.encode()])
    voxels = _without_specks(label)
    bright = np.argwhere(study.image[0, ::4, ::4, ::2] > 2.0) * (4, 4, 2)
    has_tumor = len(voxels) > 0
    center = (voxels.min(0) + voxels.max(0)) / 2 if has_tumor else _pick(bright, rng, label.shape)
    far = bright[np.linalg.norm((bright - center) * spacing_mm, axis=1) > FAR_MM]
    places = [_mirrored(center, study.image[0]), _pick(far, rng, label.shape)]

    def take(volume: Tensor, place: NDArray[np.float64], shape: Size3 = size) -> Tensor:
        return Box.around(np.rint(place), spacing_mm, fine_mm, shape).take(volume)

    # Smaller, so that the mirrored place of a tumor near the midline does not hold it.
    i, j, k = (n * 5 // 6 for n in size)
    beside = (i, j, k)
    empty = [
        take(image, place, beside).half() for place in places if not take(mask, place, beside).any()
    ]
    region_label = (take(mask, center) > 0.5).byte()
    return Prepared(
        case.case_id,
        take(image, center).half(),
        region_label,
        tuple(empty),
        shrink(image, spacing_mm.tolist(), coarse_mm).half(),
        (shrink(mask, spacing_mm.tolist(), coarse_mm) > 0.3).byte(),
        bool(region_label.any()),  # a speck may lie between the voxels of the region
        Box.around(np.rint(center), spacing_mm, fine_mm, size).affine(study.grid.canonical.affine),
    )


def _without_specks(label: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the voxels ``(N, 3)`` of a label, less parts below a tenth of the largest.

    What a reader left elsewhere, often tens of mm away, must not move the region.
    """
    box = bounding_box(label)
    if box is None:
        return np.empty((0, 3), dtype=np.int64)
    parts, _ = ndimage.label(label[box], np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    large = 1 + np.flatnonzero(sizes * SPECKS >= sizes.max())
    return np.asarray(np.argwhere(np.isin(parts, large)) + [side.start for side in box])


def _mirrored(center: NDArray[np.float64], t1ce: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the place on the other side of the head."""
    tissue = np.flatnonzero((t1ce[:, ::4, ::2] > -0.5).any(axis=(1, 2)))
    middle = (tissue[0] + tissue[-1]) / 2 if len(tissue) else t1ce.shape[0] / 2
    return np.array([2 * middle - center[0], center[1], center[2]])


def _pick(
    points: NDArray[np.int64], rng: np.random.Generator, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return one of the voxels, or the middle of the volume where there are none."""
    place = points[rng.integers(len(points))] if len(points) else np.array(shape) / 2
    return np.asarray(place, dtype=float)
