"""How models are updated: ``update.yaml`` beside this file, into a frozen dataclass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from clickseg.config import Count, FitConfig, Share, load_recipe

UPDATE = Path(__file__).with_name("update.yaml")

MOST = 5
"""So many times longer an epoch becomes at most."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class RefinedConfig:
    """How waiting studies train the initial model by outlines of the models themselves."""

    studies: Annotated[int, Field(ge=0)]
    share: Annotated[float, Field(gt=0, lt=1)]
    sure: Share


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class UpdateConfig:
    """How accepted labels train the models. The file says what each value means."""

    holdout: Share
    smallest: Annotated[int, Field(ge=2)]
    replay: Annotated[int, Field(ge=0)]
    accepted: Annotated[float, Field(gt=0, lt=1)]
    clicks: Count
    recorded: Share
    refined: RefinedConfig
    steps_for: Annotated[int, Field(ge=0)]
    locate: FitConfig
    segment: FitConfig
    correction: FitConfig

    def lengthened(self, fit: FitConfig, studies: int) -> FitConfig:
        """Return a fit with as many steps an epoch as so many accepted studies are worth."""
        times = studies / self.steps_for if self.steps_for else 1.0
        steps = round(fit.steps_per_epoch * min(max(times, 1.0), MOST))
        return replace(fit, steps_per_epoch=steps)


def load_update(path: Path = UPDATE) -> UpdateConfig:
    """Read the settings.

    Raises:
        ConfigError: if the file is missing or no YAML, or a key is unknown, missing or wrong.
    """
    return load_recipe(path, UpdateConfig)
