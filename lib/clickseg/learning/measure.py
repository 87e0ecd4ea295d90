"""The Dice of models on labeled studies; each study is read once, and what is known is kept.

A score depends on the weights, the clicks and the files of the study alone, so the score of a model
that was measured before need not be computed again.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clickseg.atomic import write_text
from clickseg.cache import Fingerprints
from clickseg.choosing.cached import content_of
from clickseg.clicking import clicking
from clickseg.correction.local import Memo
from clickseg.metrics import dice
from clickseg.modelfile import code_version
from clickseg.models import Models
from clickseg.study import Case, Study, read_case_label, read_study
from clickseg.volume import ImageError

logger = logging.getLogger(__name__)

Scores = dict[str, float]
"""Dice by case."""


@dataclass(frozen=True)
class Measure:
    """What is measured: the initial outlines, or what ``clicks`` clicks make of them.

    With clicks it is the mean Dice after 1, 2, ... of them. Where nothing is wrong any more the
    simulated reader stops, and the last Dice counts for what is left.
    """

    models: Models
    clicks: int = 0

    @property
    def key(self) -> str:
        """Name all that a score depends on, but for the study."""
        hashes = [self.models.hashes["initial"]]
        hashes += [self.models.hashes["correction"], str(self.clicks)] if self.clicks else []
        return "/".join([code_version(), *hashes])

    def score(self, study: Study, start: NDArray[np.uint8], label: NDArray[np.uint8]) -> float:
        """Return the Dice of a study whose initial outline is ``start``."""
        if not self.clicks:
            return dice(start, label)
        memo: Memo = {}
        answers = clicking(
            label, start, study.grid.canonical,
            lambda made: self.models.correction(study, start, made, memo).mask,
        )  # fmt: skip
        curve = [dice(mask, label) for _, mask in itertools.islice(answers, self.clicks)]
        curve = curve or [dice(start, label)]
        return float(np.mean(curve + curve[-1:] * (self.clicks - len(curve))))


def measure(wanted: Sequence[Measure], cases: Sequence[Case], kept: Path) -> list[Scores]:
    """Return the scores of each measure; a case that cannot be read is reported and left out.

    Args:
        wanted: what is measured.
        cases: labeled studies.
        kept: file of the scores of the last call; those of this one take their place. What cannot
            be read counts as none.

    Raises:
        OSError: if the file cannot be written.
    """
    known, fingerprint = _read(kept), Fingerprints()
    found: list[Scores] = [{} for _ in wanted]
    used: Scores = {}
    for case in cases:
        try:
            content = f"{content_of(case, fingerprint)}+{fingerprint(case.label or case.t1ce)}"
            keys = [f"{one.key}/{content}" for one in wanted]
            values = _scores_of(case, wanted, [known.get(key) for key in keys])
        except ImageError as error:
            logger.warning("held-out case %s is left out: %s", case.case_id, error)
            continue
        for scores, key, value in zip(found, keys, values, strict=True):
            scores[case.case_id] = used[key] = value
    write_text(kept, json.dumps(used, indent=1) + "\n")
    return found


def _scores_of(
    case: Case, wanted: Sequence[Measure], values: Sequence[float | None]
) -> list[float]:
    """Fill in what is not known yet; the study is read, and each initial model asked, once."""
    known = [value for value in values if value is not None]
    if len(known) == len(wanted):
        return known
    study = read_study(case.t1ce, case.t2)
    label = read_case_label(case, study.grid)
    starts: dict[int, NDArray[np.uint8]] = {}
    filled = []
    for one, value in zip(wanted, values, strict=True):
        if value is None:
            initial = one.models.initial
            if id(initial) not in starts:
                starts[id(initial)] = initial(study).mask
            value = one.score(study, starts[id(initial)], label)
        filled.append(value)
    return filled


def _read(path: Path) -> Scores:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
