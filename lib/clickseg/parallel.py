"""Work shared among processes: each piece once, and nothing more of it after an error."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from typing import Any, TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")

_FAILED: list[Exception] = []
"""In a process that works for another: what its preparation raised."""


class WorkerError(RuntimeError):
    """A process that worked for this one is gone; the text says what to do."""


def in_processes(
    do: Callable[[Piece], Result],
    work: Iterable[Piece],
    processes: int,
    prepare: Callable[..., object] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[tuple[int, Result]]:
    """Do all pieces of work, and hand on number and result of each as it ends.

    When one of them or ``prepare`` raises, or whoever asks stops asking, the processes are ended at
    once and not after what they have begun: it must do no harm to break it off.

    Args:
        do: what is done with a piece; it and the pieces travel to other processes.
        work: the pieces, numbered from 0.
        processes: how many pieces are under way at most; a single one is this process itself.
        prepare: called with ``arguments`` in each other process before its first piece.
        arguments: of ``prepare``.

    Raises:
        WorkerError: if a process was ended from outside.
    """
    if processes == 1:
        yield from enumerate(map(do, work))
        return
    waiting = enumerate(work)
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        # A pool for each process: one of several may overlook for good that one of them is gone,
        # if that one was started while the pool had begun to watch the others.
        pools = [
            stack.enter_context(ProcessPoolExecutor(1, context, _prepare, (prepare, arguments)))
            for _ in range(processes)
        ]
        under_way: dict[Future[Result], tuple[int, ProcessPoolExecutor]] = {}

        def begin(idle: Iterable[ProcessPoolExecutor]) -> None:
            # zip asks for a process first: no piece is taken that none is free for.
            for pool, (number, piece) in zip(idle, waiting, strict=False):
                under_way[pool.submit(_do, do, piece)] = number, pool

        try:
            begin(pools)
            while under_way:
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    (number, pool), result = under_way.pop(future), future.result()
                    begin([pool])
                    yield number, result
        except BaseException as error:
            for worker in multiprocessing.active_children():
                worker.terminate()
            if isinstance(error, BrokenProcessPool):
                raise WorkerError(
                    "a worker was ended from outside, as for lack of memory; what is done stays: "
                    "begin again, perhaps with fewer --jobs"
                ) from error
            raise


def _prepare(prepare: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    end_with_parent()
    try:
        if prepare is not None:
            prepare(*arguments)
    except Exception as error:  # a pool would only tell that the process is gone
        _FAILED.append(error)


def _do(do: Callable[[Piece], Result], piece: Piece) -> Result:
    if _FAILED:
        raise _FAILED[0]
    return do(piece)


def end_with_parent() -> None:
    """Let no process go on by itself for hours after the one it works for was killed."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
