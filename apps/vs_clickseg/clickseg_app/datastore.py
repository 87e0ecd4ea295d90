"""The studies folder, closed against names that are paths."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.local import DataModel, ImageLabelModel
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

from clickseg.accepted import (
    HISTORY_FOLDER,
    AcceptedMask,
    forget,
    keep,
    read_accepted,
    retract,
)
from clickseg.atomic import replacing
from clickseg.record import clicks_made, utc_now
from clickseg.study import check_same_grid, newest_label
from clickseg.volume import EXTENSIONS, find_image, read_label, read_volume, stem_of
from clickseg_app.errors import NOT_ALLOWED, NOT_FOUND, TAKEN, WRONG, told
from clickseg_app.index import SharedIndex, check_info
from clickseg_app.uploads import discarding

_TAG = re.compile(r"[A-Za-z0-9_-]{1,32}")
FINAL = str(DefaultLabelTag.FINAL.value)
"""The tag of accepted labels."""

LONGEST_ID = 200
"""Bytes: file names have 255, and those of earlier labels have the time in them, too."""

_HISTORY = Path(HISTORY_FOLDER).name  # beside the folders of tags, and none of them


def is_plain(name: str) -> bool:
    """Tell whether a name is no path: nothing in it leads out of a folder."""
    return name not in ("", ".", "..") and not re.search(r"[/\\\0]", name)


def check_id(image_id: Any) -> str:
    """Return an image id that names no path.

    Raises:
        HTTPException: if it does.
    """
    if not isinstance(image_id, str) or not is_plain(image_id) or image_id.startswith("."):
        raise HTTPException(NOT_ALLOWED, f"an image id is a plain name, got {image_id!r:.80}")
    return image_id


def check_path(name: str) -> Path:
    """Return the resolved path of a name that a file can have.

    Raises:
        HTTPException: if none can: it holds a zero byte, say, or is too long.
    """
    try:
        path = Path(name).resolve()
        path.exists()
    except (OSError, ValueError) as error:
        raise HTTPException(WRONG, f"no file can have the name {name!r:.80}") from error
    return path


def check_tag(tag: Any) -> str:
    """Return a label tag of letters, digits, ``_`` and ``-``.

    Raises:
        HTTPException: if it is none.
    """
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise HTTPException(
            NOT_ALLOWED, f"a label tag is up to 32 letters, digits, _ or -, got {tag!r:.80}"
        )
    name = str(getattr(tag, "value", tag))
    if name.lower() == _HISTORY:
        raise HTTPException(NOT_ALLOWED, f"{name!r} is where earlier labels are kept, no label tag")
    return name


class StudiesDatastore(SharedIndex):
    """A studies folder: images at the top, T2 in ``t2/`` (not listed), labels in ``labels/``.

    ``label_names`` are the names of what a mask shows and their values; ``last_saved`` is
    what is to be told about the label that was saved last.
    """

    def __init__(
        self, studies: str, auto_reload: bool, read_only: bool, label_names: Mapping[str, int]
    ) -> None:
        self.label_names = dict(label_names)
        self.last_saved: dict[str, Any] = {}
        super().__init__(studies, auto_reload, read_only)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Add an uploaded image under a plain name that is free, with whatever ending."""
        with self._index_lock, told(), discarding(image_filename):
            check_path(check_id(image_id))
            if len(image_id.encode()) > LONGEST_ID:
                raise HTTPException(
                    WRONG, f"an image id has at most {LONGEST_ID} bytes, got {image_id!r:.80}"
                )
            images = Path(self._datastore.image_path())
            if self.get_image_uri(image_id) or find_image(images, image_id):  # it may be new there
                raise HTTPException(TAKEN, f"there is an image {image_id!r:.80} already")
            path, info = Path(image_filename), check_info(image_info, "an image")
            read_volume(path)
            with self.changing() as entries:
                image = _copied(path, images, image_id, info)
                entries[image_id] = ImageLabelModel(image=image)
            return image_id

    def remove_image(self, image_id: str) -> None:
        """Remove an image and its labels, earlier ones, too."""
        with self._index_lock, _known(image_id):
            entry = self._datastore.objects.get(image_id)
            # A folder of labels that somebody made by hand may have a name that no tag has.
            for tag in () if entry is None else [*entry.labels]:
                if not _TAG.fullmatch(tag):
                    super().remove_label(image_id, tag)
            self.refresh()  # with a watched folder the original leaves that to the watcher
            super().remove_image(image_id)
            forget(Path(self._datastore_path), check_id(image_id))
            self.refresh()

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """Save a label that lies on the grid of its image, instead of an earlier one."""
        with self._index_lock, told(), discarding(label_filename), _known(image_id):
            self.last_saved = {}
            tag, path = check_tag(label_tag), Path(label_filename)
            check_id(image_id)
            image = self.get_image_uri(image_id)
            if not image:
                raise ImageNotFoundException(f"there is no image {image_id}")
            info = check_info(label_info, "a label")
            if tag == FINAL:
                return self._accept(image_id, read_accepted(path, Path(image)), info)
            check_same_grid(read_label(path), read_volume(Path(image)).grid, "the label")
            with self.changing() as entries:
                folder = Path(self._datastore.label_path(tag))
                label = _copied(path, folder, image_id, info)
                _entry(entries, image_id).labels[tag] = label
                for other in EXTENSIONS:  # only one can be the newest
                    if other != label.ext:
                        (folder / f"{image_id}{other}").unlink(missing_ok=True)
            return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label; an accepted one and its clicks are kept among the earlier ones."""
        with self._index_lock, _known(label_id):
            tag = check_tag(label_tag)
            self.refresh()  # a file that is new counts, too
            entry = self._datastore.objects.get(check_id(label_id))
            if entry is None or tag not in entry.labels:
                raise LabelNotFoundException(f"there is no label {label_id} of tag {label_tag}")
            if tag == FINAL:
                retract(Path(self._datastore_path), label_id)
            else:
                super().remove_label(label_id, tag)
            self.refresh()

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Note something about an image."""
        with _known(image_id), self.changing() as entries:
            _entry(entries, image_id).image.info.update(check_info(info, "an image"))

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Note something about a label."""
        with _known(label_id), self.changing() as entries:
            label = entries[label_id].labels.get(label_tag) if label_id in entries else None
            if label is None:
                raise LabelNotFoundException(f"there is no label {label_id} of tag {label_tag}")
            label.info.update(check_info(info, "a label"))

    def _accept(self, image_id: str, mask: AcceptedMask, info: dict[str, Any]) -> str:
        """Accept a label that a reader made here."""
        return self._keep(image_id, mask, info)

    def _keep(
        self,
        image_id: str,
        mask: AcceptedMask,
        label_info: dict[str, Any],
        is_made_here: bool = True,
    ) -> str:
        """Save a final label: what a viewer says about values and indices is not looked at.

        One that was not made here has none of the clicks that were noted here.
        """
        clicks = keep(Path(self._datastore_path), image_id, mask, is_made_here)
        self.last_saved = {
            "volume_ml": mask.volume_ml,
            "max_axial_diameter_mm": mask.max_axial_diameter_mm,
            "clicks": clicks_made(clicks),
        }
        now, extension = utc_now(), mask.path.name.removeprefix(stem_of(mask.path))
        named = [{"name": name, "idx": value} for name, value in self.label_names.items()]
        info = label_info | self.last_saved
        info |= {"label_names": self.label_names, "label_info": named}
        info |= {"name": f"{image_id}{extension}", "ts": int(now.timestamp())}
        info["time"] = now.isoformat(timespec="seconds")
        with self.changing() as entries:
            _entry(entries, image_id).labels[FINAL] = DataModel(info=info, ext=extension)
        return image_id

    def _to_id(self, file: str) -> tuple[str, str]:
        # The original removes the ending wherever it occurs in the name.
        stem = stem_of(Path(file))
        return stem, file.removeprefix(stem)

    def _add_non_existing_labels(self, tag: str) -> int:
        if tag == _HISTORY:
            return 0
        objects = self._datastore.objects
        before = {image_id for image_id, entry in objects.items() if tag in entry.labels}
        changed = int(super()._add_non_existing_labels(tag))
        folder = Path(self._datastore.label_path(tag))
        for image_id, entry in objects.items():
            label = entry.labels.get(tag)
            newest = newest_label(folder, image_id) if label is not None else None
            if label is None or newest is None:
                continue
            # A server was stopped after it saved a label in another format than before.
            is_other = newest.name != image_id + label.ext
            # One that was found is as old as its file, not as the moment it was found.
            if is_other or image_id not in before:
                entry.labels[tag] = _entry_of(newest, {})
            changed += is_other
        return changed

    def _list_files(self, path: str, patterns: list[str]) -> dict[str, str]:
        found: dict[str, str] = super()._list_files(path, patterns)
        return {name: file for name, file in found.items() if _is_listed(name)}


def _is_listed(name: str) -> bool:
    """Leave out hidden files, and names that are no text: no index could hold them."""
    is_text = name.encode("utf-8", "ignore").decode() == name
    return is_text and not name.startswith(".")


def _entry(entries: Mapping[str, ImageLabelModel], image_id: str) -> ImageLabelModel:
    if image_id not in entries:  # another process may have removed it
        raise ImageNotFoundException(f"there is no image {image_id}")
    return entries[image_id]


def _copied(path: Path, folder: Path, image_id: str, info: dict[str, Any]) -> DataModel:
    """Copy a file under the name of an image, whole or not at all, and return its entry."""
    extension = path.name.removeprefix(stem_of(path))
    name = f"{image_id}{extension}"
    with replacing(folder / name, extension) as part:
        shutil.copyfile(path, part)
    return _entry_of(folder / name, info)


def _entry_of(path: Path, info: dict[str, Any]) -> DataModel:
    extension = path.name.removeprefix(stem_of(path))
    return DataModel(
        info=info | {"ts": int(path.stat().st_mtime), "name": path.name}, ext=extension
    )


@contextmanager
def _known(name: str) -> Iterator[None]:
    """Tell a viewer that a name is not there: MONAI Label's own error is a bare 500."""
    try:
        yield
    except (ImageNotFoundException, LabelNotFoundException) as error:
        raise HTTPException(NOT_FOUND, f"there is no {name!r:.80} in the studies folder") from error
