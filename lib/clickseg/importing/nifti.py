"""Studies of any other data set: images that are NIfTI or NRRD already, found by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clickseg.importing.source import (
    ImportingError,
    Loaded,
    Wishes,
    compact,
    doubts_of_volume,
    fitted,
    grid_facts,
)
from clickseg.metrics import volume_ml
from clickseg.study import check_same_grid
from clickseg.volume import Volume, read_volume, stem_of

ID = "{id}"
"""Stands for the id of a study in a pattern."""

MOST_TOLD = 8
"""So many values of a label are told, and how many more there are."""


@dataclass(frozen=True)
class NiftiStudy:
    """The files of one study; ``t2`` and ``label`` may be missing.

    ``fault`` says why the files cannot be told apart; such a study is told and skipped.
    """

    case_id: str
    t1ce: Path
    t2: Path | None = None
    label: Path | None = None
    fault: str = ""

    def size_bytes(self) -> int:
        """Return the size of its images as they may be once written: four bytes a voxel."""
        compressed = 8  # a factor that no MRI reaches
        paths = [path for path in (self.t1ce, self.t2) if path is not None]
        return sum(p.stat().st_size * (compressed if p.suffix == ".gz" else 1) for p in paths)

    def load(self, wishes: Wishes) -> Loaded:
        """Read the images; both lie in one frame already, as their headers say.

        Raises:
            ImportingError: if files cannot be told apart, T1ce and T2 show different places, or the
                label does not say what is tumor.
            ImageError: if a file cannot be used, or the label lies on another grid.
        """
        if self.fault:
            raise ImportingError(self.fault)
        t1ce = read_volume(self.t1ce)
        warnings = []
        facts: dict[str, Any] = {
            "t1ce": {"from": self.t1ce.name} | grid_facts(t1ce),
            "t2": None,
            "registration": None,
            "label": None,
        }
        t2, label = None, None
        if self.t2 is None:
            warnings.append("no T2 was found")
        else:
            read = read_volume(self.t2)
            facts["t2"] = {"from": self.t2.name} | grid_facts(read)
            t2 = fitted(read, t1ce.grid, wishes.resample_t2)
        if self.label is None:
            warnings.append("no label was found")
        else:
            mask = _tumor_in(self.label, wishes.label_value)
            check_same_grid(mask, t1ce.grid, self.label.name)
            label = Volume(mask.array, t1ce.grid)
            mask_ml = volume_ml(label.array, label.grid.affine)
            facts["label"] = {
                "from": self.label.name,
                "structure": "" if wishes.label_value is None else f"value {wishes.label_value}",
                "mask_ml": round(mask_ml, 4),
            }
            warnings += doubts_of_volume(mask_ml) if mask_ml else ["the label is empty"]
        return Loaded(compact(t1ce), t2, label, facts, tuple(warnings))


def _tumor_in(path: Path, value: int | None) -> Volume:
    """Return what a label outlines as uint8 0/1: one value, or the only one that is not zero.

    Raises:
        ImageError: if it cannot be read.
        ImportingError: if its values are not whole, or several without one that was wanted.
    """
    volume = read_volume(path)
    outlined = volume.array[volume.array != 0]
    odd = outlined[np.rint(outlined) != outlined]
    if odd.size:
        raise ImportingError(
            f"{path.name} holds {odd.size} values like {odd[0]:g}; whole numbers were wanted, "
            "0 outside of the tumor"
        )
    values = np.unique(outlined)
    if value is None and values.size > 1:
        told = ", ".join(f"{one:g}" for one in values[:MOST_TOLD])
        more = f" and {values.size - MOST_TOLD} more" if values.size > MOST_TOLD else ""
        raise ImportingError(
            f"{path.name} holds the values {told}{more}; one was wanted, or --label-value for the "
            "tumor's"
        )
    mask = volume.array != 0 if value is None else volume.array == value
    return Volume(mask.astype(np.uint8), volume.grid)


def find_by_patterns(source: Path, patterns: Mapping[str, str]) -> list[NiftiStudy]:
    """Find studies by where their files are, ordered by id.

    Args:
        source: the folder below which they lie.
        patterns: of ``t1ce`` and perhaps ``t2`` and ``label``: paths below ``source`` with
            ``{id}`` for the id of the study, as in ``{id}/{id}_t1.nii.gz``; ``*`` stands for any
            characters within a name.

    Raises:
        ImportingError: if there is no such folder, a pattern has no ``{id}``, or none fits.
    """
    paths = _images_below(source)
    found = {part: _fitting(source, paths, pattern) for part, pattern in patterns.items()}
    if not found["t1ce"]:
        raise ImportingError(f"images like {patterns['t1ce']} were wanted, {source} has none")
    return [
        study_of(name, {part: by_id.get(name, []) for part, by_id in found.items()})
        for name in sorted(found["t1ce"])
    ]


def study_of(case_id: str, files: Mapping[str, list[Path]]) -> NiftiStudy:
    """Return a study of the files of each part; several of one part are its fault."""
    several = [
        f"one file that is the {part} was wanted, {len(paths)} may be: "
        + ", ".join(path.name for path in paths)
        for part, paths in files.items()
        if len(paths) > 1
    ]
    first = {part: paths[0] for part, paths in files.items() if paths}
    return NiftiStudy(
        case_id, first["t1ce"], first.get("t2"), first.get("label"), "; ".join(several)
    )


def _images_below(source: Path) -> list[Path]:
    if not source.is_dir():
        raise ImportingError(f"a folder of images was wanted, {source} is none")
    return [path for path in sorted(source.rglob("[!.]*.n*")) if path.is_file()]


def _fitting(source: Path, paths: Iterable[Path], pattern: str) -> dict[str, list[Path]]:
    """Return the images that a pattern fits, by id."""
    if ID not in pattern:
        raise ImportingError(
            f"a pattern with {ID} for the id of a study was wanted, got {pattern!r}"
        )
    stem_of(Path(pattern))
    first, *others = (re.escape(part).replace(r"\*", "[^/]*") for part in pattern.split(ID))
    expression = re.compile(first + "(?P<id>[^/]+?)" + "(?P=id)".join(others))
    found: dict[str, list[Path]] = {}
    for path in paths:
        match = expression.fullmatch(path.relative_to(source).as_posix())
        if match is not None:
            found.setdefault(match["id"], []).append(path)
    return found
