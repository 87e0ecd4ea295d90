"""The record of the clicks that an accepted label was made with: ``<id>.clicks.json`` beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clickseg.clicks import Click

RECORD_ENDING = ".clicks.json"
"""What the record of a label is called: the id of the image, and this."""

FORMAT = 1
Key = tuple[float, float, float, bool]
"""A click as files hold it: RAS mm, and whether it is foreground."""


class RecordError(ValueError):
    """A file is no record of clicks; the text says what was wanted and what came."""


@dataclass(frozen=True)
class NotedClick:
    """A click, when it came, and the answer that it came with.

    ``time`` and ``taken_back`` are UTC in ISO 8601; a click that counts was not taken back.
    ``is_repeated``: the record of a label before has it, too, and the viewer sent it again.
    """

    click: Click
    time: str
    model: str
    start: str
    changed_voxels: int
    models: Mapping[str, str]
    is_scribble: bool = False
    taken_back: str | None = None
    is_repeated: bool = False
    client_id: str | None = None


def clicks_made(clicks: Iterable[NotedClick]) -> int:
    """Count the clicks that a reader made in a round and did not take back.

    Scribbles are left out: how many points stand for a stroke is our choice, not the reader's.
    """
    return sum(_counts(one) and not (one.is_repeated or one.is_scribble) for one in clicks)


def repeated(clicks: Iterable[NotedClick], before: Iterable[NotedClick]) -> tuple[NotedClick, ...]:
    """Mark clicks of earlier rounds: after an accepted label viewers send them again.

    Args:
        clicks: of this round.
        before: those of all rounds before, oldest first. One that was taken back last and comes
            again is a new one.
    """
    known: set[Key] = set()
    for noted in before:
        (known.add if _counts(noted) else known.discard)(key_of(noted.click))
    return tuple(replace(noted, is_repeated=key_of(noted.click) in known) for noted in clicks)


def as_text(image_id: str, clicks: Iterable[NotedClick]) -> str:
    """Return a record as JSON, one line a click."""
    lines = ",\n".join(f"  {json.dumps(_values_of(noted))}" for noted in clicks)
    return f'{{\n "format": {FORMAT},\n "image": {json.dumps(image_id)},\n "clicks": [' + (
        f"\n{lines}\n ]\n}}\n" if lines else "]\n}\n"
    )


def read_record(path: Path) -> tuple[NotedClick, ...]:
    """Read a record.

    Raises:
        RecordError: if the file is missing or is none.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise RecordError(f"{path.name} has format {values['format']!r:.80}, not {FORMAT}")
        return tuple(_from_values(one) for one in values["clicks"])
    except RecordError:
        raise
    except (OSError, *DAMAGE) as error:
        raise RecordError(f"{path.name} is no record of clicks: {error!r:.200}") from error


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def key_of(click: Click) -> Key:
    """Name a click: the same voxel gives the same numbers, and files hold no more digits."""
    x, y, z = (round(value, 4) for value in click.point_ras)
    return x, y, z, click.is_foreground


def _counts(noted: NotedClick) -> bool:
    return noted.taken_back is None


def _values_of(noted: NotedClick) -> dict[str, Any]:
    *point_ras, is_foreground = key_of(noted.click)
    return {
        "point_ras_mm": point_ras,
        "kind": "foreground" if is_foreground else "background",
        "time": noted.time,
        "taken_back": noted.taken_back,
        "is_repeated": noted.is_repeated,
        "is_scribble": noted.is_scribble,
        "model": noted.model,
        "start": noted.start,
        "changed_voxels": noted.changed_voxels,
        "models": dict(noted.models),
        "client_id": noted.client_id,
    }


def _from_values(values: dict[str, Any]) -> NotedClick:
    x, y, z = (float(value) for value in values["point_ras_mm"])
    if values["kind"] not in ("foreground", "background"):
        raise RecordError(f"a click is foreground or background, got {values['kind']!r:.80}")
    values = {"client_id": None} | values  # early records name no client
    others = {name: values[name] for name in _TYPES}
    return checked(NotedClick(Click((x, y, z), values["kind"] == "foreground"), **others))


def checked(noted: NotedClick) -> NotedClick:
    """Return a click as a file tells of it, if a record can hold it.

    Raises:
        TypeError: if a value is of another type.
        ValueError: if a coordinate is not finite.
    """
    if not all(math.isfinite(value) for value in noted.click.point_ras):
        raise ValueError("the coordinates of a click are finite")
    for name, kind in _TYPES.items():
        if not isinstance(getattr(noted, name), kind):
            raise TypeError(f"{name} of a click is {getattr(noted, name)!r:.80}")
    if not isinstance(noted.click.is_foreground, bool):
        raise TypeError("a click is foreground or not")
    return noted


DAMAGE = (KeyError, TypeError, ValueError, OverflowError, RecursionError)
"""What comes of a file that holds something else."""

_TYPES: dict[str, Any] = {
    "time": str,
    "model": str,
    "start": str,
    "changed_voxels": int,
    "models": dict,
    "is_scribble": bool,
    "taken_back": str | None,
    "is_repeated": bool,
    "client_id": str | None,
}
