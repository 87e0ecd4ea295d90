"""The option ``--out``: can what comes of the work be written?"""

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile

import typer

from clickseg.atomic import PART


def try_to_write(out: Path) -> None:
    """Refuse a place where no file can be made: what is written there may take an hour.

    Raises:
        BadParameter: with the reason.
    """
    try:
        if out.is_dir():
            raise IsADirectoryError("it is a folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        NamedTemporaryFile(prefix=f"{PART}{out.name}-", dir=out.parent).close()
    except OSError as error:
        raise typer.BadParameter(f"--out {str(out)!r} cannot be written: {error}") from error


def try_to_write_in(folder: Path, option: str = "--out") -> None:
    """Refuse a folder in which no file can be made; one that is missing is not made yet.

    Args:
        folder: where files go.
        option: how the command line calls it.

    Raises:
        BadParameter: with the reason.
    """
    try:
        places = (folder.absolute(), *folder.absolute().parents)
        there = next(place for place in places if place.exists())
        NamedTemporaryFile(prefix=PART, dir=there).close()
    except OSError as error:
        raise typer.BadParameter(f"{option} {str(folder)!r} cannot be written: {error}") from error
