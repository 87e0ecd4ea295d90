"""What clients upload: sessions, files of requests, and what of it is left behind."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.utils.sessions import Sessions

from clickseg_app.errors import NOT_ALLOWED, WRONG

LEFT_S = 3600
"""What is half made, or uploaded, and still there after this time belongs to nobody."""

_SESSION = re.compile(r"[A-Za-z0-9-]{1,64}")
_MADE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""As MONAI Label names the sessions that it makes."""


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

    def remove_expired(self) -> int:
        """Remove sessions that nobody uses any more, of earlier servers, too; return how many.

        One without information may be just being made. What is no session stays.
        """
        folder = Path(self.store_path)
        try:
            names = sorted(path.name for path in folder.iterdir())
        except OSError:  # there is none yet
            return 0
        return sum(self._is_removed(folder / name) for name in names if _SESSION.fullmatch(name))

    def _is_removed(self, folder: Path) -> bool:
        now_s = time.time()
        try:
            session = self.get_session(folder.name, update_ts=False, fetch_cache=False)
            is_old = session is not None and 0 < session.expiry < now_s - session.last_access_ts
        except (OSError, ValueError, AttributeError, TypeError):
            session, is_old = None, False  # its information is cut off, or no session's
        if session is None and _MADE.fullmatch(folder.name):
            with suppress(OSError):  # it is removed just now
                is_old = folder.is_dir() and now_s - folder.stat().st_mtime > LEFT_S
        if is_old:
            self.remove_session(folder.name)
        return is_old


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
                    _remove(Path(file))
        raise


def remove_left(paths: Iterable[Path]) -> None:
    """Remove the files and folders that nobody can be writing any more."""
    with suppress(OSError):  # something goes while it is looked at: the next time is soon
        for path in list(paths):
            if time.time() - path.lstat().st_mtime > LEFT_S:
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _check_session(session_id: Any) -> str:
    if not isinstance(session_id, str) or not _SESSION.fullmatch(session_id):
        raise HTTPException(
            NOT_ALLOWED, f"a session id is letters, digits and -, got {session_id!r:.80}"
        )
    return session_id
