"""The three models that a viewer sees: each reads a request, asks the engine, writes a file."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from typing import Any, ClassVar

from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from clickseg.clicks import MAX_CLICKS, ClickError, Clicks
from clickseg.engine import Engine, Segmentation
from clickseg.journal import UPLOAD, Answered, Journals
from clickseg.scribbles import read_edit
from clickseg.study import Study
from clickseg.volume import Volume, write_volume
from clickseg_app.errors import WRONG, told
from clickseg_app.requests import (
    ACCEPT,
    BATCH,
    LABEL,
    STARTS,
    Folders,
    Request,
    Source,
    clicks_of,
    client_of,
    extension_of,
    is_true,
    start_of,
    uploaded_label,
)

logger = logging.getLogger(__name__)

Answer = tuple[str, dict[str, Any]]


class SegmentationTask(InferTask):
    """Common to all three: a study in, a mask on exactly the grid of its T1ce out."""

    name = ""
    kind = InferType.OTHERS
    text = ""
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, engine: Callable[[], Engine], folders: Folders) -> None:
        super().__init__(self.kind, {LABEL: 1}, 3, self.text, dict(self.options))
        self.engine = engine
        self.folders = folders
        self.journals = Journals(folders.studies)

    def is_valid(self) -> bool:
        """Tell viewers that the model is there."""
        return True

    def segment(self, study: Study, source: Source, request: Request) -> Segmentation:
        """Return the answer to a request."""
        raise NotImplementedError

    def note(
        self,
        request: Request,
        answer: Segmentation,
        clicks: Clicks,
        start: str,
        scribbled: int = 0,
    ) -> None:
        """Note the clicks of an answer; a journal that cannot be written keeps no reader waiting.

        Clicks on an image that is not in the studies folder are not kept.
        """
        source: Source = request["source"]
        if source.image_id is None or request.get(BATCH):  # no reader is before a batch
            return
        models, changed_voxels = answer.result["models"], answer.result["changed_voxels"]
        client_id = client_of(request)
        answered = Answered(self.name, start, clicks, models, changed_voxels, scribbled, client_id)
        try:
            self.journals.note(source.image_id, answered)
        except OSError as error:
            logger.warning("the clicks of a study could not be noted: %s", error)

    def __call__(self, request: Request) -> Answer:
        """Answer a request whose files are found: its ``source`` is a ``Source``."""
        with told():
            started_s = time.perf_counter()
            source: Source = request["source"]
            extension = extension_of(request)
            study = self.engine().study(source.t1ce, source.t2)
            pre_s = time.perf_counter() - started_s
            answer = self.segment(study, source, request)
            write_start_s = time.perf_counter()
            # A new file each time: the server deletes it once it is sent.
            path = self.folders.uploads / f"{uuid.uuid4().hex}{extension}"
            compress = is_true(request.get("result_compress")) or None
            write_volume(path, Volume(answer.label, study.grid), compress, is_to_last=False)
            now_s = time.perf_counter()
            latencies = answer.result["latencies"] | {
                "pre": round(pre_s, 4),
                "write": round(now_s - write_start_s, 4),
                "total": round(now_s - started_s, 4),
            }
            logger.info("%s: %d clicks, %s", self.name, answer.result["clicks"], latencies)
            return str(path), answer.result | {"label_names": {LABEL: 1}, "latencies": latencies}


class InitialTask(SegmentationTask):
    """Outline the tumor of a study."""

    name = "initial"
    kind = InferType.SEGMENTATION
    text = "Outlines the vestibular schwannoma on T1ce, and T2 if there is one"
    options: ClassVar[dict[str, Any]] = {ACCEPT: False}

    def segment(self, study: Study, source: Source, request: Request) -> Segmentation:
        """Return the initial outline."""
        uploaded_label(request, self.folders)
        answer = self.engine().initial(study)
        # The outline replaces what the viewer shows, clicks and all.
        self.note(request, answer, (), "initial")
        return answer


class ClickTask(SegmentationTask):
    """Mend the accepted label or the initial outline around all clicks of the request."""

    name = "click"
    kind = InferType.DEEPGROW
    text = "Mends the outline around each click and nowhere else; leave a click out to undo it"
    options: ClassVar[dict[str, Any]] = {"start": list(STARTS), ACCEPT: False}

    def segment(self, study: Study, source: Source, request: Request) -> Segmentation:
        """Return the start mask, mended."""
        uploaded_label(request, self.folders)
        clicks, choice = clicks_of(request, study.grid), start_of(request)
        if choice == "label" and source.accepted is None:
            raise HTTPException(WRONG, "start is 'label', but no label of this image was accepted")
        start = None
        if source.accepted is not None and choice != "initial":
            start = self.engine().label(study, source.accepted)
        answer = self.engine().correct(study, clicks, start)
        self.note(request, answer, clicks, "initial" if start is None else "label")
        return answer


class EditTask(SegmentationTask):
    """Mend the mask that comes with the request, so that edits by hand survive."""

    name = "edit"
    kind = InferType.SCRIBBLES
    text = "Mends the current mask, edits by hand included, around scribbles"

    def segment(self, study: Study, source: Source, request: Request) -> Segmentation:
        """Return the uploaded mask, mended around its scribbles and the clicks."""
        path = uploaded_label(request, self.folders)
        if path is None:
            raise HTTPException(WRONG, "the current mask was wanted as an upload, got none")
        segments = request.get("label_info")
        chosen = request.get("selected_label_name")
        start, scribbles = read_edit(path, study.grid, segments, chosen)
        explicit = clicks_of(request, study.grid)
        scribbled = scribbles.clicks(study.grid, explicit)
        clicks = scribbled + explicit
        if len(clicks) > MAX_CLICKS:
            raise ClickError(
                f"at most {MAX_CLICKS} clicks are taken in one request; {len(clicks)} came, "
                f"{len(scribbled)} of them for scribbles"
            )
        answer = self.engine().correct(
            study, clicks, start, scribbles.without(explicit, study.grid)
        )
        self.note(request, answer, clicks, UPLOAD, len(scribbled))
        return answer
