"""One patient of the VS-SEG data set, from files to a study: images, registration, label."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clickseg.dicom.read import read_headers, read_series
from clickseg.dicom.rules import load_rules
from clickseg.dicom.series import SeriesFacts, facts_of, find_pair
from clickseg.geometry import Grid
from clickseg.importing.contours import (
    ContourError,
    Plan,
    Structure,
    read_contours,
    read_rtstruct,
)
from clickseg.importing.register import Registered, register_pair
from clickseg.importing.solid import Solid, fill
from clickseg.importing.source import (
    ImportingError,
    Loaded,
    Wishes,
    compact,
    doubts_of_volume,
    fitted,
    grid_facts,
)
from clickseg.importing.transforms import apply, rigid
from clickseg.importing.vs_seg import PROVENANCE, Found
from clickseg.metrics import volume_ml
from clickseg.volume import ImageError, Volume


@dataclass(frozen=True)
class VsSegStudy:
    """A patient of the data set as a study."""

    found: Found

    @property
    def case_id(self) -> str:
        """The id that the study gets: the patient's of the data set."""
        return self.found.patient

    def size_bytes(self) -> int:
        """Return twice the size of its largest series: the T2 may get the voxels of the T1ce."""
        sizes = (sum(p.stat().st_size for p in s.values()) for s in self.found.images.values())
        return 2 * max(sizes)

    def load(self, wishes: Wishes) -> Loaded:
        """Read images and outlines, register, and fill the outlines on the grid of the T1ce.

        Raises:
            ImportingError: if something that is needed is missing or contradicts something else.
            ImageError: if the series cannot be told apart or read.
            ContourError: if there are no outlines of the tumor.
            OutlineError: if they cannot be filled.
        """
        images = self._images()
        pair = find_pair([_facts(paths) for paths in images.values()], load_rules())
        t1ce = read_series(images[pair.t1ce.uid])
        warnings: list[str] = []
        plans = _plans(self.found, pair.t1ce, pair.t2, warnings)
        t2, registered, second = None, None, None
        if pair.t2 is None:
            warnings.append("no T2 series was found")
        else:
            t2 = read_series(images[pair.t2.uid])
            same = pair.t1ce.frame_of_reference_uid == pair.t2.frame_of_reference_uid != ""
            registered = register_pair(self.found.transforms, plans, t1ce, t2, same, warnings)
            second = _series_facts(pair.t2) | grid_facts(t2)
            t2 = fitted(_moved(t2, registered), t1ce.grid, wishes.resample_t2)
        plan = _in_t1ce(plans, registered)
        tumor, doubt = plan.tumor()
        solid = fill(tumor.outlines_ras, t1ce.grid)
        label = Volume(solid.mask, t1ce.grid)
        warnings += [doubt] if doubt else []
        warnings += _doubts(solid)
        others = _others(plan, tumor, t1ce.grid, warnings) if wishes.all_structures else {}
        facts = {
            "source": PROVENANCE | {"patient": self.found.patient},
            "t1ce": _series_facts(pair.t1ce) | grid_facts(t1ce),
            "t2": second,
            "registration": None if registered is None else registered.as_dict(),
            "label": {
                "structure": tumor.name,
                "drawn_on": "T1ce" if "t1" in plans else "T2",
                "from": plan.origin,
                "structures": [structure.name for structure in plan.structures],
                "outlines": len(tumor.outlines_ras),
                "outlines_ml": round(solid.outlines_ml, 4),
                "mask_ml": round(volume_ml(label.array, label.grid.affine), 4),
            },
        }
        return Loaded(compact(t1ce), t2, label, facts, tuple(warnings), others)

    def _images(self) -> dict[str, list[Path]]:
        """Return the files of each series; where readers drew on two of them, of those alone."""
        images = {uid: list(files.values()) for uid, files in self.found.images.items()}
        drawn_on = [uid for uid in images if uid in self.found.contours]
        return {uid: images[uid] for uid in drawn_on} if len(drawn_on) == 2 else images


