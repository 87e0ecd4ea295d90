"""Divide cases into training and validation: by patient, before anything else."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clickseg.atomic import write_text
from clickseg.config import ConfigError, SplitConfig
from clickseg.study import PRIVATE_FOLDER, Case

logger = logging.getLogger(__name__)


SPLIT_NAME = "split.json"
"""The split of a run in its folder, and one that a data set came with in its folder of studies."""

SIDES = ("training", "validation", "test")

PATIENTS = f"{PRIVATE_FOLDER}/patients.json"
"""In the folder of studies of a PACS: the patient of each, by id."""

_UID = re.compile(r"[0-2](\.[0-9]+){3,}")

_QUICK = {
    r"^(?:sub-)?((?:[A-Za-z]+[-_]?)*[0-9]+)": (
        r"^(?:sub-)?((?:[A-Za-z]+(?:[-_][A-Za-z]+)*[-_]?)?[0-9]+)"
    )
}
"""A pattern of earlier recipes, and one that finds the same: the first tries each division of a
name without digits, hours for one of 40 letters."""


@dataclass(frozen=True)
class Split:
    """Case ids by side. No patient is on two of them; nothing is trained or chosen on ``test``."""

    training: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...] = ()

    def sides(self) -> dict[str, str]:
        """Return the side of each case by its id."""
        return {name: side for side in SIDES for name in getattr(self, side)}


def patient_of(case_id: str, pattern: str, told: Mapping[str, str] | None = None) -> str:
    """Return the patient a case belongs to: the pattern's first group, its match, or the id.

    ``told``: patients by id, which count before the pattern. A DICOM UID says nothing of its
    patient: without being told of it, it is a patient of its own.
    """
    if told and case_id in told:
        return told[case_id]
    if _UID.fullmatch(case_id):
        return case_id
    match = re.search(quick(pattern), case_id)
    if match is None:
        logger.warning("%r does not match split.patient: taken for a patient of its own", case_id)
        return case_id
    return match.group(1) if match.groups() else match.group(0)


def quick(pattern: str) -> str:
    """Return a pattern that finds the same patients as one of earlier recipes, in less time."""
    return _QUICK.get(pattern, pattern)


def told_patients(studies: Path) -> dict[str, str]:
    """Return the patients of studies by id, as a PACS tells them; of a mere folder nothing.

    Raises:
        ConfigError: if the file that says so is damaged.
    """
    path = studies / PATIENTS
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} does not say of which patient each study is: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must say of which patient each study is")
    for case_id, patient in values.items():
        if not isinstance(patient, str):
            raise ConfigError(f"{path} must name the patient of {case_id}, got {patient!r:.60}")
    return values


def told_of(cases: Sequence[Case]) -> dict[str, str]:
    """Return the patients of cases by id, as far as the folders that they are in tell them."""
    told: dict[str, str] = {}
    for folder in {case.t1ce.parent for case in cases}:
        told |= told_patients(folder)
    return told


def split_cases(
    case_ids: Sequence[str], config: SplitConfig, seed: int, told: Mapping[str, str] | None = None
) -> Split:
    """Divide cases so that about the wished share of patients is for validation.

    Whether a patient is for validation depends on the order of hashed names, so that more
    studies of a known patient never move it. One patient alone is for training. ``told``: as
    ``patient_of``.
    """
    patient, ranked = _ranked(case_ids, config, seed, told)
    count = min(round(config.validation * len(ranked)), len(ranked) - 1)
    held = set(ranked[: max(count, 0)])
    sides: tuple[list[str], list[str]] = ([], [])
    for name in patient:
        sides[patient[name] in held].append(name)
    return Split(tuple(sides[0]), tuple(sides[1]))


def _ranked(
    case_ids: Sequence[str], config: SplitConfig, seed: int, told: Mapping[str, str] | None
) -> tuple[dict[str, str], list[str]]:
    """Return the patient of each case, by the order of ids, and all patients by their rank."""
    patient = {name: patient_of(name, config.patient, told) for name in sorted(case_ids)}
    return patient, sorted({*patient.values()}, key=lambda name: rank_of(name, seed))


def folds_of(
    case_ids: Sequence[str],
    count: int,
    config: SplitConfig,
    seed: int,
    told: Mapping[str, str] | None = None,
) -> list[Split]:
    """Divide cases into ``count`` folds by patient; each split validates on one of them."""
    patient, ranked = _ranked(case_ids, config, seed, told)
    fold = {name: index % count for index, name in enumerate(ranked)}
    numbers = {name: fold[patient[name]] for name in patient}
    return [
        Split(
            tuple(name for name, number in numbers.items() if number != index),
            tuple(name for name, number in numbers.items() if number == index),
        )
        for index in range(count)
    ]


def write_split(split: Split, path: Path) -> None:
    """Write a split as JSON, whole or not at all; without ``test`` where that is empty."""
    sides = {side: getattr(split, side) for side in SIDES if side != "test" or split.test}
    write_text(path, json.dumps(sides, indent=1) + "\n")


def read_split(path: Path) -> Split:
    """Read what ``write_split`` wrote.

    Raises:
        ValueError: if the file is no split, or a case is on both sides.
    """
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict) or set(values) | {"test"} != set(SIDES):
        raise ValueError(f"{path.name} must hold the lists training and validation, perhaps test")
    for side, names in values.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{path.name} must hold a list of ids as {side}, got {names!r:.60}")
    split = Split(*(tuple(values.get(side, ())) for side in SIDES))
    counts = Counter(name for side in SIDES for name in getattr(split, side))
    both = sorted(name for name, count in counts.items() if count > 1)
    if both:
        raise ValueError(f"{path.name} has cases on both sides: {', '.join(both)}")
    return split


def given_split(studies: Path, path: Path | None) -> Split | None:
    """Return the split of a file, or the one that lies with the studies, or None.

    Args:
        studies: the folder of studies.
        path: the file, if one was named.

    Raises:
        ConfigError: if it cannot be read.
    """
    file = studies / SPLIT_NAME if path is None else path
    if path is None and not file.is_file():
        return None
    try:
        return read_split(file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} is no split that can be used: {error}") from error


def without_tested(cases: Sequence[Case], studies: Path, pattern: str) -> list[Case]:
    """Leave out cases of patients whom a split that lies with the studies keeps for tests."""
    given, told = given_split(studies, None), told_patients(studies)
    ids = given.test if given is not None else ()
    tested = {patient_of(one, pattern, told) for one in ids}
    return [case for case in cases if patient_of(case.case_id, pattern, told) not in tested]


def of_sides(cases: Sequence[Case], split: Split, sides: Sequence[str]) -> list[Case]:
    """Return the cases that a split puts on some sides; one that it does not name is on none.

    Raises:
        ConfigError: if none is left.
    """
    where = split.sides()
    unnamed = [case.case_id for case in cases if case.case_id not in where]
    if unnamed:
        logger.warning("%d studies are on no side of the split: %s ...", len(unnamed), unnamed[0])
    chosen = [case for case in cases if where.get(case.case_id) in sides]
    if not chosen:
        raise ConfigError(f"studies for {' and '.join(sides)} were wanted, the split has none")
    return chosen


def only(split: Split, cases: Sequence[Case]) -> Split:
    """Return the training and validation sides of a split, of the cases that are there."""
    there = {case.case_id for case in cases}
    training, validation = (
        tuple(name for name in side if name in there) for side in (split.training, split.validation)
    )
    return Split(training, validation)


def rank_of(name: str, seed: int = 0) -> str:
    """Return what patients are ordered by: their hashed names, so that more of them move none."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
