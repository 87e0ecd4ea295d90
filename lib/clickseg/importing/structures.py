"""Which structure of a radiotherapy plan is the tumor: rules in ``structures.yaml``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from clickseg.config import load_recipe

RULES = Path(__file__).with_name("structures.yaml")


class Kind(StrEnum):
    """What a structure is, by its name."""

    TUMOR = "tumor"
    COCHLEA = "cochlea"
    FOLLOW_UP = "follow-up"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class StructureRules:
    """Patterns of names; see ``structures.yaml``."""

    tumor: tuple[str, ...]
    cochlea: tuple[str, ...]
    follow_up: tuple[str, ...]
    other: tuple[str, ...]

    def kind_of(self, name: str) -> Kind:
        """Return what a name stands for; that of another day and place is looked for first."""
        order = (
            (Kind.COCHLEA, self.cochlea),
            (Kind.FOLLOW_UP, self.follow_up),
            (Kind.OTHER, self.other),
            (Kind.TUMOR, self.tumor),
        )
        for kind, patterns in order:
            if any(re.search(pattern, name, re.IGNORECASE) for pattern in patterns):
                return kind
        return Kind.UNKNOWN


@cache
def load_rules(path: Path = RULES) -> StructureRules:
    """Read the rules.

    Raises:
        ConfigError: if the file is missing or no YAML, or a key is unknown, missing or wrong.
    """
    return load_recipe(path, StructureRules)


def tumor_among(names: Sequence[str]) -> tuple[int, str]:
    """Return which of the structures of a plan is the tumor, and a warning or nothing.

    It is the first one, unless its name says that it is something else. Then it is the first that
    is called like a tumor, or else the first whose name says nothing, or else one of another day.

    Raises:
        ValueError: if there is none.
    """
    kinds = [load_rules().kind_of(name) for name in names]
    if kinds and kinds[0] is Kind.TUMOR:
        return 0, ""
    if kinds and kinds[0] is Kind.UNKNOWN:
        return 0, f"the first structure, {names[0]!r}, is taken for the tumor"
    for kind in (Kind.TUMOR, Kind.UNKNOWN, Kind.FOLLOW_UP):
        if kind in kinds:
            number = kinds.index(kind)
            return number, f"{names[number]!r}, not the first structure, is taken for the tumor"
    raise ValueError(f"a tumor was wanted among the structures {', '.join(names) or '(none)'}")
