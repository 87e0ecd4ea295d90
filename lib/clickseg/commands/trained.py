"""Was a method trained on what it is asked about? Then its figures flatter it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clickseg.evaluation.methods import manifests_of
from clickseg.study import Case
from clickseg.training.split import patient_of, told_of


def count_trained_on(name: str, folder: Path, cases: Sequence[Case]) -> int:
    """Return how many cases are of patients that the networks of a method were trained on."""
    told, seen = told_of(cases), set()
    for manifest in manifests_of(name, folder):
        if ids := manifest.data.get("training"):
            pattern = manifest.recipe["split"]["patient"]
            trained = {patient_of(case_id, pattern) for case_id in ids}
            seen |= {
                case.case_id for case in cases if patient_of(case.case_id, pattern, told) in trained
            }
    return len(seen)
