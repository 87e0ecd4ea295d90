"""The clicks of a study between two accepted labels: noted as they come, kept with the label.

A viewer sends all clicks so far and no order among the two kinds. What is new in a request, and
what is gone, is one line at the end of the study's journal: that takes microseconds, where
replacing a file takes milliseconds, and a server that is stopped loses at most the line it was
writing. When a label is accepted, the journal becomes the record beside it, ``<id>.clicks.json``,
and the next round begins without one. One server at a time writes to a folder of studies.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clickseg.clicks import Click, Clicks

JOURNAL_FOLDER = ".clickseg/clicks"
"""In the studies folder; no image is looked for there."""

RECORD_ENDING = ".clicks.json"
"""What the record of a label is called: the id of the image, and this."""

FORMAT = 1
UPLOAD = "upload"
"""The start of an answer that mends a mask which came with the request."""

Key = tuple[float, float, float, bool]
"""A click as files hold it: RAS mm, and whether it is foreground."""

_OF_ANSWER = ("model", "start", "models", "changed_voxels")
logger = logging.getLogger(__name__)


class RecordError(ValueError):
    """A file is no record of clicks; the text says what was wanted and what came."""


@dataclass(frozen=True)
class Answered:
    """What the record keeps of an answer.

    ``start`` is ``initial``, ``label`` (the accepted one) or ``upload``. ``clicks`` are all that it
    obeys, the first ``scribbled`` of them standing for scribbles. ``models`` are short hashes of
    weights, ``changed_voxels`` counts against the start mask.
    """

    model: str
    start: str
    clicks: Clicks
    models: Mapping[str, str]
    changed_voxels: int
    scribbled: int = 0


@dataclass(frozen=True)
class NotedClick:
    """A click, when it came, and the answer that it came with.

    ``time`` and ``taken_back`` are UTC in ISO 8601; a click that counts was not taken back.
    ``is_repeated``: the record of the label before has it, too, and the viewer sent it again.
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


@dataclass
class _Round:
    """What a journal says, up to the line that was read last."""

    content: bytes = b""
    noted: list[NotedClick] = field(default_factory=list)
    counting: dict[Key, int] = field(default_factory=dict)

    def read_on(self, content: bytes) -> None:
        """Take the lines in that came since, of the same journal."""
        for line in content[len(self.content) :].splitlines():
            try:
                if line.strip():
                    self._take(json.loads(line))
            except (KeyError, TypeError, ValueError, RecursionError):
                logger.warning("a line of the clicks of a study is damaged and left out")
        self.content = content

    def _take(self, line: Mapping[str, Any]) -> None:
        of_answer = {name: line[name] for name in _OF_ANSWER}
        new = [
            NotedClick(Click((x, y, z), kind), line["time"], is_scribble=is_scribble, **of_answer)
            for x, y, z, kind, is_scribble in line["new"]
        ]
        for key in line["gone"]:
            place = self.counting.pop(tuple(key), None)
            if place is not None:
                self.noted[place] = replace(self.noted[place], taken_back=line["time"])
        for one in new:
            self.counting[_key(one.click)] = len(self.noted)
            self.noted.append(one)


class Journals:
    """The clicks of each study since its label was accepted last."""

    def __init__(self, studies: Path) -> None:
        self._folder = studies / JOURNAL_FOLDER
        self._last: tuple[str, _Round] = "", _Round()

    def note(self, image_id: str, answer: Answered) -> None:
        """Note which clicks are new in an answer, and which are gone.

        An answer that starts from the initial outline or the accepted label obeys its own clicks
        alone: those before that it lacks were taken back. A mask that is uploaded may hold the
        effect of any before, so nothing is taken back by it.

        Raises:
            OSError: if it cannot be written.
        """
        counting = self._round(image_id).counting
        asked = {_key(click): n < answer.scribbled for n, click in enumerate(answer.clicks)}
        new = [[*key, is_scribble] for key, is_scribble in asked.items() if key not in counting]
        gone = [] if answer.start == UPLOAD else [key for key in counting if key not in asked]
        if not new and not gone:
            return
        line = {
            "time": utc_now().isoformat(timespec="milliseconds"),
            "model": answer.model,
            "start": answer.start,
            "models": dict(answer.models),
            "changed_voxels": answer.changed_voxels,
            "new": new,
            "gone": gone,
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._path(image_id).open("ab", buffering=0) as file:
            # The first break ends a line that a stopped server left unfinished.
            file.write(b"\n" + json.dumps(line).encode() + b"\n")

    def read(self, image_id: str) -> tuple[NotedClick, ...]:
        """Return all clicks of the round in the order in which they came first."""
        return tuple(self._round(image_id).noted)

    def end(self, image_id: str) -> None:
        """Begin a new round: forget the clicks of this one."""
        self._path(image_id).unlink(missing_ok=True)

    def _round(self, image_id: str) -> _Round:
        """Read a journal; what was read of it at the last request is not read again."""
        try:
            content = self._path(image_id).read_bytes()
        except FileNotFoundError:
            content = b""
        last_id, last = self._last
        if last_id != image_id or not content.startswith(last.content):
            last = _Round()
        last.read_on(content)
        self._last = image_id, last
        return last

    def _path(self, image_id: str) -> Path:
        return self._folder / f"{image_id}.jsonl"


def clicks_made(clicks: Iterable[NotedClick]) -> int:
    """Count the clicks that a reader made in a round and did not take back."""
    return sum(_counts(noted) and not noted.is_repeated for noted in clicks)


def repeated(clicks: Iterable[NotedClick], before: Iterable[NotedClick]) -> tuple[NotedClick, ...]:
    """Mark clicks that the round before has: after an accepted label viewers send them again."""
    known = {_key(noted.click) for noted in before if _counts(noted)}
    return tuple(replace(noted, is_repeated=_key(noted.click) in known) for noted in clicks)


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
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"{path.name} is no record of clicks: {error!r:.200}") from error


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def _key(click: Click) -> Key:
    """Name a click: the same voxel gives the same numbers, and files hold no more digits."""
    x, y, z = (round(value, 4) for value in click.point_ras)
    return x, y, z, click.is_foreground


def _counts(noted: NotedClick) -> bool:
    return noted.taken_back is None


def _values_of(noted: NotedClick) -> dict[str, Any]:
    *point_ras, is_foreground = _key(noted.click)
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
    }


def _from_values(values: dict[str, Any]) -> NotedClick:
    x, y, z = (float(value) for value in values["point_ras_mm"])
    if values["kind"] not in ("foreground", "background"):
        raise RecordError(f"a click is foreground or background, got {values['kind']!r:.80}")
    others = {name: values[name] for name in _values_of(_ANY) if name not in _OF_CLICK}
    return NotedClick(Click((x, y, z), values["kind"] == "foreground"), **others)


_OF_CLICK = ("point_ras_mm", "kind")
_ANY = NotedClick(Click((0.0, 0.0, 0.0), True), "", "", "", 0, {})
