"""What Train in 3D Slicer and Update Model in OHIF start: a round of learning.

MONAI Label runs it in a process of its own. The loop, checkpoints and the publication are those
of ``clickseg train --store``; MONAI Label's own would train on the studies that it validates on,
and publish by copying over the file that a click may be reading.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from clickseg.atomic import write_text
from clickseg.learning.holdout import HoldOutError
from clickseg.learning.settings import UpdateConfig
from clickseg.learning.store import ModelStore, StoreBusyError
from clickseg.learning.update import Progress, UpdateError, last_outcome, update_model
from clickseg.modelfile import ModelError
from clickseg.volume import ImageError
from clickseg_app.requests import first

logger = logging.getLogger(__name__)

NICENESS = 10
"""Of a training: a reader who clicks comes first."""

MAX_EPOCHS = 1000

EXPECTED = (HoldOutError, ImageError, ModelError, StoreBusyError, UpdateError)
"""What a user can mend: one sentence in the status of the task, without a traceback."""


class UpdateTask(TrainTask):
    """Train one model on the accepted labels, and publish it if it is not worse.

    Args:
        model: ``initial`` or ``correction``, as the store calls it.
        store: the published models.
        studies: folder of the studies, None where they are elsewhere.
        config: how long, and with what besides.
        device: where to train unless a viewer asks for another.
        replay: studies like those of the base, for a base of one's own.
    """

    def __init__(
        self,
        model: str,
        store: ModelStore,
        studies: Path | None,
        config: UpdateConfig,
        device: str,
        replay: Path | None,
    ) -> None:
        super().__init__("Trains on the accepted labels; a model that is worse is not published")
        self.model = model
        self.store = store
        self.studies = studies
        self.update = config
        self.device = device
        self.replay = replay

    def config(self) -> dict[str, Any]:
        """Return what a viewer may change."""
        return {"max_epochs": self._fit().epochs, "device": [self.device]}

    def stats(self) -> dict[str, Any]:
        """Return how far the training is, or how the last one ended, as both viewers read it.

        Viewers show the numbers of the first model alone, whichever is being trained.
        """
        stats = _read(self.store.folder / "training.json")
        if stats.get("is_running") or stats.get("model") == self.model:
            return stats
        outcome = last_outcome(self.store, self.model)
        return {} if outcome is None else outcome

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Run a round to its end, and return how it ended.

        Raises:
            SystemExit: with a sentence, if it could not be run.
        """
        os.nice(NICENESS)
        started_s = time.time()

        def tell(progress: Progress) -> None:
            self._tell(started_s, progress, is_running=True)

        try:
            if self.studies is None:
                raise UpdateError("accepted labels are wanted in a studies folder to train on")
            config = self._asked(request)
            outcome = update_model(
                self.model, self.studies, self.store, config, self.device, self.replay, tell
            )
        except EXPECTED as error:
            logger.error("%s is not trained: %s", self.model, error)
            self._tell(started_s, Progress(0, 0, None), is_running=False, reason=str(error))
            raise SystemExit(1) from error
        dice = outcome.verdict.after[0] if outcome.is_published else outcome.verdict.before[0]
        epochs = self._fit().epochs
        self._tell(
            started_s, Progress(epochs, epochs, dice), is_running=False,
            reason=outcome.reason, is_published=outcome.is_published, version=outcome.version,
        )  # fmt: skip
        return self.stats()

    def _tell(self, started_s: float, progress: Progress, is_running: bool, **more: Any) -> None:
        stats = {
            "model": self.model,
            "epoch": progress.epoch,
            "total_epochs": progress.epochs,
            "best_metric": round(progress.dice or 0.0, 4),
            "start_ts": int(started_s),
            "is_running": is_running,
            **more,
        }
        if not is_running:  # viewers take a total time for the end
            stats["total_time"] = round(time.time() - started_s, 1)
        write_text(self.store.folder / "training.json", json.dumps(stats, indent=1) + "\n")

    def _fit(self) -> Any:
        return self.update.segment if self.model == "initial" else self.update.correction

    def _asked(self, request: Mapping[str, Any]) -> UpdateConfig:
        """Return the settings with the epochs that a viewer asked for."""
        epochs = first(request.get("max_epochs", self._fit().epochs))
        if isinstance(epochs, bool) or not isinstance(epochs, int) or not 1 <= epochs <= MAX_EPOCHS:
            raise UpdateError(
                f"max_epochs is {epochs!r:.80}; wanted is a number, 1 to {MAX_EPOCHS}"
            )
        fit = replace(self._fit(), epochs=epochs)
        if self.model == "initial":
            return replace(self.update, segment=fit)
        return replace(self.update, correction=fit)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
