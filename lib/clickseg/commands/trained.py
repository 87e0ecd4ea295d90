"""Was a method trained on what it is asked about? Then its figures flatter it."""

from __future__ import annotations

from collections.abc import Sequence

from clickseg.modelfile import Manifest
from clickseg.study import Case
from clickseg.training.split import patient_of, told_of

WHOLE_ID = "^.*$"


def count_trained_on(manifests: Sequence[Manifest], cases: Sequence[Case]) -> int:
    """Return how many cases are of patients that some of these networks were trained on.

    Where a recipe does not say how patients are told apart, the same id is the same patient.
    """
    told, seen = told_of(cases), set()
    for manifest in manifests:
        pattern = manifest.recipe.get("split", {}).get("patient", WHOLE_ID)
        ids = manifest.data.get("training", [])
        trained = {patient_of(case_id, pattern, told) for case_id in ids}
        seen |= {
            case.case_id for case in cases if patient_of(case.case_id, pattern, told) in trained
        }
    return len(seen)
