"""The rules by which series are told apart: ``series-rules.yaml`` into frozen dataclasses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict
from pydantic.dataclasses import dataclass

from clickseg.config import Count, load_recipe

RULES = Path(__file__).with_name("series-rules.yaml")


def _pattern(text: object) -> re.Pattern[str]:
    try:
        return re.compile(str(text), re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"a regular expression was wanted: {error}") from error


_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
Patterns = tuple[Annotated[re.Pattern[str], BeforeValidator(_pattern)], ...]
Range = tuple[float, float]
Preference = Literal["contrast", "original", "frame_of_reference", "resolution"]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Evidence:
    """What makes a series a candidate; all that is given must hold."""

    description: Patterns | None = None
    sequence_name: Patterns | None = None
    contrast: Literal[True] | None = None
    echo_time_ms: Range | None = None
    repetition_time_ms: Range | None = None

    def __post_init__(self) -> None:
        """Refuse an item that every series would satisfy.

        Raises:
            ValueError: if nothing is given.
        """
        if all(value is None for value in vars(self).values()):
            raise ValueError("evidence names at least one attribute")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Refusal:
    """What makes a series no candidate; any one of the patterns does."""

    description: Patterns
    sequence_name: Patterns


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RoleRules:
    """How one of the two sequences is found; the file says what each part means."""

    evidence: tuple[Evidence, ...]
    refuse: Refusal
    contrast: Literal["not_denied", "any"]
    prefer: tuple[Preference, ...]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SeriesRules:
    """The rules; the file says what each part means."""

    modalities: tuple[str, ...]
    smallest_slices: Count
    contrast: Patterns
    no_contrast: Patterns
    no_agent: Patterns
    reformat: Patterns
    refuse: Refusal
    t1ce: RoleRules
    t2: RoleRules


def load_rules(path: Path = RULES) -> SeriesRules:
    """Read the rules.

    Raises:
        ConfigError: if the file is missing or no YAML, or a key is unknown, missing or wrong.
    """
    return load_recipe(path, SeriesRules)
