"""What Train in 3D Slicer and Update Model in OHIF start: a round of learning.

MONAI Label runs it in a process of its own. The loop, checkpoints and the publication are those
of ``clickseg train --store``; MONAI Label's own would train on the studies that it validates on,
and publish by copying over the file that a click may be reading.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import psutil
import torch
from fastapi import HTTPException
from monailabel.config import settings as server
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from clickseg.atomic import write_text
from clickseg.learning.settings import UpdateConfig
from clickseg.learning.store import NAMES, ModelStore, StoreBusyError
from clickseg.learning.together import EXPECTED, update_together
from clickseg.learning.update import Progress, UpdateError, epochs_of
from clickseg.training.tracking import Tracking
from clickseg_app.errors import NOT_ALLOWED
from clickseg_app.requests import first, is_true

logger = logging.getLogger(__name__)

NICENESS = 10
"""Of a training: a reader who clicks comes first."""

MAX_EPOCHS = 1000


class UpdateTask(TrainTask):
    """Train one model on the accepted labels, and publish it if it is not worse.

    Args:
        model: ``initial`` or ``correction``, as the store calls it.
        store: the published models.
        studies: folder of the studies; those of a PACS are fetched to it.
        config: how long, and with what besides.
        device: where to train.
        replay: studies like those of the base, for a base of one's own.
    """

    def __init__(
        self,
        model: str,
        store: ModelStore,
        studies: Path,
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
        """Return what a viewer may change, by MONAI Label's names."""
        is_many = self.device == "cuda" and torch.cuda.device_count() > 1
        return {
            "max_epochs": self._fit().epochs,
            "multi_gpu": is_many,
            "gpus": "all",
            "tracking": ["None", "mlflow"],
            "tracking_experiment_name": "",
        }

    def stats(self) -> dict[str, Any]:
        """Return how far the training is, or how the last one ended, as both viewers read it.

        Viewers show the numbers of the first model alone, so it tells of the one that is being
        trained. A training that was killed says nothing itself: its process is gone.
        """
        for model in NAMES:
            if (stats := self._read(model)).get("is_running") and _goes_on(stats):
                return stats
        stats = self._read(self.model)
        if stats.get("is_running"):
            stats |= {"is_running": False, "reason": "it was stopped before its end"}
            stats |= {"total_time": stats["epoch_time"]}
        return stats

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Run a round to its end, and return how it ended.

        Raises:
            HTTPException: in the server's own process, which would answer nobody meanwhile.
            SystemExit: with a sentence in the log, if it could not be run.
        """
        if not _has_own_process():
            raise HTTPException(NOT_ALLOWED, "run_sync is not taken: the server would stand still")
        os.nice(NICENESS)
        status = _Status(self.store.folder / _file_of(self.model), self.model, time.time())
        try:
            config, tracking = self._asked(request), self._tracking(request)
            datastore.datalist()  # fetches the labels that are in a PACS alone
            status.epochs = epochs_of(self.model, config)
            if not self.store.is_training(self.model):  # or its numbers are those of another
                status.tell(Progress(0, status.epochs, None))
            outcome = update_together(
                self._processes(request), self.model, self.studies, self.store, config,
                self.device, self.replay, status.tell, tracking,
            )  # fmt: skip
            status.epoch = status.epochs  # those that an earlier start did are not told again
        except StoreBusyError as error:
            logger.error("%s", error)
            raise SystemExit(1) from error
        except EXPECTED as error:
            self._give_up(status, str(error), error)
        except HTTPException as error:
            self._give_up(status, str(error.detail), error)
        except Exception as error:
            status.end(reason=f"{type(error).__name__}: {error}")
            raise
        if outcome.verdict is not None:
            is_new, verdict = outcome.is_published, outcome.verdict
            status.best = (verdict.after if is_new else verdict.before)[0]
        status.end(
            reason=outcome.reason, is_published=outcome.is_published, version=outcome.version
        )
        return self._read(self.model)

    def _read(self, model: str) -> dict[str, Any]:
        try:
            text = (self.store.folder / _file_of(model)).read_text(encoding="utf-8")
            values = json.loads(text)
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}

    def _give_up(self, status: _Status, reason: str, error: Exception) -> NoReturn:
        """End with a sentence that says what a user can mend."""
        logger.error("%s is not trained: %s", self.model, reason)
        status.end(reason=reason)
        raise SystemExit(1) from error

    def _fit(self) -> Any:
        return self.update.segment if self.model == "initial" else self.update.correction

    def _processes(self, request: Mapping[str, Any]) -> int:
        """Return how many processes train: one for each GPU that was asked for.

        MONAI Label hands ``gpus`` on as the devices that CUDA sees; without a GPU, as many
        processes share the CPU.
        """
        if not is_true(first(request.get("multi_gpu", self.config()["multi_gpu"]))):
            return 1
        if self.device == "cuda":
            return max(1, torch.cuda.device_count())
        asked = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        count = len([number for number in asked.split(",") if number.strip()])
        return min(max(1, count), os.cpu_count() or 1) if self.device == "cpu" else 1

    def _tracking(self, request: Mapping[str, Any]) -> Tracking | None:
        """Return where MLflow is told of the training, if a request asks for it.

        Raises:
            ConfigError: if it is not installed.
            UpdateError: if a request names a place, which is the server's to say.
        """
        wanted = first(request.get("tracking", "None"))
        if str(wanted).lower() in ("none", ""):
            return None
        if wanted != "mlflow":
            raise UpdateError(f"tracking is {wanted!r:.80}; wanted is None or mlflow")
        uri = server.MONAI_LABEL_TRACKING_URI
        if request.get("tracking_uri", "") not in ("", uri):
            raise UpdateError(
                "a tracking_uri is not taken from a request: MONAI_LABEL_TRACKING_URI names it "
                "where the server is started"
            )
        experiment = str(request.get("tracking_experiment_name") or self.model)
        folder = (self.store.folder / "mlruns").resolve()
        tracking = Tracking(uri or folder.as_uri(), experiment)
        tracking.check()
        return tracking

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


@dataclass
class _Status:
    """What viewers are told of a training. ``best``: Dice on held-out tumors."""

    path: Path
    model: str
    started_s: float
    epochs: int = 1
    epoch: int = 0
    best: float = 0.0

    def tell(self, progress: Progress) -> None:
        """Tell of an epoch."""
        self.epoch = progress.epoch
        self.best = max(self.best, progress.dice or 0.0)
        self._write({"is_running": True, "pid": os.getpid()})

    def end(self, **how: Any) -> None:
        """Tell how it ended; viewers take a total time for the end.

        A disk may be full: then the log alone tells, and the status that it is over.
        """
        try:
            self._write({"is_running": False, "total_time": self._seconds(), **how})
        except OSError as error:
            logger.error("how it ended cannot be written: %s", error)

    def _write(self, more: dict[str, Any]) -> None:
        stats = {
            "model": self.model,
            "epoch": self.epoch,
            "total_epochs": self.epochs,
            "best_metric": round(self.best, 4),
            "start_ts": int(self.started_s),
            "epoch_time": self._seconds(),
        }
        write_text(self.path, json.dumps(stats | more, indent=1) + "\n")

    def _seconds(self) -> float:
        return round(time.time() - self.started_s, 1)


def _has_own_process() -> bool:
    """Tell whether this process was started for a training; a request could claim anything."""
    started = sys.modules["__main__"].__spec__
    return started is not None and started.name == "monailabel.interfaces.utils.app"


def _goes_on(stats: Mapping[str, Any]) -> bool:
    """Tell whether the process that wrote these is there, and no later one of the same number.

    Its lock does not tell: it is free while other processes are started, and at the end.
    """
    try:
        process = psutil.Process(stats["pid"])
        is_it = process.create_time() <= stats["start_ts"] + 1
        return bool(is_it and process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def _file_of(model: str) -> str:
    return f"training-{model}.json"
