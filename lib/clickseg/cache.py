"""A cache bounded in bytes, and the rule by which a file on disk is the one that was read."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from clickseg.volume import ImageError

V = TypeVar("V")

SETTLED_NS = 2_000_000_000
"""A file touched less than this before it was hashed may change again within one clock tick of
its file system (2 s at worst): its date alone is not trusted."""


@dataclass(frozen=True)
class _Entry(Generic[V]):
    value: V
    nbytes: int


class ByteCache(Generic[V]):
    """Keep values up to a number of bytes; the ones used longest ago go first. Thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._entries: OrderedDict[Hashable, _Entry[V]] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept now."""
        return self._nbytes

    def get(self, key: Hashable) -> V | None:
        """Return the value of a key, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry.value

    def put(self, key: Hashable, value: V, nbytes: int) -> None:
        """Keep a value, instead of an earlier one of the same key; one too large is not kept."""
        with self._lock:
            self._drop(key)
            if nbytes > self.limit_bytes:
                return
            while self._nbytes + nbytes > self.limit_bytes:
                self._drop(next(iter(self._entries)))
            self._entries[key] = _Entry(value, nbytes)
            self._nbytes += nbytes

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._nbytes = 0

    def __len__(self) -> int:
        """Return how many values are kept."""
        return len(self._entries)

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._nbytes -= entry.nbytes


class Fingerprints:
    """Name files by their content; hash a file again only if its size, dates or inode changed.

    A file that was touched or copied keeps its name, one that was changed gets another, also
    where its size and its date of modification were kept. Thread-safe.
    """

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._known: dict[Path, tuple[tuple[int, ...], str]] = {}
        self._lock = threading.Lock()

    def __call__(self, path: Path) -> str:
        """Return the hash of a file's content.

        Raises:
            ImageError: if there is no such file, or it keeps changing.
        """
        for _ in range(3):
            before = _state(path)
            with self._lock:
                known = self._known.get(path)
            if known is not None and known[0] == before:
                return known[1]
            started_ns = self._now_ns()
            digest = _digest(path)
            if _state(path) != before:
                continue
            is_settled = started_ns - max(before[1], before[2]) > SETTLED_NS
            with self._lock:
                if len(self._known) > 10_000:
                    self._known.clear()
                if is_settled:
                    self._known[path] = (before, digest)
                else:
                    self._known.pop(path, None)
            return digest
        raise ImageError(f"{path.name} is being written: it changes while it is read")


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
    except OSError as error:
        raise ImageError(f"{path.name} cannot be read: {error.strerror}") from error


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError as error:
        raise ImageError(f"there is no image {path.name}") from error
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
