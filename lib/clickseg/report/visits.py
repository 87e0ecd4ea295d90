"""Which studies are visits of one patient, and in which order.

A PACS tells patients, and dates where images have one. NIfTI knows no date: the order is that of
names. Numbers in them count as numbers, so ``v2`` comes before ``v10``, ``ses-1`` before
``ses-2``, an id without an ending first, and dates written year, month, day in their order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from clickseg.training.split import patient_of

Key = tuple[tuple[str | int, ...], str]


def natural_key(name: str) -> Key:
    """Return what orders names as a reader would; two names never have the same key."""
    parts = re.split(r"([0-9]+)", name)  # text, number, text, ...: like is compared with like
    return tuple(int(part) if n % 2 else part.casefold() for n, part in enumerate(parts)), name


def visits_of(
    case_ids: Iterable[str],
    pattern: str,
    told: Mapping[str, str] | None = None,
    dates: Mapping[str, str] | None = None,
) -> dict[str, list[str]]:
    """Return the ids of each patient, patients and ids in the order of names.

    Args:
        case_ids: of all studies.
        pattern: regular expression whose first group, or whole match, is the patient.
        told: patients by id, which count before the pattern.
        dates: date and time by id, which count before names; visits without one come last, since
            nobody knows when they were.
    """
    known = dates or {}
    visits: dict[str, list[str]] = {}
    for name in case_ids:
        # A group that may be missing gives None, and an empty match no patient.
        visits.setdefault(patient_of(name, pattern, told) or name, []).append(name)

    def place(name: str) -> tuple[bool, str, Key]:
        return name not in known, known.get(name, ""), natural_key(name)

    return {
        patient: sorted(visits[patient], key=place) for patient in sorted(visits, key=natural_key)
    }
