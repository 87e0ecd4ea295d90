"""One training in several processes, as ``torchrun`` starts them: who is first, wait, add up.

Alone everything here does nothing. The processes share the parts of each step's batch; all hold
the same network at any time, and the first one writes the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import distributed


def join_processes(device: str) -> str:
    """Join the other processes of ``torchrun``, if it started this one; return the device to use.

    Each process gets a GPU of its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return device
    is_cuda = torch.device(device).type == "cuda"
    distributed.init_process_group("nccl" if is_cuda else "gloo")
    return f"cuda:{os.environ['LOCAL_RANK']}" if is_cuda else device


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


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add up the gradients of all processes, in place; one that is missing counts as zeros."""
    if count() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce(parameter.grad)


def sum_values(value: float, device: str) -> float:
    """Add up a number of all processes."""
    if count() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return float(total)
