"""What a pair of models says about a study that no reader has seen: three numbers of use."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import entr

from clickseg.boxes import bounding_box
from clickseg.choosing.features import tumor_feature
from clickseg.choosing.looks import Looked, look_again
from clickseg.clicks import Click, Voxel
from clickseg.initial import Initial
from clickseg.metrics import dice
from clickseg.models import Models
from clickseg.study import Study

DIGITS = 5
"""Scores are rounded to so many: more would make files longer and no order better."""


@dataclass(frozen=True)
class StudyScores:
    """What a pair of models says about a study.

    ``uncertainty``: mean entropy in bits in the tumor region, 0 (sure) to 1. ``disagreement``:
    0 (the correction network leaves the initial outline as it is) to 1. Both are 1 where no tumor
    was found. ``feature``: see ``tumor_feature``; None where there is none.
    """

    uncertainty: float
    disagreement: float
    feature: tuple[float, ...] | None


def score_study(models: Models, study: Study) -> StudyScores:
    """Compute the scores of a study; the same models and study give the same scores.

    A study in which no tumor is found has either none or was missed altogether, which is the
    largest mistake there is: it gets 1, and no feature.
    """
    first = models.initial(study)
    looked = look_again(models.initial, study, first)
    if looked is None:
        return StudyScores(1.0, 1.0, None)
    changed = round(disagreement(models, study, first), DIGITS)
    vector = tumor_feature(models.initial, study, looked.region_in(first.mask.shape))
    feature = None if vector is None else tuple(round(float(x), DIGITS) for x in vector)
    return StudyScores(round(uncertainty(looked), DIGITS), changed, feature)


def uncertainty(looked: Looked) -> float:
    """Return the mean entropy of the mean probability in the tumor region, in bits.

    The rest of the head is left out: it is clear and large, and would only tell how large the
    head is. The smaller a tumor, the more of its region is border, and so its mean is higher;
    that is meant, for small tumors are outlined worst.
    """
    prob = looked.prob[looked.region].astype(np.float64)
    return float(np.mean(entr(prob) + entr(1 - prob)) / math.log(2))


def disagreement(models: Models, study: Study, first: Initial) -> float:
    """Return how far one click is expected to change the initial outline: 1 - Dice.

    A correction network speaks only where there is a click, and no reader is there to make one.
    The click goes where it would tell most: to the most uncertain voxel of the initial outline.
    What the reader would say there is not known, so both kinds are tried, each weighing as much
    as the initial network thinks it likely: ``p * (1 - Dice(outline, with a foreground click)) +
    (1 - p) * (1 - Dice(outline, with a background click))``. Two networks that agree about the
    border move it little, whatever the click says. It is the expected change of the output
    (Käding et al. 2016, "Active and continuous exploration with deep neural networks and expected
    model output changes", arXiv:1612.06129), of the outline in place of the model.

    Where nothing is uncertain, one foreground click is made at the innermost voxel of the outline,
    which is as good as certain: what the correction network then adds is its own opinion. Where
    there is no outline either, there is nothing to ask about: 1.

    Args:
        models: the pair.
        study: the study.
        first: what the initial model of the pair answered.
    """
    voxel_ijk = first.uncertain_ijk
    if voxel_ijk is not None:
        p = _prob_at(first, voxel_ijk)
        kinds = [(True, p), (False, 1 - p)]
    else:
        voxel_ijk = _innermost(first.mask, study.grid.canonical.spacing_mm)
        kinds = [(True, 1.0)]
    if voxel_ijk is None:
        return 1.0
    change = 0.0
    for is_foreground, weight in kinds:
        click = Click.at(voxel_ijk, is_foreground, study.grid.canonical)
        mended = models.correction(study, first.mask, (click,)).mask
        change += weight * (1 - dice(first.mask, mended))
    return change


def _prob_at(first: Initial, voxel_ijk: Voxel) -> float:
    """Return the probability of tumor at a voxel; of the mask where none was kept."""
    within = [value - side.start for value, side in zip(voxel_ijk, first.box, strict=True)]
    inside = all(0 <= n < size for n, size in zip(within, first.prob.shape, strict=True))
    return float(first.prob[tuple(within)] if inside else first.mask[voxel_ijk])


def _innermost(mask: NDArray[np.uint8], spacing_mm: NDArray[np.float64]) -> Voxel | None:
    """Return the voxel of a mask that is farthest from its border, or None if it is empty."""
    box = bounding_box(mask)
    if box is None:
        return None
    padded = np.pad(mask[box] > 0, 1)  # the border of the image is a border, too
    depth_mm = ndimage.distance_transform_edt(padded, sampling=spacing_mm)
    place = np.unravel_index(int(depth_mm.argmax()), padded.shape)
    i, j, k = (int(n) - 1 + side.start for n, side in zip(place, box, strict=True))
    return i, j, k
