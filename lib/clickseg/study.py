"""One study as every part of the project sees it: read, brought to one grid, normalized.

This is the only pre-processing: training, command line, server and evaluation all start here.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clickseg.cache import ByteCache, Fingerprints
from clickseg.geometry import Grid, ijk_to_ras
from clickseg.placement import Placing, place, read_placing
from clickseg.registration import Mode, Registration
from clickseg.resampling import resample
from clickseg.volume import (
    EXTENSIONS,
    ImageError,
    Volume,
    find_image,
    read_label,
    read_volume,
    stem_of,
)

T2_FOLDER = "t2"
LABEL_FOLDER = "labels/final"
PRIVATE_FOLDER = ".clickseg"
"""For what goes with the studies and is neither image nor label."""
PLACING_FOLDER = f"{PRIVATE_FOLDER}/t2"
"""For what is known of where T2 lie; see ``placement``."""
logger = logging.getLogger(__name__)

INTENSITY = "tissue-z-1"
"""Name of the rule of ``normalize``: weights are for images that were normalized by it."""

SMALLEST_OVERLAP = 0.2
"""Where less than this share of the smaller sequence lies in the other, T2 is refused."""


LARGEST_VALUE = 1e12
"""No scanner writes more; one such voxel would leave the others without contrast."""

SAME_GRID_MM = 0.1
"""A mask lies on the grid of its image where no corner is farther off than this."""


@dataclass(frozen=True, eq=False)
class Study:
    """T1ce and T2 of one case on the grid of the T1ce, in canonical order.

    ``image`` is float32 ``(2, I, J, K)``: T1ce, then T2 (zeros without one), each normalized.
    ``grid`` is the grid of the T1ce as stored; ``image`` lies on ``grid.canonical``.
    """

    case_id: str
    image: NDArray[np.float32]
    grid: Grid
    t2_path: Path | None
    registration: Registration | None = None
    """How the T2 was looked for, where it was; None where its header was trusted."""

    @property
    def nbytes(self) -> int:
        """Size of the pixels in memory."""
        return self.image.nbytes


@dataclass(frozen=True)
class Case:
    """Where the files of one case are; ``t2`` and ``label`` may be missing."""

    case_id: str
    t1ce: Path
    t2: Path | None
    label: Path | None


def find_case(t1ce: Path, label_folder: Path | None = None) -> Case:
    """Find the companions of a T1ce: ``t2/<id>`` and ``labels/final/<id>`` beside it."""
    case_id = stem_of(t1ce)
    labels = t1ce.parent / LABEL_FOLDER if label_folder is None else label_folder
    t2 = find_image(t1ce.parent / T2_FOLDER, case_id)
    return Case(case_id, t1ce, t2, newest_label(labels, case_id))


def newest_label(folder: Path, case_id: str) -> Path | None:
    """Return the label that was saved last, in whatever format, or None.

    A server that was stopped while it replaced a label by one of another format left both.
    """
    paths = [folder / f"{case_id}{extension}" for extension in EXTENSIONS]
    there = [path for path in paths if path.is_file()]
    return max(there, key=lambda path: path.stat().st_mtime_ns, default=None)


def find_cases(studies: Path, label_folder: Path | None = None) -> list[Case]:
    """List the cases of a studies folder, ordered by id.

    Raises:
        ImageError: if the folder is missing, or two images have the same id.
    """
    cases, alike = distinct_cases(studies, label_folder)
    if alike:
        raise ImageError(f"several images in {studies} have the same id: {', '.join(alike)}")
    return cases


def distinct_cases(
    studies: Path, label_folder: Path | None = None
) -> tuple[list[Case], dict[str, list[Case]]]:
    """List the cases whose id is no other's, and by id those that share one; both ordered by id.

    Raises:
        ImageError: if the folder is missing.
    """
    if not studies.is_dir():
        raise ImageError(f"a folder of studies was wanted, but {studies} is none")
    found: dict[str, list[Case]] = {}
    for path in sorted(_images_in(studies)):
        case = find_case(path, label_folder)
        found.setdefault(case.case_id, []).append(case)
    ordered = sorted(found.items())
    alike = {name: cases for name, cases in ordered if len(cases) > 1}
    return [cases[0] for name, cases in ordered if name not in alike], alike


def told_alike(cases: Sequence[Case]) -> str:
    """Say which files have the same id."""
    return f"several images have this id: {', '.join(case.t1ce.name for case in cases)}"


def labeled_cases(studies: Path, label_folder: Path | None = None) -> list[Case]:
    """List the cases of a studies folder that have a label; how many have none is reported.

    Raises:
        ImageError: as ``find_cases``, and if no case has a label.
    """
    cases = find_cases(studies, label_folder)
    labeled = [case for case in cases if case.label is not None]
    if not labeled:
        place = label_folder or studies / LABEL_FOLDER
        raise ImageError(f"labels of the studies were wanted, there are none in {place}")
    if len(labeled) < len(cases):
        logger.warning("%d studies without a label are left out", len(cases) - len(labeled))
    return labeled


def _images_in(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_file() and re.fullmatch(r"[^.].*\.(nii|nii\.gz|nrrd)", path.name):
            yield path


def placing_of(t1ce: Path, mode: Mode | None = None) -> Placing:
    """Return how the T2 of a study is placed: as its folder says, unless a mode is given.

    Raises:
        ImageError: if what the folder says cannot be read.
    """
    return read_placing(t1ce.parent / PLACING_FOLDER, stem_of(t1ce), mode)


_REMEMBERED: ByteCache[Study] = ByteCache(0)
_FINGERPRINTS = Fingerprints()


def remember_studies(limit_bytes: int) -> None:
    """Let ``read_study`` keep what it reads, up to so many bytes: for whoever reads it often.

    Nobody may write into the image of a study then. 0 keeps nothing, as at the start.
    """
    _REMEMBERED.clear()
    _REMEMBERED.limit_bytes = limit_bytes


@contextmanager
def remembering_studies(limit_bytes: int) -> Iterator[None]:
    """Remember studies for a while; see ``remember_studies``."""
    remember_studies(limit_bytes)
    try:
        yield
    finally:
        remember_studies(0)


def read_study(t1ce: Path, t2: Path | None = None, placing: Placing | None = None) -> Study:
    """Read a study, or return it as it was read before; see ``remember_studies``.

    Args:
        t1ce: the image whose grid counts.
        t2: its companion, on any grid.
        placing: how the T2 is placed; None is as ``placing_of`` says.

    Raises:
        ImageError: if a file cannot be used, or the T2 lies elsewhere than the T1ce.
    """
    if not _REMEMBERED.limit_bytes:
        return _read(t1ce, t2, placing)
    names = [_FINGERPRINTS(path) for path in (t1ce, t2) if path is not None]
    key = (stem_of(t1ce), *names, t2 is None, placing or placing_of(t1ce))
    study = _REMEMBERED.get(key)
    if study is None:
        study = _read(t1ce, t2, placing)
        # Studies are mostly read in turn: room made for one would cost the next one its place.
        if _REMEMBERED.nbytes + study.nbytes <= _REMEMBERED.limit_bytes:
            _REMEMBERED.put(key, study, study.nbytes)
    return replace(study, t2_path=None if study.t2_path is None else t2)


def _read(t1ce: Path, t2: Path | None, placing: Placing | None) -> Study:
    first = read_volume(t1ce)
    grid, case_id = first.grid, stem_of(t1ce)
    image = np.zeros((2, *grid.canonical.shape), dtype=np.float32)
    image[0] = grid.to_canonical(normalize(first.array, t1ce.name))
    registration = None
    if t2 is not None:
        placing = placing or placing_of(t1ce)
        if placing.leaves_out:
            t2 = None
        else:
            folder = t1ce.parent / PLACING_FOLDER
            second, registration = place(read_volume(t2), first, placing, folder, case_id)
            image[1] = grid.to_canonical(_on_grid(second, grid, t2.name))
    return Study(case_id, image, grid, t2, registration)


def read_case_label(case: Case, grid: Grid) -> NDArray[np.uint8]:
    """Read the label of a case as canonical uint8 0/1.

    Raises:
        ImageError: if there is none, or it lies on another grid than the image.
    """
    if case.label is None:
        raise ImageError(f"case {case.case_id} has no label in {LABEL_FOLDER}")
    return read_mask(case.label, grid)


def read_mask(path: Path, grid: Grid) -> NDArray[np.uint8]:
    """Read a mask of an image as canonical uint8 0/1.

    Raises:
        ImageError: if it cannot be read, or lies on another grid than the image.
    """
    label = read_label(path)
    check_same_grid(label, grid, path.name)
    return np.ascontiguousarray(grid.to_canonical(label.array))


def check_same_grid(label: Volume, grid: Grid, name: str) -> None:
    """Refuse a mask that lies on another grid than its image.

    Raises:
        ImageError: with both grids.
    """
    corners = np.array(list(itertools.product(*((0, n - 1) for n in grid.shape))))
    apart_mm = np.abs(
        ijk_to_ras(corners, label.grid.affine) - ijk_to_ras(corners, grid.affine)
    ).max()
    if label.grid.shape != grid.shape or apart_mm > SAME_GRID_MM:
        raise ImageError(
            f"{name} lies on another grid than its image: {label.grid.shape} at "
            f"{label.grid.affine[:3].round(3).tolist()}, wanted {grid.shape} at "
            f"{grid.affine[:3].round(3).tolist()}"
        )


def normalize(array: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Bring the tissue of a sequence to mean 0 and standard deviation 1.

    Tissue is what is brighter than a tenth of the 99th percentile. Background and values far out
    are clipped to [-3, 8].

    Raises:
        ImageError: if all voxels are alike.
    """
    sample = array[tuple(slice(None, None, max(1, n // 96)) for n in array.shape)]
    if sample.max() > LARGEST_VALUE:
        raise ImageError(f"{name} has voxels as large as {sample.max():g}, an MRI was wanted")
    bright = sample > sample.min() + 0.1 * (np.percentile(sample, 99) - sample.min())
    tissue = sample[bright]
    if tissue.size == 0 or tissue.std() == 0:
        raise ImageError(f"{name} has no contrast: its voxels are all about {sample.mean():g}")
    scale = np.float32(1 / tissue.std())
    out = array * scale
    out -= np.float32(tissue.mean() * scale)
    return np.clip(out, -3, 8, out=out)


def _on_grid(t2: Volume, grid: Grid, name: str) -> NDArray[np.float32]:
    moved, overlap = resample(t2, grid)
    if overlap < SMALLEST_OVERLAP:
        raise ImageError(
            f"T2 {name} overlaps the T1ce by {overlap:.0%}, at least {SMALLEST_OVERLAP:.0%} "
            "were wanted: do both show the same head in one frame of reference?"
        )
    return normalize(moved, f"T2 {name}")
