"""The machine: what figures of time and of floating point depend on, and when memory is out."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from clickseg.precision import has_bfloat16


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, GPU, threads and precision; nothing that names the machine.

    ``bfloat16`` is whether the processor computes in it: where it does not, networks take longer.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": cores,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "threads": torch.get_num_threads(),
        "bfloat16": has_bfloat16("cpu"),
    }


def memory_bytes() -> int:
    """Return how much memory a process may use: the machine's, or its container's if less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [_read_text(path).strip() for path in _MEMORY_LIMITS]
    return min([whole, *(int(limit) for limit in limits if limit.isdecimal())])


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that there was not enough memory, of the CPU or of a GPU.

    One that was caused by such an error does so, too: MONAI's transforms raise another.
    """
    if error.__cause__ is not None and is_out_of_memory(error.__cause__):
        return True
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY)


_NO_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "bad_alloc",
    "could not create a primitive",  # oneDNN, which says no more; our networks have all it wants
    "could not execute a primitive",
)
"""What torch and its libraries say in a plain ``RuntimeError``."""


_MEMORY_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Where Linux tells the limit of a container, in the second and the first version of cgroups."""


def _processor() -> str:
    lines = _read_text(Path("/proc/cpuinfo")).splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _read_text(path: Path) -> str:
    """Return what a file of the system says; nothing where there is no such file."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
