"""The batches of a training, in order, drawn where they are needed or ahead by other processes.

A batch depends on its place alone, so it is the same wherever it is drawn. To draw ahead pays where
a step takes less time than its batch, as on a GPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from clickseg.parallel import end_with_parent
from clickseg.precision import one_thread

Batch = TypeVar("Batch")

AHEAD = 4
"""Batches that a process draws before the first of them is taken."""


@dataclass(frozen=True)
class Place:
    """Where a batch belongs: epochs count from 1, steps of an epoch and parts of a step from 0."""

    seed: int
    epoch: int
    step: int
    part: int


class _Draws(Dataset[tuple[int, Any]], Generic[Batch]):
    """Batches by their number, with the seed of what a step draws besides."""

    def __init__(
        self, places: Sequence[Place], draw: Callable[[np.random.Generator], Batch]
    ) -> None:
        self._places, self._draw = places, draw

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[int, Batch]:
        place = self._places[index]
        # The first part is seeded as the only one of a process alone.
        more = [place.part] * (place.part > 0)
        rng = np.random.default_rng([place.seed, place.epoch, place.step, *more])
        seed = int(rng.integers(2**31))
        torch.manual_seed(seed)
        with one_thread():  # on several the last bits are others
            return seed, self._draw(rng)


def drawn(
    places: Sequence[Place], draw: Callable[[np.random.Generator], Batch], workers: int
) -> Generator[Batch, None, None]:
    """Yield a batch a place, in order; torch's generator is seeded for what is drawn after it.

    Close it: the processes end then.

    Args:
        places: where the batches belong.
        draw: makes a batch of its place's generator and of nothing that changes, on the CPU. What
            it makes can be pickled.
        workers: processes that draw ahead; with 0 a batch is drawn when it is asked for.
    """
    if not places:
        return
    with warnings.catch_warnings():
        # That there are more than the system has cores is for whoever asked for them to know.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        loader: DataLoader[Any] = DataLoader(
            _Draws(places, draw),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            # What is drawn from is there already, and not sent to each process.
            multiprocessing_context="fork" if workers else None,
            collate_fn=_as_it_is,
            worker_init_fn=_begin,
        )
        batches = iter(loader)
    for seed, batch in batches:
        torch.manual_seed(seed)
        yield batch


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _begin(_number: int) -> None:
    end_with_parent()