def _facts(paths: Sequence[Path]) -> SeriesFacts:
    """Look at the first, middle and last file of a series: they lie where a localizer's would."""
    some = sorted({0, len(paths) // 2, len(paths) - 1})
    return facts_of(read_headers([paths[n] for n in some]), len(paths))


def _series_facts(facts: SeriesFacts) -> dict[str, Any]:
    return {
        "series_uid": facts.uid,
        "description": facts.description,
        "sequence": facts.sequence_name,
        "slice_thickness_mm": facts.slice_thickness_mm,
    }


def _plans(
    found: Found, first: SeriesFacts, second: SeriesFacts | None, warnings: list[str]
) -> dict[str, Plan]:
    """Return the outlines drawn on the T1ce (``t1``) and on the T2 (``t2``), at least one of both.

    The published JSON counts; an RTSTRUCT takes its place where there is none that can be read.

    Raises:
        ContourError: if there are none.
    """
    wanted = {"t1": first} | ({} if second is None else {"t2": second})
    plans: dict[str, Plan] = {}
    for key, facts in wanted.items():
        document = found.contours.get(facts.uid)
        if document is not None:
            try:
                plans[key] = read_contours(document.text(), document.name)
            except (ContourError, ImportingError) as error:
                warnings.append(str(error))
    plans = {key: plan for key, plan in plans.items() if plan.structures}
    missing = [key for key in wanted if key not in plans]
    for path in found.plans.values() if missing else ():
        try:
            plan = read_rtstruct(read_headers([path])[0], f"RTSTRUCT {path.name}")
        except (ContourError, ImageError) as error:
            warnings.append(str(error))
            continue
        for key in missing:
            if plan.structures and _is_drawn_on(plan, wanted[key], wanted.values()):
                plans.setdefault(key, plan)
    if not plans:
        raise ContourError(
            "outlines of the T1ce or T2 series were wanted, neither a contours.json nor an "
            "RTSTRUCT has any"
        )
    return plans


def _is_drawn_on(plan: Plan, facts: SeriesFacts, others: Collection[SeriesFacts]) -> bool:
    """Tell it by the series that a plan names, or by its frame where that is of one series only."""
    if any(plan.series_uid == other.uid for other in others):
        return plan.series_uid == facts.uid
    in_frame = [other.uid for other in others if other.frame_of_reference_uid == plan.frame_uid]
    return in_frame == [facts.uid]


def _in_t1ce(plans: Mapping[str, Plan], registered: Registered | None) -> Plan:
    """Return the outlines that become the label: of the T1ce, else those of the T2, moved there."""
    if "t1" in plans:
        return plans["t1"]
    assert registered is not None  # there are outlines of a T2, so there is a T2
    t1_from_t2 = np.linalg.inv(registered.t2_from_t1_ras)
    moved = (
        Structure(s.name, tuple(apply(t1_from_t2, points) for points in s.outlines_ras))
        for s in plans["t2"].structures
    )
    return replace(plans["t2"], structures=tuple(moved))


def _moved(t2: Volume, registered: Registered) -> Volume:
    """Return a T2 in the frame of the T1ce: its voxels with another affine."""
    affine = np.linalg.inv(rigid(registered.t2_from_t1_ras)) @ t2.grid.affine
    return Volume(t2.array, Grid(t2.grid.shape, affine))


def _doubts(solid: Solid) -> list[str]:
    doubts = ["the outlines of the tumor leave the image"] if solid.is_cut else []
    return doubts + doubts_of_volume(solid.outlines_ml)


def _others(plan: Plan, tumor: Structure, grid: Grid, warnings: list[str]) -> dict[str, Volume]:
    """Return the masks of all other structures by number, kind and name."""
    masks = {}
    for number, structure in enumerate(plan.structures, start=1):
        if structure is tumor:
            continue
        plain = "".join(c if c.isalnum() else "-" for c in structure.name).strip("-") or "unnamed"
        try:
            mask = fill(structure.outlines_ras, grid).mask
        except ValueError as error:
            warnings.append(f"{structure.name!r} is left out: {error}")
            continue
        masks[f"{number:02d}-{structure.kind}-{plain}"] = Volume(mask, grid)
    return masks
