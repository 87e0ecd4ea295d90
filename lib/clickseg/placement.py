"""Where the T2 of a study lies, decided once for all who read the study.

A model must be trained and scored on what it is asked on. Answers, trainings, scores and reports
are processes of their own that have nothing in common but the studies folder and ``read_study``.
So the decision is the folder's: a server tells it its setting, whoever fetches from a PACS tells
which pairs are of two frames of reference, and who registers a T2 first keeps the result for all
others. It is kept beside the studies, in a hidden folder; no file of a user is touched:

``setting.json``: the mode; without it headers are trusted.
``<id>.frames.json``: the T2 of this study is of another frame of reference.
``<id>.found.json``: a registration, and the voxels and places of the two images that it is of.

So an image that changed, or another setting, never gets a decision that was made without it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clickseg.atomic import write_text
from clickseg.registration import MODES, Mode, Registration, register
from clickseg.volume import ImageError, Volume

logger = logging.getLogger(__name__)

RULES = 1
"""Rises whenever a registration comes out otherwise: those made before no longer count."""


@dataclass(frozen=True)
class Placing:
    """How a T2 is brought to its T1ce; see ``registration`` for the modes.

    ``frames_differ``: the two are known to be of different frames of reference.
    """

    mode: Mode = "header"
    frames_differ: bool = False

    @property
    def leaves_out(self) -> bool:
        """Whether nothing says where the T2 lies, so that the T1ce stands alone."""
        return self.mode == "off" and self.frames_differ

    @property
    def key(self) -> str:
        """Tells results apart that came of the same files: empty where headers are trusted."""
        if self.mode == "auto":
            return "+auto/frames" if self.frames_differ else "+auto"
        return "+off/frames" if self.leaves_out else ""


def tell_mode(folder: Path, mode: Mode) -> None:
    """Let all who read a study of this folder place its T2 so.

    Raises:
        OSError: if it cannot be written.
    """
    path = _setting(folder)
    if mode != "header" or path.is_file():
        write_text(path, json.dumps({"registration": mode}) + "\n")


def tell_frames(folder: Path, case_id: str, differ: bool) -> None:
    """Tell whether T1ce and T2 of a study are of different frames of reference.

    Raises:
        OSError: if it cannot be written.
    """
    path = folder / f"{case_id}.frames.json"
    if differ:
        write_text(path, json.dumps({"frames_differ": True}) + "\n")
    else:
        path.unlink(missing_ok=True)


def read_placing(folder: Path, case_id: str, mode: Mode | None = None) -> Placing:
    """Return how the T2 of a study is placed.

    Args:
        folder: what was told of the studies.
        case_id: of the study.
        mode: counts in place of the one that was told.

    Raises:
        ImageError: if what was told cannot be read.
    """
    return Placing(mode or _told(_setting(folder)), (folder / f"{case_id}.frames.json").is_file())


def place(
    moving: Volume, fixed: Volume, placing: Placing, folder: Path, case_id: str
) -> tuple[Volume, Registration | None]:
    """Return a T2 where it belongs, and how that was found: None where its header is trusted.

    Args:
        moving: the T2.
        fixed: the T1ce.
        placing: as ``read_placing`` returned it.
        folder: where results are kept; if there is none, nothing is.
        case_id: of the study.
    """
    if placing.mode != "auto":
        return moving, None
    path, key = folder / f"{case_id}.found.json", _key(moving, fixed, placing)
    found = _read(path, key)
    if found is None:
        found = register(moving, fixed, placing.frames_differ)
        if folder.is_dir():
            _keep(path, key, found)
    return found.moved(moving), found


def forget_placing(folder: Path, case_id: str) -> None:
    """Remove what is kept of a study that was removed."""
    for kind in ("frames", "found"):
        (folder / f"{case_id}.{kind}.json").unlink(missing_ok=True)


def _setting(folder: Path) -> Path:
    return folder / "setting.json"


def _told(path: Path) -> Mode:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))["registration"]
    except FileNotFoundError:
        return "header"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageError(f"{path} does not say how a T2 is placed: {error}") from error
    for mode in MODES:
        if told == mode:
            return mode
    raise ImageError(f"{path} says {told!r:.80}, one of {', '.join(MODES)} was wanted")


def _key(moving: Volume, fixed: Volume, placing: Placing) -> str:
    """Name what a registration is of by voxels and places, however they are stored in files."""
    digest = hashlib.blake2b(f"{RULES}{placing.key}".encode(), digest_size=16)
    for volume in (moving, fixed):
        digest.update(repr((volume.array.shape, volume.array.strides)).encode())
        digest.update(volume.grid.affine.tobytes())
        digest.update(volume.array.ravel("K").data)
    return digest.hexdigest()


def _read(path: Path, key: str) -> Registration | None:
    """Return what is kept of these two images; None where that is nothing, or damaged."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept.pop("key") != key:
            return None
        matrix = np.array(kept.pop("matrix"), dtype=float).reshape(4, 4)
        return Registration(matrix=matrix, **kept)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _keep(path: Path, key: str, found: Registration) -> None:
    """Keep a registration; where the disk is full it is found again next time."""
    values: dict[str, Any] = {"key": key, **asdict(found), "matrix": found.matrix.tolist()}
    try:
        write_text(path, json.dumps(values) + "\n")
    except OSError as error:
        logger.warning("a registration is not kept: %s", error)
