"""The settings of the app: ``--conf`` strings in, checked values out.

Keys that users of MONAI Label know keep their names. A wrong key or value is an error that lists
the right ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from clickseg.learning.settings import UPDATE
from clickseg.registration import MODES, Mode

TASKS = ("initial", "click", "edit")
"""The models a viewer can ask for, in the order in which they are listed."""

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class SettingsError(ValueError):
    """A setting is not what was wanted; the text says what was wanted and what came."""


@dataclass(frozen=True)
class Settings:
    """What ``--conf`` chooses. The README has a table of it."""

    models: tuple[str, ...] = TASKS
    preload: bool = True
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    cache_mb: int = 1024
    use_pretrained_model: bool = True
    pretrained_path: Path | None = None
    scribbles: bool = True
    skip_trainers: bool = False
    replay_path: Path | None = None
    update_path: Path = UPDATE
    skip_strategies: bool = False
    skip_scoring: bool = False
    fetch_ahead: int = 20
    """So many studies of a PACS wait fetched and scored for a reader."""
    auto_update_scoring: bool = False
    server_mode: bool = False
    registration: Mode | None = None
    """None is auto on a PACS, header in a folder."""


def read_settings(conf: Mapping[str, Any]) -> Settings:
    """Read the ``--conf`` pairs of the command line.

    Raises:
        SettingsError: if a key is unknown or a value is of no use.
    """
    names = [field.name for field in fields(Settings)]
    unknown = sorted(set(conf) - set(names))
    if unknown:
        raise SettingsError(f"no setting {', '.join(unknown)}; there are: {', '.join(names)}")
    return Settings(**{name: _READERS[name](name, str(value)) for name, value in conf.items()})


def _boolean(name: str, value: str) -> bool:
    try:
        return _BOOLEANS[value.strip().lower()]
    except KeyError:
        raise SettingsError(f"{name} is {value!r}; wanted is true or false") from None


def _models(name: str, value: str) -> tuple[str, ...]:
    wanted = [part.strip() for part in value.split(",") if part.strip()]
    if wanted == ["all"]:
        return TASKS
    wrong = [part for part in wanted if part not in TASKS]
    if wrong or not wanted:
        raise SettingsError(f"{name} is {value!r}; wanted is all or a list like {','.join(TASKS)}")
    return tuple(task for task in TASKS if task in wanted)


def _device(name: str, value: str) -> str:
    there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    there += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if value not in there:
        raise SettingsError(f"{name} is {value!r}; this machine has {', '.join(there)}")
    return value


def _number(name: str, value: str) -> int:
    if not value.isdecimal():
        raise SettingsError(f"{name} is {value!r}; wanted is a whole number, 0 or more")
    return int(value)


def _mode(name: str, value: str) -> Mode:
    for mode in MODES:
        if value == mode:
            return mode
    raise SettingsError(f"{name} is {value!r}; wanted is one of {', '.join(MODES)}")


def _folder(name: str, value: str) -> Path:
    path = Path(value)
    if not path.is_dir():
        raise SettingsError(f"{name} is {value!r}; wanted is a folder, and it is none")
    return path


def _file(name: str, value: str) -> Path:
    path = Path(value)
    if not path.is_file():
        raise SettingsError(f"{name} is {value!r}; wanted is a file, and it is none")
    return path


_READERS: dict[str, Callable[[str, str], Any]] = {
    "models": _models,
    "device": _device,
    "cache_mb": _number,
    "fetch_ahead": _number,
    "registration": _mode,
    "pretrained_path": _folder,
    "replay_path": _folder,
    "update_path": _file,
    **{field.name: _boolean for field in fields(Settings) if field.type == "bool"},
}
