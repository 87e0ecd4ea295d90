"""The engine that answers, with the models that count: others are loaded when they come to."""

from __future__ import annotations

import logging
import threading
import time

from clickseg.engine import Engine
from clickseg.learning.store import ModelStore
from clickseg.modelfile import ModelError
from clickseg.registration import Mode

logger = logging.getLogger(__name__)

LOAD_PAUSE_S = 5.0, 60.0
"""After published models could not be loaded: at first, then each time twice as long, at most."""


class ServedEngine:
    """The engine of a store of models.

    Args:
        store: where the models are.
        device: that they compute on.
        cache_bytes: that the engine may keep.
        registration: of T2.
    """

    def __init__(
        self, store: ModelStore, device: str, cache_bytes: int, registration: Mode
    ) -> None:
        self.store = store
        self._device, self._cache_bytes, self._registration = device, cache_bytes, registration
        self._engine: Engine | None = None
        self._loaded_state: tuple[int, int] | None = None
        self._failed_state: tuple[int, int] | None = None
        self._load_again_s, self._load_pause_s = 0.0, LOAD_PAUSE_S[0]
        self._lock = threading.Lock()

    def engine(self) -> Engine:
        """Return the engine with the models that count; the first call loads them.

        Raises:
            ModelError: if the models cannot be loaded.
        """
        with self._lock:
            state = self.store.state()
            if self._engine is None:
                models = self.store.load(self._device)
                self._engine = Engine(models, self._cache_bytes, self._registration)
                self._loaded_state = state
            elif state != self._loaded_state:
                self._change_to(state, self._engine)
            return self._engine

    def _change_to(self, state: tuple[int, int] | None, engine: Engine) -> None:
        """Go on with the models that count now; those that just failed wait for another try."""
        if state != self._failed_state:
            self._load_again_s, self._load_pause_s = 0.0, LOAD_PAUSE_S[0]
        if time.monotonic() < self._load_again_s:
            return
        if self._take_new_models(engine):
            self._loaded_state, self._failed_state = state, None
        else:
            self._failed_state = state
            self._load_again_s = time.monotonic() + self._load_pause_s
            self._load_pause_s = min(2 * self._load_pause_s, LOAD_PAUSE_S[1])

    def _take_new_models(self, engine: Engine) -> bool:
        """Go on with the models that count, and tell whether that went well.

        If not it is tried again: memory may be short only while a training still holds it.
        """
        try:
            engine.use(self.store.load(self._device))
        except (ModelError, MemoryError, RuntimeError):  # torch is out of memory by the last
            logger.exception("the published models cannot be used; those at work stay")
            return False
        logger.info("models that count now: %s", engine.models.hashes)
        return True
