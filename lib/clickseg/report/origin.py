"""What the server wrote beside an outline: who, when, how many clicks, how many versions before.

All of it may be missing, or in a form that is not known here: then it is unknown.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from clickseg.accepted import history
from clickseg.record import RECORD_ENDING, RecordError, clicks_made, read_record
from clickseg.study import LABEL_FOLDER
from clickseg.volume import ImageError, read_label, stem_of

INDEX = "datastore_v2.json"
"""The server's list of images and labels, in the studies folder."""

ACCEPTED_TAG = "final"

DAY = "%Y%m%d"
"""How DICOM writes a day."""

ANYBODY = "admin"
"""The user of every request to a server without authentication: it says nothing."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """How an outline came about; ``versions`` is how many were accepted before it.

    ``clicks`` are those that a reader made since the version before and did not take back, without
    scribbles. Where none came and the outline is that version, voxel for voxel, it was only saved
    again: then they are those of that version.
    ``is_file_time``: ``when`` is the time of the file, which copying may have changed.
    """

    who: str | None = None
    when: datetime | None = None
    is_file_time: bool = False
    clicks: int | None = None
    versions: int = 0


def read_index(studies: Path) -> Mapping[str, Any]:
    """Return the server's entries by the id of the image; none if there is no list to read."""
    path = studies / INDEX
    if not path.exists():
        return {}
    objects = _get(_read_json(path), "objects")
    if not isinstance(objects, dict):
        logger.warning("%s is not a list of images as the server writes it", path.name)
        return {}
    return objects


def dates_of(index: Mapping[str, Any]) -> dict[str, str]:
    """Return date and time of studies by id, as DICOM writes them, of those that have a date.

    What is no day of the calendar is no date.
    """
    found = {}
    for case_id, entry in index.items():
        info = _get(_get(entry, "image"), "info")
        day, time = (_name(_get(info, key)) or "" for key in ("StudyDate", "StudyTime"))
        day = day.replace(".", "").replace("-", "")  # old DICOM has 2020.01.31
        if _is_day(day):
            found[case_id] = day + time.replace(":", "")
    return found


def _is_day(text: str) -> bool:
    try:
        return datetime.strptime(text, DAY).strftime(DAY) == text
    except ValueError:
        return False


def origin_of(studies: Path, index: Mapping[str, Any], case_id: str, label: Path) -> Origin:
    """Return what is known of an accepted label.

    Args:
        studies: the folder of studies.
        index: as ``read_index`` returned it.
        case_id: of the study.
        label: the file of the label.
    """
    info = _get(_get(_get(_get(index, case_id), "labels"), ACCEPTED_TAG), "info")
    user = _name(_get(info, "user"))
    when = _time(_get(info, "ts"))
    is_file_time = when is None
    if when is None:
        try:
            when = _time(label.stat().st_mtime)
        except OSError:
            is_file_time = False
    return Origin(
        _name(_get(info, "client_id")) or (None if user == ANYBODY else user),
        when,
        is_file_time,
        _clicks(studies, case_id, label),
        _versions(studies, case_id),
    )


def _get(values: Any, key: str) -> Any:
    return values.get(key) if isinstance(values, Mapping) else None


def _name(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # missing, not text, no JSON, nested too deeply
        return None


def _time(seconds: Any) -> datetime | None:
    """Return the time of seconds since 1970 in the zone of this machine."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone()
    except (OverflowError, OSError, ValueError):  # no time at all, or NaN
        return None


def _clicks(studies: Path, case_id: str, label: Path) -> int | None:
    record = studies / LABEL_FOLDER / f"{case_id}{RECORD_ENDING}"
    try:
        noted = read_record(record)
        for before in reversed(history(studies, case_id)):
            if not all(one.is_repeated for one in noted) or not _is_same(label, before):
                break
            label, noted = before, read_record(before.with_name(stem_of(before) + RECORD_ENDING))
    except (OSError, RecordError):
        return None
    return clicks_made(noted)


def _is_same(label: Path, other: Path) -> bool:
    """Tell whether two masks have the same voxels; one that cannot be read is like none."""
    try:
        return np.array_equal(read_label(label).array, read_label(other).array)
    except ImageError:
        return False


def _versions(studies: Path, case_id: str) -> int:
    try:
        return len(history(studies, case_id))
    except OSError:
        return 0
