"""The option ``--device``."""

from __future__ import annotations

from typing import Annotated

import torch
import typer


def _check(text: str) -> str:
    """Refuse a device that is not there: else a command finds out when it is half done.

    Raises:
        BadParameter: if it is no device, or a GPU that this machine has not.
    """
    try:
        device = torch.device(text)
    except RuntimeError as error:
        raise typer.BadParameter(f"--device is cpu, cuda, cuda:1, ...; got {text!r}") from error
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise typer.BadParameter(f"--device {text} was wanted, there are {count} CUDA devices")
    return text


Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...", callback=_check)]
