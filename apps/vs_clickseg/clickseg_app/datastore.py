"""The studies folder and the sessions, closed against names that are paths."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from filelock import FileLock
from monailabel.datastore.local import DataModel, LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException
from monailabel.utils.sessions import Sessions

from clickseg.accepted import HISTORY_FOLDER, forget, forget_clicks, keep, read_accepted
from clickseg.record import clicks_made, utc_now
from clickseg.study import check_same_grid
from clickseg.volume import EXTENSIONS, find_image, read_label, read_volume, stem_of
from clickseg_app.errors import NOT_ALLOWED, NOT_FOUND, TAKEN, WRONG, told

_TAG = re.compile(r"[A-Za-z0-9_-]{1,32}")
FINAL = str(DefaultLabelTag.FINAL.value)
"""The tag of accepted labels."""

_HISTORY = Path(HISTORY_FOLDER).name  # beside the folders of tags, and none of them
_SESSION = re.compile(r"[A-Za-z0-9-]{1,64}")


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


class StudiesDatastore(LocalDatastore):
    """A studies folder: images at the top, T2 in ``t2/`` (not listed), labels in ``labels/``.

    ``label_names`` are the names of what a mask shows and their values; ``last_saved`` is
    what is to be told about the label that was saved last.

    A thread that watches the folder empties the index before it fills it again: one lock keeps
    requests from looking in between. It is taken before the lock of the index file.
    """

    def __init__(
        self, studies: str, auto_reload: bool, read_only: bool, label_names: Mapping[str, int]
    ) -> None:
        self._index_lock = threading.RLock()
        self.label_names = dict(label_names)
        self.last_saved: dict[str, Any] = {}
        super().__init__(
            studies,
            extensions=[f"*{extension}" for extension in EXTENSIONS],
            auto_reload=auto_reload,
            read_only=read_only,
        )

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Add an uploaded image under a plain name that is free, with whatever ending."""
        with self._index_lock, told(), discarding(image_filename):
            check_path(check_id(image_id))
            if self.get_image_uri(image_id):
                raise HTTPException(TAKEN, f"there is an image {image_id!r:.80} already")
            read_volume(Path(image_filename))
            return str(super().add_image(check_id(image_id), image_filename, image_info))

    def remove_image(self, image_id: str) -> None:
        """Remove an image and its labels."""
        with self._index_lock, _known(image_id):
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
            if image and tag == FINAL:
                return self._accept(image_id, path, Path(image), label_info)
            if image:
                check_same_grid(read_label(path), read_volume(Path(image)).grid, "the label")
            label_id = str(super().save_label(image_id, label_filename, tag, label_info))
            self._remove_other_formats(image_id, tag, path.name.removeprefix(stem_of(path)))
            return label_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label."""
        with self._index_lock, _known(label_id):
            super().remove_label(check_id(label_id), check_tag(label_tag))
            if check_tag(label_tag) == FINAL:
                forget_clicks(Path(self._datastore_path), label_id)
            self.refresh()

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Note something about an image."""
        with self._index_lock, _known(image_id):
            super().update_image_info(image_id, info)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Note something about a label."""
        with self._index_lock, _known(label_id):
            super().update_label_info(label_id, label_tag, info)

    def _accept(self, image_id: str, path: Path, image: Path, label_info: Any) -> str:
        """Save a final label: what a viewer says about values and indices is not looked at."""
        if not isinstance(label_info, dict | None):
            raise HTTPException(WRONG, f"params of a label are an object, got {label_info!r:.80}")
        accepted = read_accepted(path, image)
        clicks = keep(Path(self._datastore_path), image_id, accepted)
        self.last_saved = {
            "volume_ml": accepted.volume_ml,
            "max_axial_diameter_mm": accepted.max_axial_diameter_mm,
            "clicks": clicks_made(clicks),
        }
        now, extension = utc_now(), path.name.removeprefix(stem_of(path))
        named = [{"name": name, "idx": value} for name, value in self.label_names.items()]
        info = (label_info or {}) | self.last_saved
        info |= {"label_names": self.label_names, "label_info": named}
        info |= {"name": f"{image_id}{extension}", "ts": int(now.timestamp())}
        info["time"] = now.isoformat(timespec="seconds")
        with FileLock(self._lock_file):
            # The original's own copying would write over the label in its place.
            labels = self._datastore.objects[image_id].labels
            labels[FINAL] = DataModel(info=info, ext=extension)
            self._update_datastore_file(lock=False)
        return image_id

    def _remove_other_formats(self, image_id: str, tag: str, extension: str) -> None:
        """Remove what the same label was saved as before: only one can be the newest."""
        folder = Path(self._datastore.label_path(tag))
        for other in EXTENSIONS:
            if other != extension:
                (folder / f"{image_id}{other}").unlink(missing_ok=True)

    def _to_id(self, file: str) -> tuple[str, str]:
        # The original removes the ending wherever it occurs in the name.
        stem = stem_of(Path(file))
        return stem, file.removeprefix(stem)

    def _add_non_existing_labels(self, tag: str) -> int:
        return 0 if tag == _HISTORY else int(super()._add_non_existing_labels(tag))

    def _list_files(self, path: str, patterns: list[str]) -> dict[str, str]:
        found: dict[str, str] = super()._list_files(path, patterns)
        return {name: file for name, file in found.items() if not name.startswith(".")}


def _locked(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def locked(self: StudiesDatastore, *args: Any, **kwargs: Any) -> Any:
        with self._index_lock:
            return method(self, *args, **kwargs)

    return locked


for _name in (
    "_init_from_datastore_file",
    "_reconcile_datastore",
    "datalist",
    "get_image_info",
    "get_image_uri",
    "get_label_info",
    "get_label_uri",
    "get_labeled_images",
    "get_unlabeled_images",
    "json",
    "list_images",
    "status",
):
    setattr(StudiesDatastore, _name, _locked(getattr(LocalDatastore, _name)))


class NamedSessions(Sessions):
    """Sessions that are asked for by an id, not by a path."""

    def get_session(self, session_id: str, update_ts: bool = True, fetch_cache: bool = True) -> Any:
        """Return a session, or None."""
        return super().get_session(_check_session(session_id), update_ts, fetch_cache)

    def remove_session(self, session_id: str) -> None:
        """Remove a session and its image."""
        super().remove_session(_check_session(session_id))

    def add_session(
        self,
        data_file: str,
        expiry: int = 0,
        uncompress: bool = False,
        session_id: str | None = None,
    ) -> Any:
        """Add an uploaded image; archives are refused, for they may write anywhere."""
        with discarding(data_file, str(Path(data_file).parent)):
            if uncompress:
                raise HTTPException(WRONG, "a session takes one image file, no archive to unpack")
            return super().add_session(data_file, expiry, False, session_id)


@contextmanager
def discarding(*files: Any) -> Iterator[None]:
    """After an error remove what was uploaded: the server does so only after a success."""
    try:
        yield
    except BaseException:
        folder = Path(tempfile.gettempdir()).resolve()
        for file in files:
            with suppress(OSError, ValueError):  # what no file can have as its name
                if isinstance(file, str) and Path(file).resolve().parent == folder:
                    if Path(file).is_dir():
                        shutil.rmtree(file)
                    else:
                        Path(file).unlink(missing_ok=True)
        raise


def newest_label(studies: Path, folder: str, image_id: str) -> Path | None:
    """Return the label that was saved last, in whatever format, or None."""
    if find_image(studies / folder, image_id) is None:
        return None
    paths = [studies / folder / f"{image_id}{extension}" for extension in EXTENSIONS]
    return max((path for path in paths if path.is_file()), key=lambda path: path.stat().st_mtime_ns)


def _check_session(session_id: Any) -> str:
    if not isinstance(session_id, str) or not _SESSION.fullmatch(session_id):
        raise HTTPException(
            NOT_ALLOWED, f"a session id is letters, digits and -, got {session_id!r:.80}"
        )
    return session_id


@contextmanager
def _known(name: str) -> Iterator[None]:
    """Tell a viewer that a name is not there: MONAI Label's own error is a bare 500."""
    try:
        yield
    except (ImageNotFoundException, LabelNotFoundException) as error:
        raise HTTPException(NOT_FOUND, f"there is no {name!r:.80} in the studies folder") from error
