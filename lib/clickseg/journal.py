"""The clicks of a study between two accepted labels: noted as they come.

A viewer sends all clicks so far and no order among the two kinds. What is new in a request, and
what is gone, is one line at the end of the study's journal: that takes microseconds, where
replacing a file takes milliseconds, and a server that is stopped loses at most the line it was
writing. When a label is accepted, the journal becomes the record beside it, and the next round
begins without one. One server at a time writes to a folder of studies. Readers that name
themselves take back their own clicks alone; the record is of all.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clickseg.clicks import Click, Clicks
from clickseg.record import DAMAGE, Key, NotedClick, checked, key_of, utc_now
from clickseg.study import PRIVATE_FOLDER

JOURNAL_FOLDER = f"{PRIVATE_FOLDER}/clicks"
"""In the studies folder; no image is looked for there."""

UPLOAD = "upload"
"""The start of an answer that mends a mask which came with the request."""

_Stamp = tuple[int, int]
"""Size in bytes of a journal and when it was written last, ns: tells whether it is the same."""

AT_WORK = 16
"""So many journals are held in memory, those that were used last."""

_OF_ANSWER = ("model", "start", "models", "changed_voxels")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answered:
    """What the record keeps of an answer.

    ``start`` is ``initial``, ``label`` (the accepted one) or ``upload``. ``clicks`` are all that it
    obeys, the first ``scribbled`` of them standing for scribbles. ``models`` are short hashes of
    weights, ``changed_voxels`` counts against the start mask. ``client_id`` is who asked: all
    that do not say, None, are one.
    """

    model: str
    start: str
    clicks: Clicks
    models: Mapping[str, str]
    changed_voxels: int
    scribbled: int = 0
    client_id: str | None = None


@dataclass
class _Round:
    """What a journal says, up to the line that was read last."""

    content: bytes = b""
    noted: list[NotedClick] = field(default_factory=list)
    counting: dict[tuple[str | None, Key], int] = field(default_factory=dict)

    def read_on(self, content: bytes) -> None:
        """Take the lines in that came since, of the same journal."""
        for line in content[len(self.content) :].splitlines():
            try:
                if line.strip():
                    self._take(json.loads(line))
            except DAMAGE:
                logger.warning("a line of the clicks of a study is damaged and left out")
        self.content = content

    def _take(self, line: Mapping[str, Any]) -> None:
        of_answer = {name: line[name] for name in _OF_ANSWER}
        client_id, time = line.get("client_id"), line["time"]  # early lines name no client
        of_answer |= {"client_id": client_id, "time": time}
        new = [
            checked(NotedClick(Click((x, y, z), kind), is_scribble=is_scribble, **of_answer))
            for x, y, z, kind, is_scribble in line["new"]
        ]
        gone = [
            checked(NotedClick(Click((x, y, z), kind), **of_answer))
            for x, y, z, kind in line["gone"]
        ]
        for one in gone:
            place = self.counting.pop((client_id, key_of(one.click)), None)
            if place is not None:
                self.noted[place] = replace(self.noted[place], taken_back=time)
        for one in new:
            self.counting[client_id, key_of(one.click)] = len(self.noted)
            self.noted.append(one)

    def counting_of(self, client_id: str | None) -> dict[Key, None]:
        """Return the clicks of a client that count, in the order in which they came."""
        return {key: None for client, key in self.counting if client == client_id}


class Journals:
    """The clicks of each study since its label was accepted last."""

    def __init__(self, studies: Path) -> None:
        self._folder = studies / JOURNAL_FOLDER
        self._known: dict[str, tuple[_Stamp, _Round]] = {}

    def note(self, image_id: str, answer: Answered) -> None:
        """Note which clicks are new in an answer, and which are gone.

        An answer that starts from the initial outline or the accepted label obeys its own clicks
        alone: those before that it lacks were taken back. A mask that is uploaded may hold the
        effect of any before, so nothing is taken back by it. Clicks of other clients stay.

        Raises:
            OSError: if it cannot be written; the journal says what it said.
        """
        last = self._round(image_id)
        counting = last.counting_of(answer.client_id)
        asked = {key_of(click): n < answer.scribbled for n, click in enumerate(answer.clicks)}
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
            "client_id": answer.client_id,
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        # The first break ends a line that a stopped server left unfinished.
        written = b"\n" + json.dumps(line).encode() + b"\n"
        with self._path(image_id).open("ab", buffering=0) as file:
            count = file.write(written)
            stamp = _stamp_of(os.fstat(file.fileno()))
            if count < len(written):  # all that a full disk says
                if stamp[0] == len(last.content) + count:  # else another has written behind it
                    file.truncate(len(last.content))
                raise OSError(errno.ENOSPC, f"{len(written)} bytes were to be noted, {count} were")
        if stamp[0] == len(last.content) + len(written):  # nobody else wrote to it meanwhile
            last.read_on(last.content + written)
            self._keep(image_id, stamp, last)

    def read(self, image_id: str) -> tuple[NotedClick, ...]:
        """Return all clicks of the round in the order in which they came first.

        A journal that cannot be read is moved aside, with a warning, and counts as none.
        """
        return tuple(self._round(image_id).noted)

    def end(self, image_id: str) -> None:
        """Begin a new round: forget the clicks of this one, or warn that they stay."""
        try:
            self._path(image_id).unlink(missing_ok=True)
        except OSError as error:
            logger.warning("the clicks of a study cannot be removed: %s", error)

    def _round(self, image_id: str) -> _Round:
        """Read a journal; what was read of it before is not read again."""
        path = self._path(image_id)
        last_stamp, last = self._known.get(image_id, ((0, 0), _Round()))
        stamp: _Stamp = 0, 0
        try:
            stamp = _stamp_of(path.stat())
            if last_stamp == stamp:
                return last
            content = path.read_bytes()
        except FileNotFoundError:
            content = b""
        except OSError as error:
            logger.warning("the clicks of a study cannot be read: %s", error)
            content = b""
            with suppress(OSError):
                path.rename(path.with_name(f"{path.name}.damaged-{utc_now():%Y%m%dT%H%M%S.%fZ}"))
        if not content.startswith(last.content):
            last = _Round()
        last.read_on(content)
        self._keep(image_id, stamp, last)
        return last

    def _keep(self, image_id: str, stamp: _Stamp, last: _Round) -> None:
        self._known.pop(image_id, None)
        self._known[image_id] = stamp, last
        for name in list(self._known)[:-AT_WORK]:
            self._known.pop(name, None)

    def _path(self, image_id: str) -> Path:
        return self._folder / f"{image_id}.jsonl"


def _stamp_of(state: os.stat_result) -> _Stamp:
    return state.st_size, state.st_mtime_ns
