"""Which patients are held out of all training: decided once for each, and kept.

A new model is compared with the old one on them, so no study of theirs may ever train. New
patients are added as readers accept their first label; what was decided stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from filelock import FileLock

from clickseg.atomic import write_text
from clickseg.training.split import Split, patient_of, quick, rank_of, told_patients

TRAINING, HELD = "training", "holdout"

FEWEST, FEW_SHARE = 3, 1 / 3
"""So many judge at least, once they are such a share: one or two tell next to nothing."""

HALF = "8"
"""Half of all ranks are below."""


class HoldOutError(ValueError):
    """The file of the hold-out is damaged; it is not made anew, for that would mix its sides."""


def grow_holdout(
    path: Path,
    case_ids: Sequence[str],
    pattern: str,
    share: float,
    known: Sequence[str] = (),
    bound: Sequence[str] = (),
) -> Split:
    """Assign patients that are new, and divide cases; ``validation`` are those held out.

    Which of several new patients are held out depends on their names alone.

    Args:
        path: the file, in the private folder of the studies; made if it is missing.
        case_ids: of all accepted labels.
        pattern: finds the patient in an id (see ``patient_of``); the same each time.
        share: of patients with a label to hold out; the number is rounded, and one alone trains.
            While that are fewer than ``FEWEST``, it is ``FEW_SHARE`` of them.
        known: cases that the base was trained on. Their patients are held out last: on them the
            base looks better than it is, and a good model might be refused.
        bound: cases without an accepted label that train nevertheless: their patients train from
            now on, unless they have a side.

    Raises:
        HoldOutError: if the file is damaged, or was made with another pattern.
    """
    with FileLock(path.with_name(f".{path.name}.lock")):
        sides = read_holdout(path, pattern)
        told = told_patients(path.parents[1])
        patients = {name: patient_of(name, pattern, told) for name in case_ids}
        present = {*patients.values()}
        trained = {patient_of(name, pattern, told) for name in known}
        new = sorted(present - {*sides}, key=lambda name: (name in trained, rank_of(name)))
        wanted = wanted_number(len(present), share)
        held = sum(sides.get(name) == HELD for name in present)
        missing = max(0, wanted - held)
        sides |= {name: HELD if index < missing else TRAINING for index, name in enumerate(new)}
        more = {patient_of(name, pattern, told) for name in bound} - {*sides}
        sides |= dict.fromkeys(more, TRAINING)
        if new or more:
            values = {"pattern": pattern, "patients": sides}
            write_text(path, json.dumps(values, indent=1, sort_keys=True) + "\n")
    return Split(
        tuple(_on(TRAINING, sides, patients, case_ids)), tuple(_on(HELD, sides, patients, case_ids))
    )


def wanted_number(patients: int, share: float) -> int:
    """Return how many of so many patients with a label are held out."""
    few = min(FEWEST, round(FEW_SHARE * patients))
    return min(max(round(share * patients), few), max(patients - 1, 0))


def may_train(case_id: str, path: Path, pattern: str) -> bool:
    """Tell whether a study may train before it has an accepted label.

    One of a patient that is held out may not; of patients without a side every second one may,
    and the others are left for the hold-out, which takes those first anyway.

    Raises:
        HoldOutError: as ``read_holdout``.
    """
    patient = patient_of(case_id, pattern, told_patients(path.parents[1]))
    side = read_holdout(path, pattern).get(patient)
    return side == TRAINING if side is not None else rank_of(patient) >= HALF


def read_holdout(path: Path, pattern: str | None = None) -> dict[str, str]:
    """Return the side of each patient, nothing where there is no file yet.

    Raises:
        HoldOutError: if the file is damaged, or was made with another pattern than the given.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        sides = dict(values["patients"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise HoldOutError(f"{path} does not say who is held out: {error!r}") from error
    made_with = values.get("pattern")
    if None not in (pattern, made_with) and quick(str(pattern)) != quick(str(made_with)):
        # A patient by another name would be a new one, and might change sides.
        raise HoldOutError(f"{path} tells patients apart by {made_with!r}, now by {pattern!r}")
    if not set(sides.values()) <= {TRAINING, HELD}:
        raise HoldOutError(f"{path} must say {TRAINING} or {HELD} of each patient, it is {sides}")
    return sides


def _on(
    side: str, sides: dict[str, str], patients: dict[str, str], case_ids: Sequence[str]
) -> Iterable[str]:
    return (name for name in sorted(case_ids) if sides[patients[name]] == side)
