"""The option ``accept``: an answer becomes the accepted label, as if a viewer had saved it.

It holds for the request that has it: nothing of it is kept, neither here nor in what viewers are
told of the models.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from clickseg.study import LABEL_FOLDER
from clickseg.volume import read_label, write_volume
from clickseg_app.datastore import FINAL, StudiesDatastore
from clickseg_app.errors import WRONG
from clickseg_app.requests import ACCEPT, LABEL, Folders, Request, Source, is_true


def id_to_accept(request: Request, options: Mapping[str, Any], source: Source) -> str | None:
    """Return the image whose label a request wants its answer to be, None if it does not.

    Args:
        request: what a viewer sent.
        options: of the model; one without ``accept`` takes no notice of it.
        source: the image of the request.

    Raises:
        HTTPException: if the image is not in the studies folder, so that no label has a place.
    """
    if ACCEPT not in options or not is_true(request.get(ACCEPT)):
        return None
    if source.image_id is None:
        raise HTTPException(WRONG, "only answers for images of the studies folder can be accepted")
    return source.image_id


def accept(
    request: Request, image_id: str, answer: Path, store: StudiesDatastore, folders: Folders
) -> dict[str, Any]:
    """Store an answer as the accepted label, and return what the viewer is told about it.

    Raises:
        HTTPException: if the answer has no tumor: to say that there is none takes a viewer that
            shows what it saves.
    """
    volume = read_label(answer)
    if not volume.array.any():
        raise HTTPException(
            WRONG, "the answer has no tumor and was not accepted; a mask with some was wanted"
        )
    path = folders.uploads / f"{uuid.uuid4().hex}.nii.gz"
    info = {"model": request["model"], "label_info": [{"name": LABEL, "idx": 1}]}
    if request.get("client_id"):
        info["client_id"] = request["client_id"]
    try:
        write_volume(path, volume)
        store.save_label(image_id, str(path), FINAL, info)
    finally:
        path.unlink(missing_ok=True)
    where = f"{LABEL_FOLDER}/{image_id}.nii.gz"
    of_pacs = {key: store.last_saved[key] for key in ("dicom_seg",) if key in store.last_saved}
    return {"accepted": True, "accepted_label": where} | of_pacs
