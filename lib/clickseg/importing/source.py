"""What is imported: a study that can be read, wherever it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from clickseg.geometry import Grid
from clickseg.resampling import resample
from clickseg.study import SMALLEST_OVERLAP
from clickseg.volume import Volume

SMALLEST_ML, LARGEST_ML = 0.02, 40.0
"""Tumors of radiosurgery beyond these volumes are imported with a warning."""


class ImportingError(ValueError):
    """Studies cannot be imported; the text says what was wanted and what came."""


@dataclass(frozen=True)
class Wishes:
    """What the user wants of each study.

    ``resample_t2``: bring the T2 onto the grid of the T1ce; it keeps its own voxels otherwise, and
    lies where the registration puts it. ``all_structures``: write what else was outlined, too.
    ``label_value``: which value of a label of several is the tumor; None where there is but one.
    """

    resample_t2: bool = True
    all_structures: bool = False
    label_value: int | None = None


@dataclass(frozen=True, eq=False)
class Loaded:
    """A study in memory: all lies in the frame of the T1ce.

    ``label`` is uint8 0/1 on the grid of the T1ce, as are the ``others`` (by name). ``facts`` is
    what the JSON of provenance says; no field of the patient is in it.
    """

    t1ce: Volume
    t2: Volume | None
    label: Volume | None
    facts: dict[str, Any]
    warnings: tuple[str, ...] = ()
    others: Mapping[str, Volume] = field(default_factory=dict)


class Source(Protocol):
    """One study as it is found; it travels to other processes."""

    @property
    def case_id(self) -> str:
        """The id that the study gets."""

    def size_bytes(self) -> int:
        """Return how much room its images take at most."""

    def load(self, wishes: Wishes) -> Loaded:
        """Read it; whatever is wrong with it is an exception whose text says what."""


def compact(volume: Volume) -> Volume:
    """Return the image as int16 where that loses nothing, else as float32: scanners count."""
    array = np.asarray(volume.array)
    limits = np.iinfo(np.int16)
    whole = limits.min <= array.min() and array.max() <= limits.max
    if whole and np.array_equal(array, np.rint(array)):
        return Volume(array.astype(np.int16), volume.grid)
    return Volume(array.astype(np.float32, copy=False), volume.grid)


def fitted(t2: Volume, grid: Grid, is_resampled: bool) -> Volume:
    """Return a T2 as it is written: on the grid of its T1ce, or as it is; whole numbers stay whole.

    Raises:
        ImportingError: if it shows another place than the T1ce.
    """
    on_grid, overlap = resample(t2, grid)
    if overlap < SMALLEST_OVERLAP:
        raise ImportingError(
            f"T2 overlaps the T1ce by {overlap:.0%}, at least {SMALLEST_OVERLAP:.0%} were wanted"
        )
    stored = compact(t2)
    if not is_resampled:
        return stored
    is_whole = stored.array.dtype == np.int16
    return compact(Volume(np.rint(on_grid) if is_whole else on_grid, grid))


def doubts_of_volume(tumor_ml: float) -> list[str]:
    """Return a warning where no tumor is so small or large: a mask of the brain, say; or none."""
    if SMALLEST_ML <= tumor_ml <= LARGEST_ML:
        return []
    return [f"a tumor of {tumor_ml:.2f} ml is unusual"]


def grid_facts(volume: Volume) -> dict[str, Any]:
    """Return size and spacing of an image for the provenance."""
    return {
        "voxels": list(volume.grid.shape),
        "spacing_mm": volume.grid.spacing_mm.round(4).tolist(),
    }
