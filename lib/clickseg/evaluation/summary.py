"""From the readings of all studies to one table: means, worst decile, clicks needed, harm, p."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clickseg.evaluation.curves import area, clicks_to_reach, harmful, iterative_iou_error
from clickseg.evaluation.signed_rank import signed_rank_p
from clickseg.metrics import worst_decile

REACH = (0.85, 0.90, 0.95)
OURS = "ours"
COMPARED = (0, 1, 3, 5, 10)
"""After so many clicks methods are compared."""

Result = dict[str, Any]
Row = dict[str, Any]


def summarize(results: Sequence[Result], clicks: int) -> dict[str, Any]:
    """Sum up results of one plan, all methods on the same studies.

    Dice and what follows from it are over studies with a tumor; false positives over those without.
    A study whose reader found nothing wrong any more keeps its last score. A Dice that was never
    reached counts as ``clicks`` clicks in ``noc``, and one failure in ``nof``. HD95 is over masks
    that are not empty; ``empty`` counts the others, before the first and after the last click.
    """
    methods = {name: _summarize(items, clicks) for name, items in by_method(results).items()}
    rows = by_study(results, clicks)
    for name in rows:
        if OURS in rows and name != OURS:
            methods[name]["p_against_ours"] = compare(rows[OURS], rows[name], clicks)
    studies = len({result["study"] for result in results})
    return {"studies": studies, "clicks": clicks, "methods": methods}


def by_method(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Divide results by their method, in the order in which methods come."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result["method"], []).append(result)
    return found


def curve(result: Result, key: str, clicks: int) -> list[float]:
    """Return a score after 0, 1, ... clicks; after the last click it stays."""
    values = [float(scores[key]) for scores in result["scores"]]
    return values + [values[-1]] * (clicks + 1 - len(values))


def by_study(results: Sequence[Result], clicks: int) -> dict[str, dict[str, Row]]:
    """Return by method and study with a tumor what ``compare`` computes p from.

    ``dice`` after 0, 1, ... clicks, to four digits; ``clicks_to`` reach a Dice, None if never;
    ``harm``: how many clicks made Dice fall.
    """
    rows: dict[str, dict[str, Row]] = {}
    for name, items in by_method(results).items():
        rows[name] = {}
        for result in items:
            if result["label_ml"] > 0:
                dice = curve(result, "dice", clicks)
                rows[name][result["study"]] = {
                    "dice": [_rounded(value) for value in dice],
                    "clicks_to": {
                        f"{wanted:.2f}": clicks_to_reach(dice, wanted) for wanted in REACH
                    },
                    "harm": harmful(dice),
                }
    return rows


def compare(ours: dict[str, Row], other: dict[str, Row], clicks: int) -> dict[str, Any]:
    """Return two-sided p of paired Wilcoxon tests: Dice after some clicks, and clicks to 0.95.

    ``pairs`` is how many; ``same_start`` whether both began with masks of the same Dice, to four
    digits. Several tests are made of one comparison: p is not corrected for that.

    Args:
        ours: one method of ``by_study``.
        other: another one; studies that only one of them has do not count.
        clicks: how many a study had at most; a Dice that was never reached counts as so many.
    """
    pairs = [(row, other[study]) for study, row in ours.items() if study in other]
    p: dict[str, Any] = {
        "pairs": len(pairs),
        "same_start": all(a["dice"][0] == b["dice"][0] for a, b in pairs),
    }
    for count in (n for n in COMPARED if n <= clicks):
        p[f"dice_after_{count}"] = _p([a["dice"][count] - b["dice"][count] for a, b in pairs])
    key = f"{REACH[-1]:.2f}"
    needed = [[_counted(row["clicks_to"][key], clicks) for row in pair] for pair in pairs]
    return p | {f"noc_{key}": _p([a - b for a, b in needed])}


def _summarize(results: Sequence[Result], clicks: int) -> dict[str, Any]:
    with_tumor = [result for result in results if result["label_ml"] > 0]
    without = [result for result in results if result["label_ml"] == 0]
    summary: dict[str, Any] = {
        "tumor_studies": len(with_tumor),
        "changed_outside": sum(sum(result["changed_outside"]) for result in results),
        "disobeyed": sum(result["disobeyed"] for result in results),
    }
    if with_tumor:
        summary |= _of_tumors(with_tumor, clicks)
    if without:
        found = [result["scores"][0]["volume_error_ml"] for result in without]
        summary["tumor_free"] = {
            "studies": len(without),
            "with_false_positive": int(np.count_nonzero(found)),
            "false_positive_ml": _rounded(float(np.mean(found))),
        }
    return summary


def _of_tumors(results: Sequence[Result], clicks: int) -> dict[str, Any]:
    dices = np.array([curve(result, "dice", clicks) for result in results])
    ious = [curve(result, "iou", clicks) for result in results]
    made = sum(len(result["clicks"]) for result in results)
    harm = sum(harmful([scores["dice"] for scores in result["scores"]]) for result in results)
    return {
        "dice": _means(dices),
        "worst_decile": _means(worst_decile(dices)),
        "noc": {
            f"{wanted:.2f}": _rounded(
                float(np.mean([_counted(clicks_to_reach(row, wanted), clicks) for row in dices]))
            )
            for wanted in REACH
        },
        "nof": {
            f"{wanted:.2f}": sum(clicks_to_reach(row, wanted) is None for row in dices)
            for wanted in REACH
        },
        "auc": _rounded(float(np.mean([area(row) for row in dices]))),
        "iterative_iou_error": _rounded(float(np.mean([iterative_iou_error(row) for row in ious]))),
        "harm_rate": _rounded(harm / made) if made else 0.0,
        "empty": [
            sum(result["scores"][n]["precision"] is None for result in results) for n in (0, -1)
        ],
        "click_ms": _median([ms for result in results for ms in result["click_ms"]]),
        **{
            key: [_mean_of(results, key, n, clicks) for n in (0, clicks)]
            for key in ("hd95_mm", "surface_dice", "precision", "recall")
        },
        **{
            key: [_mean_of(results, key, n, clicks, absolute=True) for n in (0, clicks)]
            for key in ("volume_error_ml", "volume_error_share", "diameter_error_mm")
        },
    }


def _mean_of(
    results: Sequence[Result], key: str, count: int, clicks: int, absolute: bool = False
) -> float | None:
    """Return the mean of a score after so many clicks, where it has a meaning."""
    values = []
    for result in results:
        scores = result["scores"]
        value = scores[min(count, clicks, len(scores) - 1)][key]
        if value is not None and math.isfinite(value):
            values.append(abs(value) if absolute else value)
    return _rounded(float(np.mean(values))) if values else None


def _counted(reached: int | None, clicks: int) -> int:
    return clicks if reached is None else reached


def _p(differences: Sequence[float]) -> float | None:
    """Return p to three digits; Dice has four, and what a float adds beyond would break ties."""
    p = signed_rank_p(np.round(differences, 4))
    return None if p is None else float(f"{p:.3g}")


def _means(rows: NDArray[np.float64]) -> list[float]:
    return [_rounded(float(value)) for value in rows.mean(axis=0)]


def _median(values: Sequence[float]) -> float | None:
    return _rounded(float(np.median(values))) if values else None


def _rounded(value: float) -> float:
    return round(value, 4)
