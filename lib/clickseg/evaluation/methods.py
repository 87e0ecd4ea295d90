"""The methods that can be evaluated: each opens a study and answers clicks.

A method is named on the command line as ``NAME`` or ``NAME=FOLDER``; the folder holds its weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clickseg.clicks import Clicks
from clickseg.engine import Engine
from clickseg.models import WEIGHTS, Models, load_models
from clickseg.study import Study

Mask = NDArray[np.uint8]

COMMON_RADIUS_MM = 14.0
"""For methods that state no radius: farther from a click than this nothing should change."""


class MethodError(ValueError):
    """A method is not known, or its weights are not there; the text says what there is."""


@dataclass(frozen=True, eq=False)
class Answer:
    """A canonical mask, and how far from a click it may change (None: the method does not say)."""

    mask: Mask
    radius_mm: float | None


class Session(Protocol):
    """One study with one start mask, before one reader."""

    def answer(self, clicks: Clicks) -> Answer:
        """Return the mask after all clicks so far; each call has one click more."""


class Method(Protocol):
    """A way to mend a mask by clicks."""

    version: str
    """Names the weights."""

    def initial(self, study: Study) -> Mask:
        """Return its own start mask, canonical; an empty one from a method that makes none."""

    def open(self, study: Study, start: Mask | None) -> Session:
        """Begin with a study and a start mask; None is its own."""


class EngineMethod:
    """What the server does, by the same calls: ours and the published recipe, by their weights."""

    def __init__(self, models: Models) -> None:
        self.version = " ".join(models.hashes.values())
        self._engine = Engine(models)

    def initial(self, study: Study) -> Mask:
        """Return the initial outline."""
        return np.asarray(study.grid.to_canonical(self._engine.initial(study).label))

    def open(self, study: Study, start: Mask | None) -> Session:
        """Begin with a study and a start mask."""
        return _EngineSession(self._engine, study, start)


@dataclass
class _EngineSession:
    engine: Engine
    study: Study
    start: Mask | None

    def answer(self, clicks: Clicks) -> Answer:
        answer = self.engine.correct(self.study, clicks, self.start)
        mask = np.asarray(self.study.grid.to_canonical(answer.label))
        return Answer(mask, answer.result["radius_mm"])


def _by_engine(folder: Path) -> Method:
    return EngineMethod(load_models(folder))


BUILDERS: dict[str, Callable[[Path], Method]] = {
    "ours": _by_engine,
    "published": _by_engine,
}
"""By name: how a method is made of the folder of its weights."""


def parse_method(text: str) -> tuple[str, Path]:
    """Read ``NAME`` or ``NAME=FOLDER``; without a folder the weights of the package are taken.

    Raises:
        MethodError: if there is no method of that name.
    """
    name, _, folder = text.partition("=")
    if name not in BUILDERS:
        raise MethodError(f"there is no method {name!r}; there are: {', '.join(BUILDERS)}")
    if not folder and name != "ours":
        raise MethodError(f"{name} comes without weights; wanted is {name}=FOLDER")
    return name, Path(folder) if folder else WEIGHTS


def build_method(name: str, folder: Path) -> Method:
    """Make a method.

    Raises:
        MethodError: if there is no method of that name.
        ModelError: if its weights cannot be loaded.
    """
    if name not in BUILDERS:
        raise MethodError(f"there is no method {name!r}; there are: {', '.join(BUILDERS)}")
    return BUILDERS[name](folder)
