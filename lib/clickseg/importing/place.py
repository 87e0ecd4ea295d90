"""Where an imported study goes: all of its files or none, and nothing that is there is lost.

A study is made in ``.clickseg/importing/<id>.part``. When it is whole and on the disk, and was read
from there, the folder is renamed to ``<id>.ready``, and its files are moved to their places: T2,
label and the rest first, the T1ce next, so that a reader that sees it finds the other files too,
and last the JSON of provenance. A run that stopped between any two steps is taken up there by the
next one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clickseg.accepted import PROVENANCE_FOLDER, STRUCTURE_FOLDER, retract
from clickseg.atomic import write_text
from clickseg.importing.source import ImportingError, Loaded, Source
from clickseg.study import LABEL_FOLDER, PRIVATE_FOLDER, T2_FOLDER, Case, newest_label
from clickseg.volume import EXTENSIONS, find_image, write_volume

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

    def is_imported(self) -> bool:
        """Tell whether the study was imported, and its T1ce was not removed since."""
        return self.provenance.is_file() and self.t1ce.is_file()

    def in_the_way(self) -> Path | None:
        """Return a file of a study with this id that no import wrote, or any label; else None."""
        image = find_image(self.out, self.case_id)
        label = newest_label(self.out / LABEL_FOLDER, self.case_id)
        if self.provenance.is_file():
            return image or label
        return image or label or find_image(self.out / T2_FOLDER, self.case_id)

    def prepare(self, loaded: Loaded, provenance: dict[str, object]) -> Case:
        """Write a study aside, for ``put``, and return it as it is there.

        Raises:
            OSError: if something cannot be written.
        """
        self.discard()
        images = {"t1ce": loaded.t1ce, T2_FOLDER: loaded.t2, "label": loaded.label}
        images |= {f"{STRUCTURE_FOLDER}/{name}": mask for name, mask in loaded.others.items()}
        for name, volume in images.items():
            if volume is not None:
                write_volume(self._part / f"{name}{IMAGE}", volume)
        write_text(self._part / "provenance.json", json.dumps(provenance, indent=1) + "\n")
        t2, label = (find_image(self._part, name) for name in (T2_FOLDER, "label"))
        return Case(self.case_id, self._part / f"t1ce{IMAGE}", t2, label)

    def discard(self) -> None:
        """Remove a study that was prepared."""
        shutil.rmtree(self._part, ignore_errors=True)

    def put(self) -> None:
        """Let the study that was prepared replace what is there; a label goes to the history.

        Raises:
            OSError: if its files cannot be moved; what is left is moved by ``finish``.
        """
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
