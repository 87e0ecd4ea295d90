"""Scribbles: voxels that a reader painted as tumor or as none, over a mask edited by hand.

3D Slicer sends them with the mask in one image, one value a segment. Networks see clicks, so each
connected scribble is thinned to points some mm apart; every painted voxel is obeyed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clickseg.boxes import bounding_box
from clickseg.clicks import MAX_CLICKS, Click, ClickError, Clicks, voxels_of
from clickseg.geometry import Grid, spacing_mm
from clickseg.study import check_same_grid
from clickseg.volume import ImageError, Volume, read_volume

APART_MM = 5.0
"""Distance between the clicks that stand for one scribble."""

MAX_PAINTED = 200_000
"""More painted voxels than this fill a region (75 ml at 0.5 x 0.5 x 1.5 mm): no scribble."""

MAX_VALUE = 1 << 24
"""Larger values of segments are refused: images are read as float32, which has no others whole."""

WITHOUT_NAMES = {"mask": {1}, "background": {2}, "foreground": {3}}
"""Values where the request names no segments: those of MONAI Label's own scribble models."""

_TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class Scribbles:
    """Painted voxels, as canonical ``(I, J, K)`` booleans; no voxel is both."""

    foreground: NDArray[np.bool_]
    background: NDArray[np.bool_]

    def clicks(self, grid: Grid, explicit: Clicks = ()) -> Clicks:
        """Return clicks that stand for the scribbles, foreground first.

        Where the reader clicked there is none. The others are where they would be without that
        click: it changes nothing farther away than clicks do.

        Raises:
            ClickError: if too much is painted.
        """
        painted_count = int(np.count_nonzero(self.foreground) + np.count_nonzero(self.background))
        if painted_count > MAX_PAINTED:
            raise ClickError(
                f"{painted_count} voxels are scribbled, at most {MAX_PAINTED} are taken"
            )
        clicked = {tuple(voxel) for voxel in voxels_of(explicit, grid.canonical)[0].tolist()}
        clicks = [
            Click.at(voxel, is_foreground, grid.canonical)
            for painted, is_foreground in ((self.foreground, True), (self.background, False))
            for voxel in thin(painted, grid.canonical.spacing_mm).tolist()
            if tuple(voxel) not in clicked
        ]
        if len(clicks) > MAX_CLICKS:
            raise ClickError(f"the scribbles stand for more than {MAX_CLICKS} clicks")
        return tuple(clicks)

    def without(self, clicks: Clicks, grid: Grid) -> Scribbles:
        """Return the scribbles less the voxels of clicks: a click is meant more exactly."""
        foreground, background = self.foreground.copy(), self.background.copy()
        voxels, _ = voxels_of(clicks, grid.canonical)
        foreground[tuple(voxels.T)] = background[tuple(voxels.T)] = False
        return Scribbles(foreground, background)

    def pin(self, mask: NDArray[np.uint8]) -> None:
        """Set every painted voxel, in place."""
        mask[self.foreground] = 1
        mask[self.background] = 0


