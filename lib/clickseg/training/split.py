"""Divide cases into training and validation: by patient, before anything else."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clickseg.atomic import write_text
from clickseg.config import SplitConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Case ids by side. No patient is on both."""

    training: tuple[str, ...]
    validation: tuple[str, ...]


def patient_of(case_id: str, pattern: str) -> str:
    """Return the patient a case belongs to: the pattern's first group, its match, or the id."""
    match = re.search(pattern, case_id)
    if match is None:
        logger.warning("%r does not match split.patient: taken for a patient of its own", case_id)
        return case_id
    return match.group(1) if match.groups() else match.group(0)


def split_cases(case_ids: Sequence[str], config: SplitConfig, seed: int) -> Split:
    """Divide cases so that about the wished share of patients is for validation.

    Whether a patient is for validation depends on the order of hashed names, so that more
    studies of a known patient never move it. One patient alone is for training.
    """
    patients = sorted({patient_of(name, config.patient) for name in case_ids})
    ranked = sorted(patients, key=lambda name: rank_of(name, seed))
    count = min(round(config.validation * len(ranked)), len(ranked) - 1)
    held = set(ranked[: max(count, 0)])
    sides: tuple[list[str], list[str]] = ([], [])
    for name in sorted(case_ids):
        sides[patient_of(name, config.patient) in held].append(name)
    return Split(tuple(sides[0]), tuple(sides[1]))


def folds_of(case_ids: Sequence[str], count: int, config: SplitConfig, seed: int) -> list[Split]:
    """Divide cases into ``count`` folds by patient; each split validates on one of them."""
    patients = sorted({patient_of(name, config.patient) for name in case_ids})
    ranked = sorted(patients, key=lambda name: rank_of(name, seed))
    fold = {name: index % count for index, name in enumerate(ranked)}
    numbers = {name: fold[patient_of(name, config.patient)] for name in sorted(case_ids)}
    return [
        Split(
            tuple(name for name, number in numbers.items() if number != index),
            tuple(name for name, number in numbers.items() if number == index),
        )
        for index in range(count)
    ]


def write_split(split: Split, path: Path) -> None:
    """Write a split as JSON, whole or not at all."""
    text = json.dumps({"training": split.training, "validation": split.validation}, indent=1)
    write_text(path, text + "\n")


def read_split(path: Path) -> Split:
    """Read what ``write_split`` wrote.

    Raises:
        ValueError: if the file is no split, or a case is on both sides.
    """
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict) or set(values) != {"training", "validation"}:
        raise ValueError(f"{path.name} must hold the lists training and validation")
    split = Split(tuple(values["training"]), tuple(values["validation"]))
    both = sorted(set(split.training) & set(split.validation))
    if both:
        raise ValueError(f"{path.name} has cases on both sides: {', '.join(both)}")
    return split


def rank_of(name: str, seed: int = 0) -> str:
    """Return what patients are ordered by: their hashed names, so that more of them move none."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
