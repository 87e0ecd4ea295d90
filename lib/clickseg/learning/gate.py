"""Whether a new model may be published: never if it is worse on the patients held out."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from clickseg.clicks import Click, Clicks
from clickseg.initial import Initial
from clickseg.metrics import dice, worst_decile
from clickseg.models import CorrectionModel
from clickseg.reader import next_click
from clickseg.study import Case, Study, read_case_label, read_study
from clickseg.volume import ImageError

logger = logging.getLogger(__name__)

Mask = NDArray[np.uint8]
Scores = dict[str, float]
"""Dice by case."""

ROUNDING = 1e-9
"""Means of the same numbers may differ by as much."""


@dataclass(frozen=True)
class Verdict:
    """What the gate found. ``before`` and ``after`` are mean and worst decile of the Dice.

    ``p``: of a paired Wilcoxon test, None where fewer than six cases differ.
    """

    is_better: bool
    reason: str
    cases: int
    before: tuple[float, float]
    after: tuple[float, float]
    p: float | None


def judge(before: Mapping[str, float], after: Mapping[str, float]) -> Verdict:
    """Compare two models case by case: neither the mean nor the worst decile may fall.

    Args:
        before: scores of the model that counts now.
        after: scores of the new one, of the same cases.

    Raises:
        ValueError: if the cases differ, or there are none.
    """
    if before.keys() != after.keys() or not before:
        raise ValueError(f"scores of the same cases were wanted, got {[*before]} and {[*after]}")
    pairs = np.array([(before[name], after[name]) for name in before])
    old, new = (_mean_and_worst(column) for column in pairs.T)
    gains = pairs[:, 1] - pairs[:, 0]
    changed = gains[gains != 0]
    p = float(wilcoxon(changed).pvalue) if len(changed) >= 6 else None
    what = [
        f"{name} Dice {a:.4f} -> {b:.4f}"
        for name, a, b in zip(("mean", "worst-decile"), old, new, strict=True)
    ]
    fell = [text for text, a, b in zip(what, old, new, strict=True) if b < a - ROUNDING]
    text = f"on {len(pairs)} held-out studies: {', '.join(what)}"
    reason = f"worse {text}" if fell else f"not worse {text}"
    return Verdict(not fell, reason, len(pairs), old, new, p)


def score_initial(initial: Callable[..., Initial], cases: Sequence[Case]) -> Scores:
    """Return the Dice of initial outlines; a case that cannot be read is left out."""
    return {case_id: dice(initial(study).mask, label) for case_id, study, label in _readable(cases)}


def score_correction(
    correction: CorrectionModel,
    initial: Callable[..., Initial],
    cases: Sequence[Case],
    clicks: int,
) -> Scores:
    """Return the mean Dice after 1, 2, ... clicks of the simulated reader, by case.

    Where nothing is wrong any more the reader stops, and the last Dice counts for what is left.
    """
    scores = {}
    for case_id, study, label in _readable(cases):
        start = initial(study).mask
        masks = (mask for _, mask in clicked(correction, study, start, label))
        curve = [dice(mask, label) for mask in itertools.islice(masks, clicks)]
        curve = curve or [dice(start, label)]
        scores[case_id] = float(np.mean(curve + curve[-1:] * (clicks - len(curve))))
    return scores


def clicked(
    correction: CorrectionModel, study: Study, start: Mask, label: Mask
) -> Iterator[tuple[Clicks, Mask]]:
    """Let the simulated reader click; yield all clicks so far, and the mended mask, after each.

    Ends where no voxel is wrong that was not clicked.
    """
    grid, mask = study.grid.canonical, start
    clicks: Clicks = ()
    while True:
        seen = [click.voxel(grid) for click in clicks]
        found = next_click(label, mask, grid.spacing_mm.tolist(), seen)
        if found is None:
            return
        clicks = (*clicks, Click.at(found[0], found[1], grid))
        mask = correction(study, start, clicks).mask
        yield clicks, mask


def _readable(cases: Sequence[Case]) -> Iterator[tuple[str, Study, Mask]]:
    """Read cases one by one; one that cannot be read is reported and left out."""
    for case in cases:
        try:
            study = read_study(case.t1ce, case.t2)
            label = read_case_label(case, study.grid)
        except ImageError as error:
            logger.warning("held-out case %s is left out: %s", case.case_id, error)
            continue
        yield case.case_id, study, label


def _mean_and_worst(scores: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(scores)), float(worst_decile(scores).mean())
