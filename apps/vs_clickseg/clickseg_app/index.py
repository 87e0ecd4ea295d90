"""The index of a studies folder, ``datastore_v2.json``: whole at any moment, and shared.

Locks: a thread that watches the folder empties the index before it fills it again, so one lock of
this process keeps requests from looking in between. It is taken before the lock of the file, which
other processes that write the index (batch inference, say) take, too.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from filelock import FileLock
from monailabel.datastore.local import (
    DataModel,
    ImageLabelModel,
    LocalDatastore,
    LocalDatastoreModel,
)

from clickseg.atomic import write_text
from clickseg.record import utc_now
from clickseg.volume import EXTENSIONS
from clickseg_app.errors import WRONG

logger = logging.getLogger(__name__)


class SharedIndex(LocalDatastore):
    """A folder whose index a stopped server or a full disk cannot cut, nor a second server undo.

    An index that cannot be read is moved aside at the start, and made anew from the files.
    """

    _datastore: LocalDatastoreModel
    _config_ts: Any
    """Which version of the file is in memory: not 0 once one is."""

    def __init__(self, studies: str, auto_reload: bool, read_only: bool) -> None:
        self._index_lock = threading.RLock()
        # One object for all: this one can be taken again by the thread that holds it.
        self._file_lock = FileLock(Path(studies) / ".lock")
        self._is_read_only = read_only
        super().__init__(
            studies,
            extensions=[f"*{extension}" for extension in EXTENSIONS],
            auto_reload=auto_reload,
            read_only=read_only,
        )
        if auto_reload:
            # The original knows only of files that are written in place; most are moved there.
            self._handler.on_moved = self._on_moved_event
            self._watch_what_counts()

    @contextmanager
    def changing(self) -> Iterator[dict[str, ImageLabelModel]]:
        """Yield the entries as they are on the disk now; they are written if all went well.

        Raises:
            HTTPException: if they could not be read back.
            OSError: if they cannot be written; the index on the disk is as it was.
        """
        with self._held():
            self._read(is_to_be_replaced=True)
            try:
                yield self._datastore.objects
            except BaseException:
                self._config_ts = None  # what was half changed is read again
                raise
            self._update_datastore_file()

    def _watch_what_counts(self) -> None:
        """Watch images, index and labels alone.

        The original watches all that is below, so that each line of a journal of clicks and each
        T2 that is read woke the watching thread, amid an answer.
        """
        labels = str(self._datastore.label_path(None))
        self._observer.unschedule_all()
        try:
            self._observer.schedule(self._handler, self._datastore_path, recursive=False)
            self._observer.schedule(self._handler, labels, recursive=True)
        except OSError as error:
            logger.error("changes of the folder by others are not seen: %s", error)

    def _on_moved_event(self, event: Any) -> None:
        if event.dest_path == self._datastore_config_path:
            self._init_from_datastore_file()
        else:
            self.refresh()

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        with self._held():
            self._read(is_to_be_replaced=throw_exception and not self._is_read_only)
            if throw_exception and self._config_ts == 0 and self._state() is not None:
                raise ValueError(f"{self._datastore_config_path} is no index of a studies folder")

    def _reconcile_datastore(self) -> None:
        with self._held():
            super()._reconcile_datastore()

    def _update_datastore_file(self, lock: bool = True) -> None:
        """Write the index; ``lock`` is the original's: here the lock can be taken again."""
        with self._held():
            try:
                write_text(Path(self._datastore_config_path), _text_of(self._datastore))
            except BaseException:
                self._config_ts = None  # memory is ahead of the disk: read it again
                raise
            # A file that is moved into its place is not "modified", so there is no event to
            # ignore; ``_ignore_event_config`` would swallow one of another process.
            self._config_ts = self._state()

    def _read(self, is_to_be_replaced: bool) -> None:
        """Take in what another process wrote since; the caller holds the locks.

        What cannot be read changes nothing here, and is moved aside where it would be lost.
        """
        state, path = self._state(), Path(self._datastore_config_path)
        if state is None or state == self._config_ts:
            return
        try:
            index = LocalDatastoreModel.model_validate_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            logger.error("the index %s cannot be read: %s", path, error)
            if is_to_be_replaced:
                aside = path.with_name(f"{path.name}.damaged-{utc_now():%Y%m%dT%H%M%S.%fZ}")
                path.replace(aside)
                logger.error("it is now called %s; what the files tell is listed anew", aside.name)
            return
        index.base_path = self._datastore_path
        self._datastore, self._config_ts = index, state

    def _state(self) -> tuple[int, int] | None:
        """Tell versions of the index apart: two may be written in one tick of the clock."""
        try:
            status = Path(self._datastore_config_path).stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_ino

    @contextmanager
    def _held(self) -> Iterator[None]:
        with self._index_lock, self._file_lock:
            yield


def check_info(info: Any, of: str) -> dict[str, Any]:
    """Return what a client tells of a thing, if the index can hold it: {} for None.

    Raises:
        HTTPException: if it is no object, is nested too deeply, or has text that is none.
    """
    if not isinstance(info, dict | None):
        raise HTTPException(WRONG, f"params of {of} are an object, got {info!r:.80}")
    values: dict[str, Any] = info or {}
    entry = ImageLabelModel(image=DataModel(), labels={"": DataModel(info=values)})
    # NaN can be stored, but no reply can hold it: the list of all images would be an error.
    _text_of(LocalDatastoreModel(name="", description="", objects={"": entry}), allow_nan=False)
    return values


def _text_of(index: LocalDatastoreModel, allow_nan: bool = True) -> str:
    """Return an index as text that can be read back.

    Raises:
        HTTPException: if there is none.
    """
    try:
        values = index.model_dump(exclude={"base_path"})
        text = json.dumps(values, indent=2, default=str, allow_nan=allow_nan)
        LocalDatastoreModel.model_validate_json(text)
    except (ValueError, RecursionError) as error:
        wanted = "plain JSON was wanted, no halves of characters and not nested too deeply"
        raise HTTPException(WRONG, f"this cannot be stored in the index: {wanted}") from error
    return text


def _locked(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def locked(self: SharedIndex, *args: Any, **kwargs: Any) -> Any:
        with self._index_lock:
            return method(self, *args, **kwargs)

    return locked


for _name in (
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
    setattr(SharedIndex, _name, _locked(getattr(LocalDatastore, _name)))
