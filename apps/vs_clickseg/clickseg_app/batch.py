"""Batch inference: the initial outline of many images, saved as their ``original`` labels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.batch_infer import BatchInferTask

from clickseg_app.requests import ACCEPT, BATCH

logger = logging.getLogger(__name__)


class BatchInfer(BatchInferTask):
    """Run a model over images, one after the other, on the device of the app."""

    def __call__(
        self, request: dict[str, Any], datastore: Datastore, infer: Callable[..., Any]
    ) -> dict[str, Any]:
        """Return the answer for each image; one that fails says why and stops none.

        The original divides by the number of GPUs, also where there are none.
        """

        def infer_or_say_why(one: dict[str, Any], store: Datastore) -> dict[str, Any]:
            try:
                return dict(infer(one, store))
            except HTTPException as error:
                logger.warning("an image of the batch failed: %s", error.detail)
                return {"error": error.detail}

        # Nobody has looked at these outlines, so none is accepted.
        own = {"multi_gpu": False, "device": "cpu", "max_workers": 1, ACCEPT: False, BATCH: True}
        return dict(super().__call__({**request, **own}, datastore, infer_or_say_why))