def thin(painted: NDArray[np.bool_], spacing: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return voxels ``(N, 3)`` of a mask so that none of it is farther than 5 mm from one.

    Each connected part starts with its voxel nearest to its middle, and goes on with the one
    farthest from those taken.

    Args:
        painted: ``(I, J, K)``.
        spacing: voxel size in mm.
    """
    box = bounding_box(painted)
    if box is None:
        return np.zeros((0, 3), dtype=np.int64)
    parts, _ = ndimage.label(painted[box], _TOUCHING)
    corner = np.array([part.start for part in box])
    taken = []
    for number, where in enumerate(ndimage.find_objects(parts), start=1):
        voxels = np.argwhere(parts[where] == number) + [part.start for part in where] + corner
        points_mm = voxels * spacing
        index = int(np.linalg.norm(points_mm - points_mm.mean(axis=0), axis=1).argmin())
        distance_mm = np.full(len(voxels), np.inf)
        while distance_mm[index] > APART_MM:
            taken.append(voxels[index])
            to_this_mm = np.linalg.norm(points_mm - points_mm[index], axis=1)
            distance_mm = np.minimum(distance_mm, to_this_mm)
            index = int(distance_mm.argmax())
            if len(taken) > MAX_CLICKS:
                return np.array(taken)
    return np.array(taken)


def read_edit(
    path: Path, grid: Grid, segments: Any, chosen: Any
) -> tuple[NDArray[np.uint8], Scribbles]:
    """Read a mask that was edited by hand, with its scribbles, from one image.

    What lies under a scribble is unknown: there the mask is taken to be as it is beside it.

    Args:
        path: the image, one value a segment.
        grid: of the study, as stored.
        segments: list of ``{"name", "id"}``, or None.
        chosen: name of the segment to mend; None takes all that are no scribbles.

    Returns:
        The canonical mask, and the scribbles.

    Raises:
        ClickError: if the segments are not what was wanted.
        ImageError: if the file is no image on the grid of the study.
    """
    volume = read_volume(path)
    check_same_grid(Volume(volume.array, volume.grid), grid, "the uploaded mask")
    if (volume.array != np.rint(volume.array)).any() or np.abs(volume.array).max() > MAX_VALUE:
        raise ImageError(
            f"the uploaded mask has one whole number up to {MAX_VALUE} a segment; got values from "
            f"{volume.array.min():g} to {volume.array.max():g}, not all of them such"
        )
    values = grid.to_canonical(volume.array.astype(np.int32))
    wanted = _values_of(segments, chosen)
    present = set(np.unique(values).tolist()) - {0}
    if not wanted["mask"] and chosen is None:
        wanted["mask"] = present - wanted["foreground"] - wanted["background"]
    mask, foreground, background = (
        np.ascontiguousarray(np.isin(values, list(wanted[name] & present)))
        for name in ("mask", "foreground", "background")
    )
    scribbles = Scribbles(foreground, background)
    return _under(mask, foreground | background, grid.canonical), scribbles


def _values_of(segments: Any, chosen: Any) -> dict[str, set[int]]:
    """Return which values of the image are the mask and which are scribbles."""
    if not segments:
        return {name: set(values) for name, values in WITHOUT_NAMES.items()}
    found: dict[str, set[int]] = {"mask": set(), "background": set(), "foreground": set()}
    wanted = 'label_info must be a list of {"name", "id"}'
    if not isinstance(segments, list):
        raise ClickError(f"{wanted}, got {segments!r:.80}")
    for place, segment in enumerate(segments, start=1):
        name = segment.get("name") if isinstance(segment, dict) else None
        value = segment.get("id", place) if isinstance(segment, dict) else None
        if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, int):
            raise ClickError(f"{wanted}, got {segment!r:.80}")
        kind = name.lower().removesuffix("_scribbles")
        if name.lower().endswith("_scribbles") and kind in ("foreground", "background"):
            found[kind].add(value)
        elif name == chosen or (not chosen and kind != "background"):
            found["mask"].add(value)
    twice = set.union(*(found[a] & found[b] for a, b in combinations(found, 2)))
    if twice:
        raise ClickError(f"{wanted}, each id of one of them; several have {min(twice)}")
    if chosen and not found["mask"]:
        names = ", ".join(repr(segment["name"]) for segment in segments)
        raise ClickError(f"selected_label_name must be one of {names}, got {chosen!r:.80}")
    return found


def _under(mask: NDArray[np.bool_], painted: NDArray[np.bool_], grid: Grid) -> NDArray[np.uint8]:
    """Fill the painted voxels of a mask from the nearest voxel that is not painted."""
    filled = mask.astype(np.uint8)
    box = bounding_box(painted)
    if box is None or painted.all():
        return filled
    wide = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
    nearest = ndimage.distance_transform_edt(
        painted[wide],
        sampling=spacing_mm(grid.affine),
        return_distances=False,
        return_indices=True,
    )
    filled[wide] = filled[wide][tuple(nearest)]
    return filled
