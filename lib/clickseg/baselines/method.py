"""What a method must do to be compared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clickseg.clicks import Clicks
from clickseg.modelfile import Manifest
from clickseg.study import Study

Mask = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Answer:
    """A canonical mask, and how far from a click it may change (None: the method does not say)."""

    mask: Mask
    radius_mm: float | None


class Session(Protocol):
    """One study with one start mask, before one reader."""

    def answer(self, clicks: Clicks, drags_mm: tuple[float, ...]) -> Answer:
        """Return the mask after all clicks so far; each call has one click more.

        ``drags_mm``: with each click, how large the reader says the error is: its radius. Most
        methods do not look at it.
        """


class Method(Protocol):
    """A way to mend a mask by clicks."""

    @property
    def version(self) -> str:
        """Name the weights and their recipe, or the settings: all that decides an answer."""

    def initial(self, study: Study) -> Mask:
        """Return its own start mask, canonical; an empty one from a method that makes none."""

    def open(self, study: Study, start: Mask | None) -> Session:
        """Begin with a study and a start mask; None is its own."""


def version_of(manifest: Manifest) -> str:
    """Name weights, and the recipe that says how they are used: the same ones answer otherwise."""
    recipe = json.dumps(manifest.recipe, sort_keys=True)
    return f"{manifest.short_hash}+{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
