"""The app: which models and strategies there are, and what a request may touch."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import HTTPException
from monailabel.config import settings as server
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.sessions import Sessions

from clickseg import __version__
from clickseg.atomic import PART
from clickseg.clicks import Click
from clickseg.engine import Engine
from clickseg.geometry import Grid
from clickseg.learning.settings import load_update
from clickseg.learning.store import ModelStore, published_in
from clickseg.models import WEIGHTS
from clickseg.placement import tell_mode
from clickseg.process import (
    keep_blas_to_one_thread,
    keep_freed_memory,
    keep_what_is_loaded,
)
from clickseg.registration import Mode
from clickseg.study import PLACING_FOLDER, Study
from clickseg.volume import Volume, write_volume
from clickseg_app.accept import accept, id_to_accept
from clickseg_app.background import BackgroundScores
from clickseg_app.batch import BatchInfer
from clickseg_app.connection import cache_of, open_pacs
from clickseg_app.datastore import FINAL, StudiesDatastore, check_tag
from clickseg_app.errors import NOT_ALLOWED, NOT_FOUND, told
from clickseg_app.infer import ClickTask, EditTask, InitialTask
from clickseg_app.pacs import FETCHED, PacsDatastore
from clickseg_app.requests import LABEL, Folders, find_source, is_true
from clickseg_app.routes import mend_routes
from clickseg_app.served import ServedEngine
from clickseg_app.settings import read_settings
from clickseg_app.strategy import make_strategies
from clickseg_app.train import UpdateTask
from clickseg_app.uploads import NamedSessions, discarding, remove_left

logger = logging.getLogger(__name__)

SYSTEM_TEMP = tempfile.gettempdir()

MORE_OFFERS = 3
"""So many studies of a PACS that cannot be read are passed over before a reader is told of one."""


class ClickSegApp(MONAILabelApp):
    """Outline vestibular schwannomas and mend the outline by clicks.

    The server runs one request at a time on its event loop; the engine's lock holds where another
    server does not.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, Any]) -> None:
        keep_freed_memory()
        self.settings = read_settings(conf or {})
        folder = self.settings.pretrained_path or (
            WEIGHTS if self.settings.use_pretrained_model else Path(app_dir) / "model"
        )
        self.store = ModelStore(published_in(Path(app_dir) / "model", folder), folder)
        # The server puts uploads where temporary files go: a folder of our own tells them from
        # whatever else a request may name.
        self._uploads = tempfile.TemporaryDirectory(prefix="vs-clickseg-", dir=SYSTEM_TEMP)
        tempfile.tempdir = self._uploads.name
        self._named_sessions = NamedSessions(
            server.MONAI_LABEL_SESSION_PATH, server.MONAI_LABEL_SESSION_EXPIRY
        )
        self._is_pacs = studies.startswith(("http://", "https://"))
        self.folders = Folders(
            cache_of(studies) if self._is_pacs else Path(studies),
            Path(self._uploads.name),
            Path(self._named_sessions.store_path),
        )
        self._registration: Mode = self.settings.registration or (
            "auto" if self._is_pacs else "header"
        )
        self._served = ServedEngine(
            self.store, self.settings.device, self.settings.cache_mb << 20, self._registration
        )
        self._scores = BackgroundScores(self.folders.studies, self._model_folders, self._bring)
        # One number of threads for every thread of the server: sums depend on it, bit for bit.
        torch.set_num_threads(torch.get_num_threads())
        torch.backends.cudnn.benchmark = False
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf or {},
            name="vs_clickseg",
            description="Vestibular schwannoma on T1ce + T2 MRI: outline it, mend it by clicks",
            version=__version__,
            labels=[LABEL],
        )
        self._auto_update_scoring = self.settings.auto_update_scoring
        if self.settings.preload:
            self.engine()

    def engine(self) -> Engine:
        """Return the engine with the models that count; see ``ServedEngine``."""
        return self._served.engine()

    def _model_folders(self) -> tuple[Path, Path]:
        """Return where the models that count are: the initial one, the correction one."""
        return self.store.version("initial").folder, self.store.version("correction").folder

    def _bring(self) -> bool:
        """Fetch one more study of a PACS to be scored, if few are here; tell whether one was."""
        store = self.datastore()
        return isinstance(store, PacsDatastore) and store.bring(self.settings.fetch_ahead)

    def init_datastore(self) -> Datastore:
        """Open the studies folder, or the PACS at a URL; tell it where T2 lie.

        Scores and trainings are processes of their own, to which the folder tells it.
        """
        auto_reload, names = server.MONAI_LABEL_DATASTORE_AUTO_RELOAD, {LABEL: 1}
        read_only = server.MONAI_LABEL_DATASTORE_READ_ONLY and not self._is_pacs
        store: StudiesDatastore
        if self._is_pacs:
            pacs = open_pacs(self.studies)
            store = PacsDatastore(pacs, self.folders.studies, auto_reload, names)
        else:
            store = StudiesDatastore(self.studies, auto_reload, read_only, names)
        if not read_only:
            tell_mode(self.folders.studies / PLACING_FOLDER, self._registration)
        elif self._registration != "header":
            logger.warning("the studies are read-only: trainings go by the headers of T2")
        return store

    def init_infers(self) -> dict[str, InferTask]:
        """List the models; 3D Slicer runs the first one by itself on a new sample."""
        tasks = [task(self.engine, self.folders) for task in (InitialTask, ClickTask, EditTask)]
        wanted = set(self.settings.models) - (set() if self.settings.scribbles else {"edit"})
        return {task.name: task for task in tasks if task.name in wanted}

    def init_trainers(self) -> dict[str, TrainTask]:
        """List what can be trained, by the names of the models."""
        if self.settings.skip_trainers:
            return {}
        parts = self.store, self.folders.studies, load_update(self.settings.update_path)
        more = self.settings.device, self.settings.replay_path
        named = {"initial": "initial", "click": "correction"}
        return {
            task: UpdateTask(model, *parts, *more)
            for task, model in named.items()
            if task in self.settings.models
        }

    def bundle_path(self, _model: str) -> str:
        """Return what MONAI Label lets a training import from: its own is whatever a request says.

        That folder comes to PYTHONPATH, so what lies in it would run.
        """
        return str(self.app_dir)

    def init_strategies(self) -> dict[str, Strategy]:
        """List the ways to choose the next image."""
        if self.settings.skip_strategies:
            return {}
        return make_strategies(self._scores.known)

    def init_batch_infer(self) -> BatchInfer:
        """Return what runs a model over many images."""
        return BatchInfer()

    def on_init_complete(self) -> None:
        """Warm up, so that the first reader does not wait for libraries to load."""
        super().on_init_complete()
        mend_routes()
        if self.settings.preload:
            warm_up(self.engine(), self.folders.uploads)
        self._scores.known()  # read now: 200 of them would cost the first Next Sample 0.1 s
        keep_blas_to_one_thread()
        keep_what_is_loaded()
        # Last, so that the server is ready before anything competes with it.
        is_unwanted = self.settings.skip_strategies or self.settings.skip_scoring
        if not (is_unwanted or server.MONAI_LABEL_DATASTORE_READ_ONLY):
            self._scores.start()

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Run a model; here the id of the image is known, and everything a request names checked.

        Raises:
            HTTPException: with a sentence that says what was wanted and what came.
        """
        with told(), discarding(request.get("image"), request.get("label")):
            task = self._known(self._infers, request.get("model"), "model")
            store = datastore or self.datastore()
            source = find_source(request, store, self.folders)
            tag = check_tag(request.get("label_tag") or DefaultLabelTag.ORIGINAL)
            if is_true(request.get("save_label")) and tag.lower() == FINAL:
                text = f"an answer is not saved as {FINAL}: the option accept of the model does so"
                raise HTTPException(NOT_ALLOWED, f"{text}, after its checks")
            image_id = id_to_accept(request, task.options, source)
            file, params = task({**request, "source": source})
            if image_id is not None:
                with discarding(file):
                    where = accept(request, image_id, Path(file), store, self.folders)
                params = {**params, **where}
            label = file
            if is_true(request.get("save_label")) and source.image_id is not None:
                info = {"model": request["model"], "params": params}
                label = store.save_label(source.image_id, file, tag, info)
            return {"label": label, "tag": tag, "file": file, "params": params}

    def on_save_label(self, image_id: str, label_id: str) -> dict[str, Any]:
        """Return what the viewer that saved a label is told: 3D Slicer shows it."""
        super().on_save_label(image_id, label_id)
        store = self.datastore()
        return dict(store.last_saved) if isinstance(store, StudiesDatastore) else {}

    def infer_wsi(
        self, request: dict[str, Any], datastore: Datastore | None = None
    ) -> dict[str, Any]:
        """Refuse: slides are not MRI.

        Raises:
            HTTPException: always.
        """
        raise HTTPException(NOT_FOUND, "this app has no models for whole slide images")

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the next image without an accepted label, or nothing."""
        self._known(self._strategies, request.get("strategy"), "strategy")
        store = self.datastore()
        for _ in range(MORE_OFFERS if isinstance(store, PacsDatastore) else 0):
            left_out = store.left_out()
            try:
                return dict(super().next_sample(request))
            except HTTPException:
                if store.left_out() == left_out:  # no other one would do better
                    raise
        return dict(super().next_sample(request))

    def model_file(self, model: str, validate: bool = True) -> None:
        """Tell of no file: weights are neither replaced, moved away nor sent over HTTP.

        Raises:
            HTTPException: if a client sent one.
        """
        if not validate:  # only the upload asks so
            raise HTTPException(NOT_ALLOWED, "weights are not taken over HTTP; see pretrained_path")

    def cleanup_sessions(self) -> None:
        """Remove expired sessions, and what was left behind: every five minutes.

        That is uploads of failed requests, files that a killed process was about to replace, and
        what it had fetched of a PACS. MONAI Label looks only while it remembers a session, so that
        those of an earlier server would stay.
        """
        if self._sessions is not None:
            self._sessions.remove_expired()
        remove_left(self.folders.uploads.glob("*"))
        if self._is_pacs or not server.MONAI_LABEL_DATASTORE_READ_ONLY:
            for left in (PART, FETCHED):
                remove_left(self.folders.studies.rglob(f"{left}*"))

    def _load_sessions(self, load: bool = False) -> Sessions | None:
        return self._named_sessions if load else None

    def _known(self, things: dict[str, Any], name: Any, kind: str) -> Any:
        thing = things.get(name) if isinstance(name, str) else None
        if thing is None:
            there = ", ".join(things) or "none"
            raise HTTPException(NOT_FOUND, f"there is no {kind} {name!r:.80}; there are: {there}")
        return thing


def warm_up(engine: Engine, folder: Path) -> None:
    """Run each network and the writer once, and leave nothing behind."""
    shape = (96, 96, 24)
    grid = Grid(shape, np.diag([0.5, 0.5, 1.5, 1.0]))
    image = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    study = Study("warm-up", image, grid, None)
    engine.initial(study)
    answer = engine.correct(study, (Click.at((48, 48, 12), True, grid),))
    path = write_volume(folder / "warm-up.nrrd", Volume(answer.label, grid))
    path.unlink()
    engine.cache.clear()
