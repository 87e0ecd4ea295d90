"""One training in several processes: start or join them, who is first, wait, add up.

``torchrun`` starts them, or ``start_processes``. Alone everything here does nothing. The processes
share the parts of each step's batch; all hold the same weights at any time and, after an epoch,
the same buffers. The first one writes the files.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from clickseg.config import ConfigError

T = TypeVar("T")

LONGEST_WAIT = timedelta(hours=12)
"""Of the others, while the first one makes phantoms or measures models; a process that ended is
noticed at once."""


def start_processes(count: int, work: Callable[..., None], *arguments: Any) -> Any:
    """Start processes that call a function, each of which may join the others.

    Args:
        count: how many, on this machine.
        work: what each calls, by a name that can be imported.
        arguments: of ``work``.

    Returns:
        What waits for them: its ``join(timeout)`` is True once all have ended, and raises the
        error of the first that failed, after it has ended the others.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return spawn(_work, (count, port, work, arguments), nprocs=count, join=False)  # type: ignore[no-untyped-call]


def _work(
    number: int, count: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    """Call a function with the environment that ``torchrun`` gives."""
    os.environ |= {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "LOCAL_WORLD_SIZE": str(count),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    work(*arguments)


def join_processes(device: str) -> str:
    """Join the processes that were started with this one, if any were; return the device to use.

    Each process gets a GPU of its own; where there are fewer, several share one, which pays
    where a step keeps the CPU busier than the GPU. Machines that train together are alike.

    Raises:
        ConfigError: if there is no GPU.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return device
    is_cuda = torch.device(device).type == "cuda"
    backend = "gloo"
    if is_cuda:
        gpus = torch.cuda.device_count()
        if gpus == 0:
            raise ConfigError("--device cuda was wanted, no GPU is to be seen")
        device = f"cuda:{int(os.environ['LOCAL_RANK']) % gpus}"
        torch.cuda.set_device(device)
        if int(os.environ.get("LOCAL_WORLD_SIZE", gpus)) <= gpus:
            backend = "nccl"  # quicker, but it refuses two processes on one GPU
    distributed.init_process_group(backend, timeout=LONGEST_WAIT)
    return device


def leave_processes() -> None:
    """Part from the others."""
    if count() > 1:
        distributed.destroy_process_group()


def count() -> int:
    """Return how many processes train together."""
    together = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if together else 1


def number() -> int:
    """Return which of them this is, from 0."""
    return distributed.get_rank() if count() > 1 else 0


def is_first() -> bool:
    """Tell whether this one writes the files."""
    return number() == 0


def wait() -> None:
    """Wait until all have come here: what the first one wrote is there for the others."""
    if count() > 1:
        distributed.barrier()


def by_first(make: Callable[[], T]) -> T:
    """Let the first process make something, and return it to all.

    Raises:
        Exception: what the first one ran into, in all of them.
    """
    if count() == 1:
        return make()
    made: list[Any] = [None, None]
    if is_first():
        try:
            made[0] = make()
        except Exception as error:
            made[1] = error
    distributed.broadcast_object_list(made)
    if made[1] is not None:
        raise made[1]
    value: T = made[0]
    return value


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add up the gradients of all processes, in place; one that is missing counts as zeros."""
    if count() == 1:
        return
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    _sum(gradients)


def average_buffers(network: torch.nn.Module) -> None:
    """Average what the layers of all processes noted of their own batches, as batch norm does."""
    noted = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    if count() == 1 or not noted:
        return
    _sum(noted)
    for buffer in noted:
        buffer.div_(count())


def _sum(tensors: Sequence[torch.Tensor]) -> None:
    total = torch.cat([tensor.flatten() for tensor in tensors])  # one message, not hundreds
    distributed.all_reduce(total)
    parts = torch.split(total, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def sum_values(value: float, device: str) -> float:
    """Add up a number of all processes."""
    if count() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return float(total)
