"""Write a file so that no reader ever sees half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = ".part-"
"""Begins the name of a file that is not whole yet; one that stays was left by a killed process."""

# It can be read by setting it alone, which counts for all threads: so once, at the start.
_UMASK = os.umask(0o077)
os.umask(_UMASK)


@contextmanager
def replacing(path: Path, suffix: str = "", is_to_last: bool = True) -> Iterator[Path]:
    """Yield a new file beside ``path`` to write to; it takes its place if all went well.

    What is to last is on the disk before it is moved; after an error the old file is as it was.

    Args:
        path: the file to make or replace; its folder is made.
        suffix: ending of the temporary name, for writers that choose the format by it.
        is_to_last: whether it is to be there after the power failed; if not, nobody waits for the
            disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=suffix, prefix=PART, dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o666 & ~_UMASK)  # a temporary file is for its owner alone
        if is_to_last:
            flush(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until what was written to a file is on the disk, or say that it cannot be."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
