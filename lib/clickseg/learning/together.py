"""A round of learning in several processes of this machine, as a server starts it.

What each process does is the same as under ``torchrun``. This one only listens: to how far they
are, how it ended, or what went wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import multiprocessing
from torch.multiprocessing.spawn import ProcessException

from clickseg.config import ConfigError
from clickseg.learning.holdout import HoldOutError
from clickseg.learning.settings import UpdateConfig
from clickseg.learning.store import ModelStore, StoreBusyError
from clickseg.learning.update import Outcome, Progress, UpdateError, update_model
from clickseg.modelfile import ModelError
from clickseg.training.processes import (
    is_first,
    join_processes,
    leave_processes,
    start_processes,
)
from clickseg.training.tracking import Tracking
from clickseg.volume import ImageError

LISTEN_S = 0.2

EXPECTED = (ConfigError, HoldOutError, ImageError, ModelError, StoreBusyError, UpdateError)
"""What a user can mend: told in one sentence."""


def update_together(
    count: int,
    name: str,
    studies: Path,
    store: ModelStore,
    config: UpdateConfig,
    device: str,
    replay: Path | None,
    watch: Callable[[Progress], None],
    tracking: Tracking | None = None,
) -> Outcome:
    """Run ``update_model`` in several processes: each draws its part of every batch.

    ``count`` is how many, one of which would run here; the rest are arguments of ``update_model``.

    Raises:
        UpdateError: as ``update_model``, and if a process was ended.
        ConfigError, StoreBusyError, HoldOutError, ModelError: as ``update_model``.
    """
    if count == 1:
        return update_model(name, studies, store, config, device, replay, watch, tracking=tracking)
    told: Any = multiprocessing.get_context("spawn").SimpleQueue()
    said: list[Outcome | Exception] = []

    def listen() -> None:
        while not told.empty():
            one = told.get()
            if isinstance(one, Progress):
                watch(one)
            else:
                said.append(one)

    arguments = (name, studies, store, config, device, replay, tracking)
    running = start_processes(count, _take_part, told, *arguments)
    try:
        while not running.join(LISTEN_S):
            listen()
    except ProcessException as error:
        listen()
        if said and isinstance(said[0], Exception):  # the others only missed the one that failed
            raise said[0] from None
        cause = str(error).strip().splitlines()[-1]
        raise UpdateError(f"{name} is not trained, one of its processes ended: {cause}") from error
    except OSError as error:  # of ``watch``, as on a full disk
        raise UpdateError(f"{name} is not trained, something cannot be used: {error}") from error
    finally:  # where this one fails nobody would listen to them any more
        for process in running.processes:
            process.terminate()
            process.join()
    listen()
    (outcome,) = said
    assert isinstance(outcome, Outcome)
    return outcome


def _take_part(
    told: Any,
    name: str,
    studies: Path,
    store: ModelStore,
    config: UpdateConfig,
    device: str,
    replay: Path | None,
    tracking: Tracking | None,
) -> None:
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s] [%(process)s] %(message)s")
    try:
        device = join_processes(device)
        outcome = update_model(
            name, studies, store, config, device, replay, told.put, tracking=tracking
        )
        if is_first():
            told.put(outcome)
        leave_processes()
    except EXPECTED as error:
        told.put(error)
        raise
    except Exception as error:
        told.put(UpdateError(f"{name} is not trained: {type(error).__name__}: {error}"))
        raise
