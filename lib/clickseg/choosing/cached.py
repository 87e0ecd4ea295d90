"""Scores on disk: one small JSON file a study, for one state of its files and one pair of models.

A file is made beside its place and moved there, so a reader finds an old or a new one, never
half of one. What is damaged, by other models or made by other rules counts as missing; a file goes
only where the study is no longer the one that was scored.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from clickseg.atomic import write_text
from clickseg.cache import SETTLED_NS, Fingerprints
from clickseg.choosing.scores import StudyScores
from clickseg.modelfile import read_manifest
from clickseg.study import Case, placing_of
from clickseg.volume import stem_of

RULES = 3
"""Rises whenever scores are computed in another way: those made before no longer count."""

ENDING = ".json"


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Entry:
    """What a file holds: ``content`` names the state of the study, ``models`` the weights."""

    rules: int
    content: str
    models: dict[str, str]
    scores: StudyScores

    def is_by(self, models: Mapping[str, str]) -> bool:
        """Tell whether the scores are by these models and by the present rules."""
        return self.rules == RULES and self.models == dict(models)


_ENTRIES = TypeAdapter(Entry)


def content_of(case: Case, fingerprint: Fingerprints) -> str:
    """Name the state of a study: its files by their content and format, and how its T2 is placed.

    Raises:
        ImageError: if one is missing, or keeps changing.
    """
    files = "+".join(
        "" if path is None else fingerprint(path) + path.name.removeprefix(stem_of(path))
        for path in (case.t1ce, case.t2)
    )
    return files if case.t2 is None else files + placing_of(case.t1ce).key


def hashes_of(initial: Path, correction: Path) -> dict[str, str]:
    """Return the short hashes of the models in two folders, as ``Models.hashes`` has them.

    Only manifests are read.

    Raises:
        ModelError: if one is missing or no manifest.
    """
    folders = {"initial": initial, "correction": correction}
    return {name: read_manifest(folder, name).short_hash for name, folder in folders.items()}


def write_entry(folder: Path, case_id: str, entry: Entry) -> None:
    """Keep the scores of a study, instead of earlier ones."""
    write_text(folder / f"{case_id}{ENDING}", json.dumps(asdict(entry)) + "\n")


def drop_entry(folder: Path, case_id: str) -> None:
    """Forget the scores of a study, if there are any."""
    (folder / f"{case_id}{ENDING}").unlink(missing_ok=True)


def drop_others(folder: Path, case_ids: Collection[str]) -> None:
    """Forget the scores of all other studies; a file that holds no scores is left."""
    for path in folder.glob(f"*{ENDING}"):
        if path.name.removesuffix(ENDING) not in case_ids and _read(path) is not None:
            path.unlink(missing_ok=True)


def read_entry(folder: Path, case_id: str) -> Entry | None:
    """Return what is kept of a study; None where that is nothing, or nothing of use."""
    return _read(folder / f"{case_id}{ENDING}")


def _read(path: Path) -> Entry | None:
    try:
        return _ENTRIES.validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class _Held:
    state: tuple[int, int, int]
    entry: Entry | None


class HeldScores:
    """The scores of a folder, held in memory; files are read again when they were replaced.

    Asking costs one look at the folder where nothing changed. Thread-safe.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, _Held] = {}
        self._state: tuple[int, int] | None = None
        self._lock = threading.Lock()

    def by(self, models: Mapping[str, str]) -> dict[str, StudyScores]:
        """Return the scores that these models gave, by study.

        Whether the files of a study are still the ones that were scored is not looked at: that
        would mean to read them all. Whoever fills the folder sees to it.

        Args:
            models: short hashes, as ``Models.hashes``.
        """
        with self._lock:
            self._refresh()
            return {
                name: held.entry.scores
                for name, held in self._held.items()
                if held.entry is not None and held.entry.is_by(models)
            }

    def to_choose_by(self, models: Mapping[str, str]) -> dict[str, StudyScores]:
        """Return the scores that these models gave, or others that scored more studies.

        A new model has scored nothing yet, and what the last one said is better than nothing.
        Scores of two pairs of models are never compared.
        """
        mine, groups = self.by(models), defaultdict[str, dict[str, StudyScores]](dict)
        with self._lock:
            for name, held in self._held.items():
                if held.entry is not None and held.entry.rules == RULES:
                    groups[str(held.entry.models)][name] = held.entry.scores
        return max((mine, *groups.values()), key=len)

    def _refresh(self) -> None:
        try:
            status = self.folder.stat()
            state = status.st_mtime_ns, status.st_ino
            if state == self._state:
                return
            # One tick of the clock may see another file: a date as young as this is not trusted.
            is_settled = time.time_ns() - status.st_mtime_ns > SETTLED_NS
            found = {}
            for path in self.folder.iterdir():
                if path.suffix == ENDING and not path.name.startswith("."):
                    name, held = path.name.removesuffix(ENDING), path.stat()
                    seen = held.st_mtime_ns, held.st_size, held.st_ino
                    known = self._held.get(name)
                    is_known = known is not None and known.state == seen
                    found[name] = known if known and is_known else _Held(seen, _read(path))
        except OSError:  # there is no folder yet, or it is going away: what is held stays
            return
        self._held, self._state = found, state if is_settled else None
