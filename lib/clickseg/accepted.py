"""Accepted labels: checked, measured, stored with their clicks, and the earlier ones kept.

``labels/final/<id>.nii.gz`` is the accepted mask of a study, ``<id>.clicks.json`` beside it the
clicks that it was made with. What lay there before is kept in ``labels/history/<id>/`` under the
time at which it was replaced. The new files are whole and on the disk before the earlier ones are
touched, and those are in the history before they are replaced: a server that stops at any moment
leaves each mask whole in one of the two places, and never a study without its label.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clickseg.atomic import flush, replacing
from clickseg.journal import Journals
from clickseg.metrics import max_axial_diameter_mm, volume_ml
from clickseg.placement import forget_placing
from clickseg.record import (
    RECORD_ENDING,
    NotedClick,
    RecordError,
    as_text,
    read_record,
    repeated,
    utc_now,
)
from clickseg.study import LABEL_FOLDER, PLACING_FOLDER, T2_FOLDER, check_same_grid
from clickseg.volume import EXTENSIONS, ImageError, Volume, read_volume, stem_of, write_volume

HISTORY_FOLDER = "labels/history"
"""In the studies folder: earlier versions of accepted labels, a folder an id."""

PROVENANCE_FOLDER = "provenance"
"""In the studies folder: where imported studies come from, a JSON file an id."""

STRUCTURE_FOLDER = "structures"
"""In the studies folder: what else was outlined in imported studies, a folder an id."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class AcceptedMask:
    """A mask that may become a label: ``volume`` is uint8 0/1 in stored order ``(I, J, K)``.

    ``is_as_read``: the file holds nothing but 0 and 1 as it is.
    """

    path: Path
    volume: Volume
    is_as_read: bool

    @property
    def volume_ml(self) -> float:
        """Volume of the tumor in ml; 0 where there is none."""
        return round(volume_ml(self.volume.array, self.volume.grid.affine), 4)

    @property
    def max_axial_diameter_mm(self) -> float:
        """Largest diameter in an axial plane in mm; 0 where there is no tumor."""
        grid = self.volume.grid
        mask = grid.to_canonical(self.volume.array)
        return round(max_axial_diameter_mm(mask, grid.canonical.affine), 2)


def read_accepted(path: Path, image: Path) -> AcceptedMask:
    """Read a mask as it comes from a viewer: whatever is not zero is tumor.

    Args:
        path: of the mask.
        image: the T1ce that it belongs to.

    Raises:
        ImageError: if it cannot be read, lies on another grid than its image, or holds values
            that are no whole numbers.
    """
    grid = read_volume(image).grid
    label = read_volume(path)
    check_same_grid(label, grid, "the label")
    mask = label.array != 0
    values = label.array[mask]
    odd = values[np.rint(values) != values]
    if odd.size:
        raise ImageError(
            f"the label holds {odd.size} values like {odd[0]:g}; whole numbers were wanted, "
            "0 outside of the tumor"
        )
    # The grid is the image's own: that of the mask may differ in digits that nobody sees.
    return AcceptedMask(path, Volume(mask.astype(np.uint8), grid), bool((values == 1).all()))


def keep(
    studies: Path, image_id: str, accepted: AcceptedMask, is_made_here: bool = True
) -> tuple[NotedClick, ...]:
    """Store a mask as the accepted label of an image, in the format of its file.

    The earlier label and its clicks go to the history, the clicks noted since then into the new
    record, and the next round begins. After an error the earlier label is as it was.

    Args:
        studies: folder of the studies.
        image_id: of the image.
        accepted: the mask.
        is_made_here: False for one that was not made with the clicks noted here: its record is
            empty, and the round goes on.

    Returns:
        The clicks of the record.

    Raises:
        OSError: if something cannot be written.
    """
    journals = Journals(studies)
    extension = accepted.path.name.removeprefix(stem_of(accepted.path))
    label = _final(studies, image_id, extension)
    record = _final(studies, image_id, RECORD_ENDING)
    before = itertools.chain.from_iterable(records(studies, image_id))
    clicks = repeated(journals.read(image_id), before) if is_made_here else ()
    with replacing(record) as record_part:
        record_part.write_text(as_text(image_id, clicks), encoding="utf-8")
        flush(record_part)
        with replacing(label, extension) as part:
            if accepted.is_as_read:
                shutil.copyfile(accepted.path, part)
            else:
                write_volume(part, accepted.volume)
            flush(part)
            _to_history(studies, image_id)
            # Between the two moves there is rather no record than that of another label.
            record.unlink(missing_ok=True)
        for other in EXTENSIONS:
            if other != extension:
                _final(studies, image_id, other).unlink(missing_ok=True)
    if is_made_here:
        journals.end(image_id)
    return clicks


