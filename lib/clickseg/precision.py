"""In which precision networks compute: bfloat16 where the device does, else float32.

A CPU with instructions for it is quicker by that; on one without, a step of a training would take
minutes. It depends on the device alone, never on a measurement, so that a machine always gives the
same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


def has_bfloat16(device: str | torch.device) -> bool:
    """Tell whether a device computes in bfloat16."""
    if torch.device(device).type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Not part of torch's public interface, but the only place that knows.
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.device(device).type == "cpu" and bool(asked())


def answering(device: str | torch.device) -> AbstractContextManager[object]:
    """Return a context in which networks answer in the precision of a device."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=has_bfloat16(device))


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread of the CPU: for work too small to share.

    On two cores a pass of a click takes two thirds of the time on two threads, but one in ten
    takes ten times as long, when the system lets both threads share a core. The number belongs to
    the process: whoever calls this holds a lock against other users of torch (``Engine`` does).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
