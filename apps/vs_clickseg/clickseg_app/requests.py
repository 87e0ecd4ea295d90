"""What viewers send, read once and checked: after this, nothing of a request is a path.

3D Slicer sends all options of a model, OHIF only edited ones, and a list where a choice was left
alone. Clicks come as ``foreground`` and ``background`` or under the name of a label. What is not
known here is ignored: both viewers send keys that are left over from other models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore

from clickseg.clicks import Clicks, read_clicks
from clickseg.geometry import Grid
from clickseg.study import LABEL_FOLDER, T2_FOLDER, newest_label
from clickseg.volume import EXTENSIONS, find_image
from clickseg_app.datastore import check_id, check_path, is_plain
from clickseg_app.errors import NOT_ALLOWED, NOT_FOUND, WRONG

LABEL = "Vestibular Schwannoma"
"""The one label. OHIF colors a label by its name; this name comes out bright green."""

STARTS = ("auto", "initial", "label")
"""What a click mends: the accepted label if there is one, or always one of the two."""

ACCEPT = "accept"
"""The option that stores an answer as the accepted label; OHIF has no other way to."""

BATCH = "_is_batch"
"""What marks a request of a batch: no reader sees its answer."""

RESULT_EXTENSIONS = (*EXTENSIONS, ".seg.nrrd")

Request = Mapping[str, Any]


@dataclass(frozen=True)
class Folders:
    """Where files of a request may lie; ``studies`` of a PACS are where they are fetched to."""

    studies: Path
    uploads: Path
    sessions: Path


@dataclass(frozen=True)
class Source:
    """The files of the image that a request is about; ``image_id`` if it is in the datastore."""

    t1ce: Path
    t2: Path | None = None
    accepted: Path | None = None
    image_id: str | None = None


def find_source(request: Request, store: Datastore, folders: Folders) -> Source:
    """Find the files that a request is about.

    Raises:
        HTTPException: if its image is unknown, or a path that is not the server's own.
    """
    image = request.get("image")
    if not isinstance(image, str) or not image:
        raise HTTPException(WRONG, f"the id of an image was wanted, got {image!r:.80}")
    if is_plain(image):
        uri = store.get_image_uri(check_id(image))
        if uri:
            return _by_id(image, Path(uri), folders.studies)
        raise HTTPException(NOT_FOUND, f"there is no image {image!r:.80} in the studies folder")
    path = check_path(image)
    own = [folders.uploads, folders.sessions, folders.studies]
    if not any(path.is_relative_to(folder.resolve()) for folder in own):
        raise HTTPException(NOT_ALLOWED, f"an image is asked for by its id, got {image!r:.80}")
    if path.is_dir():
        raise HTTPException(WRONG, "one image file was wanted, got a folder of several files")
    return Source(path)


def uploaded_label(request: Request, folders: Folders) -> Path | None:
    """Return the mask that came with a request, or None.

    Raises:
        HTTPException: if ``label`` is a path that the server did not make. A mere name is what
            3D Slicer calls the segment.
    """
    label = request.get("label")
    if not isinstance(label, str) or not label:
        return None
    path, resolved = Path(label), check_path(label)
    if path.is_absolute() and resolved.is_relative_to(folders.uploads.resolve()):
        return resolved
    if path.is_absolute() or ".." in path.parts or (len(path.parts) > 1 and path.exists()):
        raise HTTPException(NOT_ALLOWED, f"a label is uploaded, not named; got {label!r:.80}")
    return None


def clicks_of(request: Request, grid: Grid) -> Clicks:
    """Read the clicks of a request.

    Raises:
        ClickError: if they are not what was wanted.
    """
    foreground = request.get("foreground")
    if foreground is None:
        foreground = request.get(LABEL)
    return read_clicks(foreground, request.get("background"), grid)


def client_of(request: Request) -> str | None:
    """Return who sent a request, None where the viewer does not say, as OHIF."""
    client = request.get("client_id")
    return client[:256] or None if isinstance(client, str) else None


def start_of(request: Request) -> str:
    """Return which mask a click mends: one of ``STARTS``.

    Raises:
        HTTPException: if it is none of them.
    """
    value = first(request.get("start")) or STARTS[0]
    if value not in STARTS:
        raise HTTPException(WRONG, f"start is {value!r:.80}; wanted is one of {', '.join(STARTS)}")
    return str(value)


def extension_of(request: Request) -> str:
    """Return the ending of the file to answer with, ``.nii.gz`` if none is asked for.

    Raises:
        HTTPException: if it is no ending of an image.
    """
    value = first(request.get("result_extension")) or ".nii.gz"
    if value not in RESULT_EXTENSIONS:
        wanted = ", ".join(RESULT_EXTENSIONS)
        raise HTTPException(WRONG, f"result_extension is {value!r:.80}; wanted is one of {wanted}")
    return str(value)


def is_true(value: Any) -> bool:
    """Read a switch as viewers send it: a boolean, a number, a word, or a list of one of them."""
    value = first(value)
    if isinstance(value, str):
        return value.strip().lower() in ("true", "1", "yes", "on")
    return bool(value)


def first(value: Any) -> Any:
    """Return the first of a list of choices, which is the chosen one, or the value itself."""
    if isinstance(value, list | tuple):
        return value[0] if value else None
    return value


def _by_id(image_id: str, t1ce: Path, studies: Path) -> Source:
    t2 = find_image(studies / T2_FOLDER, image_id)
    accepted = newest_label(studies / LABEL_FOLDER, image_id)
    return Source(t1ce, t2, accepted, image_id)
