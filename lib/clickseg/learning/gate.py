"""Whether a new model may be published: not if it is worse on the patients held out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import wilcoxon

from clickseg.metrics import HARM, worst_decile

MISSED = 0.05
"""An outline of less Dice lies beside the tumor: all of them count as none."""

ROUNDING = 1e-9
"""Means of the same numbers may differ by as much."""


@dataclass(frozen=True)
class Verdict:
    """What the gate found. ``before`` and ``after`` are mean and worst decile of the Dice.

    ``p``: of a paired Wilcoxon test, None where fewer than six cases differ. ``false_outlines``:
    how many tumor-free cases get an outline by the old model, and by the new one.
    """

    is_better: bool
    reason: str
    cases: int
    before: tuple[float, float]
    after: tuple[float, float]
    p: float | None
    false_outlines: tuple[int, int]


def judge(
    before: Mapping[str, float], after: Mapping[str, float], tumor_free: Collection[str] = ()
) -> Verdict:
    """Compare two models case by case: neither the mean nor the worst decile may fall.

    A worst decile of a single case changes a little with every training: it may fall by what is no
    harm after a click (``HARM``) where the mean rises by more than that. Where both models find
    nothing of any case nothing could fall: that is no reason to publish. Cases without a tumor
    count apart, since whoever finds nothing anywhere is perfect on them: no more of them than
    before may have an outline.

    Args:
        before: scores of the model that counts now.
        after: scores of the new one, of the same cases.
        tumor_free: those of the cases that have no tumor.

    Raises:
        ValueError: if the cases differ, or none has a tumor.
    """
    names = [name for name in before if name not in tumor_free]
    if before.keys() != after.keys():
        raise ValueError(f"scores of the same cases were wanted, got {[*before]} and {[*after]}")
    if not names:
        raise ValueError(f"a case with a tumor was wanted, none of {[*before]} has one")
    free = before.keys() - set(names)
    old_false, new_false = (sum(scores[name] < 1 for name in free) for scores in (before, after))
    pairs = np.array([(before[name], after[name]) for name in names])
    pairs[pairs < MISSED] = 0.0
    old, new = (_mean_and_worst(column) for column in pairs.T)
    gains = pairs[:, 1] - pairs[:, 0]
    changed = gains[gains != 0]
    p = float(wilcoxon(changed).pvalue) if len(changed) >= 6 else None
    what = [
        f"{name} Dice {a:.4f} -> {b:.4f}"
        for name, a, b in zip(("mean", "worst-decile"), old, new, strict=True)
    ]
    mean, worst = (b - a for a, b in zip(old, new, strict=True))
    is_one = len(worst_decile(pairs)) == 1
    allowed = HARM if is_one and mean > HARM + ROUNDING else 0.0
    has_fallen = mean < -ROUNDING or worst < -allowed - ROUNDING or new_false > old_false
    is_blind = not pairs.any()
    how = "cannot be told from the old one" if is_blind else "worse" if has_fallen else "not worse"
    if free:
        what.append(f"outlines in {len(free)} without a tumor {old_false} -> {new_false}")
    reason = f"{how} on {len(pairs)} held-out studies: {', '.join(what)}"
    is_better, false = not has_fallen and not is_blind, (old_false, new_false)
    return Verdict(is_better, reason, len(pairs), old, new, p, false)


def _mean_and_worst(scores: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(scores)), float(worst_decile(scores).mean())
