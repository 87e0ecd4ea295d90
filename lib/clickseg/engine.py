"""One call a request: what the server, the command line and the evaluation ask the models.

The engine keeps studies, initial outlines, accepted labels and the last replay of each start mask
in a cache bounded in bytes. All of it is keyed by the content of the files, so state outlives no
change on disk, and a restart only costs time. One lock lets one request through at a time.
"""

from __future__ import annotations

import hashlib
import math
import sys
import threading
import time
import weakref
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clickseg.cache import ByteCache, Fingerprints
from clickseg.clicks import Clicks, Voxel, voxels_of
from clickseg.correction import Correction
from clickseg.correction.local import Memo
from clickseg.extent import Extent
from clickseg.geometry import Grid, ijk_to_ras, ras_to_ijk
from clickseg.initial import Initial
from clickseg.metrics import max_axial_diameter_mm
from clickseg.models import Models
from clickseg.placement import Placing
from clickseg.registration import Mode
from clickseg.scribbles import Scribbles
from clickseg.study import Study, check_same_grid, placing_of, read_study
from clickseg.volume import ImageError, read_label, stem_of

CACHE_BYTES = 1 << 30
"""Room for seven studies of 448x448x80 with their masks."""

INITIAL = "initial"
"""Names the initial outline where the start masks of replays are told apart."""

Mask = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """An answer. ``label`` is uint8 0/1 in the stored order ``(I, J, K)`` of the T1ce.

    ``result`` says in plain values what a viewer may show; the README lists its keys.
    """

    label: Mask
    result: dict[str, Any]


@dataclass(eq=False)
class _Replay:
    """The last answer for a study and a start mask, and the passes it was made of."""

    start: Extent
    memo: Memo = field(default_factory=dict)
    clicks: Clicks | None = None
    correction: Correction | None = None

    @property
    def nbytes(self) -> int:
        passes = sum(item.nbytes for item in self.memo.values())
        return passes + (0 if self.correction is None else self.correction.mask.nbytes)