def retract(studies: Path, image_id: str) -> None:
    """Move the accepted label of an image and its clicks to the history; none may be there.

    Raises:
        OSError: if they cannot be moved; the label is as it was then.
    """
    _to_history(studies, image_id)
    for ending in (*EXTENSIONS, RECORD_ENDING):
        _final(studies, image_id, ending).unlink(missing_ok=True)


def forget(studies: Path, image_id: str) -> None:
    """Remove all that was kept of an image that was removed: the next of this id has none of it."""
    Journals(studies).end(image_id)
    _final(studies, image_id, RECORD_ENDING).unlink(missing_ok=True)
    for ending in EXTENSIONS:
        (studies / T2_FOLDER / f"{image_id}{ending}").unlink(missing_ok=True)
    (studies / PROVENANCE_FOLDER / f"{image_id}.json").unlink(missing_ok=True)
    for folder in (HISTORY_FOLDER, STRUCTURE_FOLDER):
        shutil.rmtree(studies / folder / image_id, ignore_errors=True)
    forget_placing(studies / PLACING_FOLDER, image_id)


def history(studies: Path, image_id: str) -> list[Path]:
    """Return the earlier labels of an image, oldest first."""
    folder = studies / HISTORY_FOLDER / image_id
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.name.endswith(EXTENSIONS) and path.name[0] != ".")


def records(studies: Path, image_id: str) -> list[tuple[NotedClick, ...]]:
    """Return the clicks of each accepted label of an image, oldest first.

    A record that cannot be read is left out, with a warning.
    """
    folder = studies / HISTORY_FOLDER / image_id
    earlier = folder.iterdir() if folder.is_dir() else ()
    paths = sorted(
        one for one in earlier if one.name.endswith(RECORD_ENDING) and one.name[0] != "."
    )
    found = []
    for path in (*paths, _final(studies, image_id, RECORD_ENDING)):
        try:
            if path.exists():
                found.append(read_record(path))
        except RecordError as error:
            logger.warning("clicks of %s are left out: %s", image_id, error)
    return found


def _final(studies: Path, image_id: str, ending: str) -> Path:
    return studies / LABEL_FOLDER / f"{image_id}{ending}"


def _to_history(studies: Path, image_id: str) -> None:
    """Give the label that is there, and its clicks, a second place under the time of now."""
    there = {
        ending: path
        for ending in (*EXTENSIONS, RECORD_ENDING)
        if (path := _final(studies, image_id, ending)).is_file()
    }
    if not there:
        return
    folder = studies / HISTORY_FOLDER / image_id
    folder.mkdir(parents=True, exist_ok=True)
    stem = _free_stem(folder)
    for ending, path in there.items():
        _link(path, folder / f"{stem}{ending}")


def _free_stem(folder: Path) -> str:
    """Return the time of now, with a number behind it where it is taken."""
    now = utc_now().strftime("%Y%m%dT%H%M%S.%fZ")
    taken = {path.name for path in folder.iterdir()}
    for number in itertools.count():
        stem = f"{now}-{number}" if number else now
        if not any(f"{stem}{ending}" in taken for ending in (*EXTENSIONS, RECORD_ENDING)):
            return stem
    raise AssertionError("numbers do not end")


def _link(path: Path, target: Path) -> None:
    """Give a file a second name; copy it where that cannot be, or where it is a link itself."""
    try:
        if path.is_symlink():
            raise OSError("a second name of a link would lead elsewhere")
        os.link(path, target)
    except OSError:
        with replacing(target) as part:
            shutil.copyfile(path, part)
