"""Where an imported study goes: all of its files or none, and nothing that is there is lost.

A study is made in ``.clickseg/importing/<id>.part``. When it is whole and on the disk, the folder
is renamed to ``<id>.ready``, and its files are moved to their places: T2, label and the rest first,
the T1ce next, so that a reader that sees it finds the other files too, and last the JSON of
provenance. A run that stopped between any two steps is taken up there by the next one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clickseg.accepted import retract
from clickseg.atomic import write_text
from clickseg.importing.source import ImportingError, Loaded, Source
from clickseg.study import LABEL_FOLDER, PRIVATE_FOLDER, T2_FOLDER, newest_label
from clickseg.volume import EXTENSIONS, find_image, write_volume

PROVENANCE_FOLDER = "provenance"
STRUCTURE_FOLDER = "structures"
IMAGE = ".nii.gz"


@dataclass(frozen=True)
class Place:
    """Where one study goes in a folder of studies."""

    out: Path
    case_id: str

    @property
    def t1ce(self) -> Path:
        """The image that the viewer shows."""
        return self.out / f"{self.case_id}{IMAGE}"

    @property
    def provenance(self) -> Path:
        """The JSON that says where the study comes from; it is there once all is."""
        return self.out / PROVENANCE_FOLDER / f"{self.case_id}.json"

    @property
    def _part(self) -> Path:
        return self.out / PRIVATE_FOLDER / "importing" / f"{self.case_id}.part"

    @property
    def _ready(self) -> Path:
        return self._part.with_suffix(".ready")

    def in_the_way(self) -> Path | None:
        """Return a file of a study with this id, or None."""
        t2 = find_image(self.out / T2_FOLDER, self.case_id)
        label = newest_label(self.out / LABEL_FOLDER, self.case_id)
        return find_image(self.out, self.case_id) or t2 or label

    def put(self, loaded: Loaded, provenance: dict[str, object]) -> None:
        """Write a study; what is in its way is replaced, an accepted label goes to the history.

        Raises:
            OSError: if something cannot be written; the study that was there is as it was.
        """
        shutil.rmtree(self._part, ignore_errors=True)
        images = {"t1ce": loaded.t1ce, T2_FOLDER: loaded.t2, "label": loaded.label}
        images |= {f"{STRUCTURE_FOLDER}/{name}": mask for name, mask in loaded.others.items()}
        for name, volume in images.items():
            if volume is not None:
                write_volume(self._part / f"{name}{IMAGE}", volume)
        write_text(self._part / "provenance.json", json.dumps(provenance, indent=1) + "\n")
        self._part.rename(self._ready)
        self.finish()

    def finish(self) -> None:
        """Move the files of a study that is ready; nothing is done where none is.

        Raises:
            OSError: if they cannot be moved; what is left is moved the next time.
        """
        if not self._ready.is_dir():
            return
        # While files change, nothing says that all is there.
        self.provenance.unlink(missing_ok=True)
        label = self._ready / f"label{IMAGE}"
        facts = self._facts()
        is_replaced = label.exists() or (facts is not None and facts["label"] is None)
        if is_replaced and newest_label(self.out / LABEL_FOLDER, self.case_id) is not None:
            retract(self.out, self.case_id)
        moves = [
            (self._ready / f"{T2_FOLDER}{IMAGE}", self.out / T2_FOLDER / self.t1ce.name),
            (label, self.out / LABEL_FOLDER / self.t1ce.name),
            (self._ready / STRUCTURE_FOLDER, self.out / STRUCTURE_FOLDER / self.case_id),
            (self._ready / f"t1ce{IMAGE}", self.t1ce),
            (self._ready / "provenance.json", self.provenance),
        ]
        for path in self._stale(facts):
            path.unlink(missing_ok=True)
        for source, target in moves:
            if source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.is_dir():
                    shutil.rmtree(target)
                source.replace(target)
        shutil.rmtree(self._ready)

    def _facts(self) -> dict[str, Any] | None:
        """Return what is told of the study that is ready; None once all of it is moved."""
        path = self._ready / "provenance.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def _stale(self, facts: dict[str, Any] | None) -> list[Path]:
        """Return what would be taken for a part of the study that is ready, and is none."""
        if facts is None:
            return []
        others = [ending for ending in EXTENSIONS if ending != IMAGE]
        t2 = EXTENSIONS if facts["t2"] is None else others
        return [
            *(self.out / f"{self.case_id}{ending}" for ending in others),
            *(self.out / T2_FOLDER / f"{self.case_id}{ending}" for ending in t2),
        ]


def check_room(out: Path, sources: Sequence[Source]) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        ImportingError: with how much is wanted and how much is free.
    """
    wanted = sum(source.size_bytes() for source in sources)
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if wanted > free:
        raise ImportingError(
            f"{len(sources)} studies take up to {wanted / 1e9:.1f} GB, {there} has "
            f"{free / 1e9:.1f} GB left"
        )