class Engine:
    """Segment and correct studies with one pair of models."""

    def __init__(
        self, models: Models, cache_bytes: int = CACHE_BYTES, registration: Mode | None = None
    ) -> None:
        self.models = models
        self.registration = registration
        self.cache: ByteCache[Any] = ByteCache(cache_bytes)
        self._fingerprint = Fingerprints()
        self._study_keys: weakref.WeakKeyDictionary[Study, str] = weakref.WeakKeyDictionary()
        self._mask_keys: dict[int, tuple[weakref.ref[Mask], str]] = {}
        self._lock = threading.RLock()

    def use(self, models: Models) -> None:
        """Answer with other models from now on; a request under way ends with those it began with.

        Studies and labels stay in the cache; outlines are kept by the hash of what made them.
        """
        with self._lock:
            self.models = models

    def study(self, t1ce: Path, t2: Path | None = None) -> Study:
        """Return a study, from the cache unless its files are new or changed.

        Its T2 is placed by the engine's ``registration``, where that is None as its folder says.

        Raises:
            ImageError: if a file cannot be used, or the T2 lies elsewhere than the T1ce.
        """
        with self._lock:
            content = self._content_of(t1ce, t2)
            placing = Placing() if t2 is None else placing_of(t1ce, self.registration)
            key = content + placing.key
            study = self.cache.get(("study", key))
            if study is None:
                study = read_study(t1ce, t2, placing)
                if self._content_of(t1ce, t2) != content:
                    raise ImageError(f"{t1ce.name} or its T2 changed while it was read; try again")
                self.cache.put(("study", key), study, study.nbytes)
            elif (study.case_id, study.t2_path) != (stem_of(t1ce), t2):
                t2_used = None if study.t2_path is None else t2
                study = replace(study, case_id=stem_of(t1ce), t2_path=t2_used)
            self._study_keys[study] = key
            return study

    def label(self, study: Study, path: Path) -> Mask:
        """Return the mask in a file as a start mask: canonical uint8 0/1, not writeable.

        Raises:
            ImageError: if the file cannot be used, or lies on another grid than the study.
        """
        with self._lock:
            content = self._content_of(path)
            key = f"{content}/{self._key_of(study)}"
            mask: Mask | None = self.cache.get(("label", key))
            if mask is None:
                volume = read_label(path)
                if self._content_of(path) != content:
                    raise ImageError(f"{path.name} changed while it was read; try again")
                check_same_grid(volume, study.grid, path.name)
                mask = study.grid.as_written(study.grid.to_canonical(volume.array))
                mask.flags.writeable = False
                self.cache.put(("label", key), mask, mask.nbytes)
            for number in [n for n, (known, _) in self._mask_keys.items() if known() is None]:
                del self._mask_keys[number]
            self._mask_keys[id(mask)] = (weakref.ref(mask), key)
            return mask

    def initial(self, study: Study) -> Segmentation:
        """Return the initial outline of a study."""
        with self._lock:
            started_s = time.perf_counter()
            initial = self._initial(study)
            infer_s = time.perf_counter() - started_s
            none_yet = self.models.correction(study, initial.mask, ())
            correction = replace(none_yet, uncertain_ijk=initial.uncertain_ijk)
            extent = Extent.of(initial.mask)
            return self._answer(study, initial.mask, extent, (), correction, infer_s)

    def correct(
        self,
        study: Study,
        clicks: Clicks,
        start: Mask | None = None,
        scribbles: Scribbles | None = None,
    ) -> Segmentation:
        """Return a start mask, mended around the clicks: a pure function of the arguments.

        Args:
            study: as ``study`` returned it.
            clicks: all clicks so far.
            start: canonical uint8 mask; None starts from the initial outline.
            scribbles: voxels to set last, whatever the models say.

        Raises:
            ValueError: if the start mask has another shape, or a click lies outside.
        """
        with self._lock:
            started_s = time.perf_counter()
            initial = self._initial(study) if start is None else None
            mask = np.asarray(start if initial is None else initial.mask)
            correction, extent = self._replay(study, clicks, mask, self._name_of(start))
            if correction.uncertain_ijk is None and initial is not None:
                far = _far_from(clicks, initial.uncertain_ijk, study, correction.radius_mm)
                correction = replace(correction, uncertain_ijk=far)
            if scribbles is not None:
                painted = correction.mask.copy()
                scribbles.pin(painted)
                place = correction.uncertain_ijk
                if place is not None and (
                    scribbles.foreground[place] or scribbles.background[place]
                ):
                    place = None  # it was told already
                correction = replace(correction, mask=painted, boxes=None, uncertain_ijk=place)
            infer_s = time.perf_counter() - started_s
            return self._answer(study, mask, extent, clicks, correction, infer_s)

    def _initial(self, study: Study) -> Initial:
        key = ("initial", self.models.hashes.get("initial"), self._key_of(study))
        initial: Initial | None = self.cache.get(key)
        if initial is None:
            initial = self.models.initial(study)
            self.cache.put(key, initial, initial.mask.nbytes + initial.prob.nbytes)
        return initial

    def _replay(
        self, study: Study, clicks: Clicks, mask: Mask, mask_key: str
    ) -> tuple[Correction, Extent]:
        hashes = self.models.hashes
        made_by = hashes.get("correction"), hashes.get("initial") if mask_key == INITIAL else None
        key = ("replay", *made_by, self._key_of(study), mask_key)
        replay: _Replay = self.cache.get(key) or _Replay(Extent.of(mask))
        if replay.correction is None or replay.clicks != clicks:
            if len(replay.memo) > 4 * len(clicks) + 64:  # most of it is of clicks taken back
                replay = _Replay(replay.start)
            # Should it fail half-way, the mask of the last answer holds neither.
            spent, replay.correction = replay.correction, None
            spent = spent if spent is not None and _is_unread(spent) else None
            correction = self.models.correction(study, mask, clicks, replay.memo, spent)
            replay = _Replay(replay.start, replay.memo, clicks, correction)
            self.cache.put(key, replay, replay.nbytes)
            return correction, replay.start
        return replay.correction, replay.start

    def _answer(
        self,
        study: Study,
        start: Mask,
        extent: Extent,
        clicks: Clicks,
        correction: Correction,
        infer_s: float,
    ) -> Segmentation:
        started_s = time.perf_counter()
        mask, grid = correction.mask, study.grid.canonical
        extent, changed = extent.after(start, mask, correction.boxes)
        diameter_mm = (
            0.0 if extent.box is None else max_axial_diameter_mm(mask[extent.box], grid.affine)
        )
        voxels, is_foreground = voxels_of(clicks, grid)
        result: dict[str, Any] = {
            "volume_ml": round(extent.voxels * grid.voxel_ml, 4),
            "max_axial_diameter_mm": round(diameter_mm, 2),
            "changed_voxels": changed,
            "changed_ml": round(changed * grid.voxel_ml, 4),
            "radius_mm": math.ceil(correction.radius_mm * 1000) / 1000,  # never less than it is
            "clicks": len(clicks),
            "clicks_obeyed": int(np.count_nonzero(mask[tuple(voxels.T)] == is_foreground)),
            "next_click": _to_stored(correction.uncertain_ijk, study.grid),
            "t2": None if study.t2_path is None else str(study.t2_path),
            "registration": study.registration and study.registration.as_result(),
            "models": dict(self.models.hashes),
        }
        label = study.grid.to_stored(mask)
        post_s = time.perf_counter() - started_s
        result["latencies"] = {"infer": round(infer_s, 4), "post": round(post_s, 4)}
        return Segmentation(label, result)

    def _content_of(self, *paths: Path | None) -> str:
        """Name files by their content and format."""
        return "+".join(
            "" if path is None else self._fingerprint(path) + path.name.removeprefix(stem_of(path))
            for path in paths
        )

    def _key_of(self, study: Study) -> str:
        if study not in self._study_keys:  # made elsewhere
            self._study_keys[study] = hashlib.blake2b(
                np.ascontiguousarray(study.image).tobytes() + study.grid.affine.tobytes()
            ).hexdigest()
        return self._study_keys[study]

    def _name_of(self, start: Mask | None) -> str:
        if start is None:
            return INITIAL
        known, name = self._mask_keys.get(id(start), (None, ""))
        if known is not None and known() is start:
            return name
        name = hashlib.blake2b(np.ascontiguousarray(start).tobytes()).hexdigest()
        if not start.flags.writeable:
            self._mask_keys[id(start)] = (weakref.ref(start), name)
        return name


def _is_unread(correction: Correction) -> bool:
    """Tell whether nobody but the correction holds its mask, or a view of it as labels are."""
    mask = correction.mask
    if sys.getrefcount(mask) > 3:  # the correction, this function, and the argument
        return False
    return mask.base is None or sys.getrefcount(mask.base) <= 2


def _to_stored(voxel_ijk: Voxel | None, grid: Grid) -> list[int] | None:
    """Bring a canonical voxel to the stored order of a grid."""
    if voxel_ijk is None:
        return None
    points_ras = ijk_to_ras([voxel_ijk], grid.canonical.affine)
    i, j, k = np.rint(ras_to_ijk(points_ras, grid.affine)[0]).astype(int).tolist()
    return [i, j, k]


def _far_from(
    clicks: Clicks, voxel_ijk: Voxel | None, study: Study, radius_mm: float
) -> Voxel | None:
    """Return a voxel unless a click may have changed it."""
    if voxel_ijk is None:
        return None
    point_ras = ijk_to_ras([voxel_ijk], study.grid.canonical.affine)[0]
    for click in clicks:
        if np.linalg.norm(point_ras - np.array(click.point_ras)) <= radius_mm:
            return None
    return voxel_ijk
