"""Labels for studies that wait: the outlines of the models that count now, for one round.

Each round begins from the base, and its labels from the outlines of the round before: iterative
label refinement. What readers said stays as it is: accepted labels are not touched, and around the
clicks of a study that is not accepted yet the outline stays what those clicks made of it. An
outline that the network itself doubts, or an empty one, teaches nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import expit

from clickseg.atomic import write_text
from clickseg.cache import Fingerprints
from clickseg.choosing.cached import content_of
from clickseg.clicks import Clicks
from clickseg.edges import SURE_LOGIT
from clickseg.geometry import Grid, ijk_to_ras
from clickseg.initial import Initial
from clickseg.journal import Journals
from clickseg.learning.settings import RefinedConfig
from clickseg.modelfile import code_version
from clickseg.models import Models
from clickseg.study import Case, read_case_label, read_study
from clickseg.volume import Volume, write_volume

logger = logging.getLogger(__name__)

LOOKED_AT = 3
"""Times as many studies as wanted are looked at, at most: most of many may be doubted."""


@dataclass(frozen=True)
class _Made:
    """What a refined label was made of, and how sure it is. ``clicks``: RAS mm, is foreground.

    ``initial``: version of the code, and hash of the initial model.
    Another correction model changes nothing: what clicks made with the one before stays.
    """

    initial: str
    content: str
    clicks: list[list[float]]
    radius_mm: float
    sure: float


def refined_cases(
    studies: Path,
    waiting: Sequence[Case],
    models: Models,
    folder: Path,
    config: RefinedConfig,
) -> list[Case]:
    """Return waiting studies with a refined label, those with clicks of readers first.

    Args:
        studies: folder of the studies, with the clicks of readers.
        waiting: cases without an accepted label, in the order in which they are tried.
        models: those that count now.
        folder: where the labels go; one that would be the same again is not made again.
        config: how many are wanted, and how sure they must be.

    Raises:
        OSError: if a label cannot be written.
    """
    journals = Journals(studies)
    clicks = {
        case.case_id: tuple(
            one.click for one in journals.read(case.case_id) if one.taken_back is None
        )
        for case in waiting
    }
    found: list[Case] = []
    ordered = sorted(waiting, key=lambda case: not clicks[case.case_id])
    for case in ordered[: LOOKED_AT * config.studies]:
        if len(found) == config.studies:
            break
        label = folder / f"{case.case_id}.nii.gz"
        try:
            sure = _refine(replace(case, label=label), clicks[case.case_id], models)
        except ValueError as error:  # of the image, or a click lies outside of one that is new
            logger.warning("study %s is left out: %s", case.case_id, error)
            continue
        if sure > 0 and sure >= config.sure:
            found.append(replace(case, label=label))
    return found


def expected_dice(first: Initial) -> float:
    """Return the Dice that an outline would have if its probabilities were right; 0 where empty.

    ``2 sum(p m) / (sum(p) + sum(m))``: the soft Dice of the outline with its probabilities. Where
    outlines follow edges these are limited, and the hundred thousands of voxels around would add
    up to more than a tumor: those at the limit count as 0 and 1.
    """
    mask = first.mask[first.box] > 0
    if not mask.any():
        return 0.0
    least = min(float(first.prob.min()), float(expit(-SURE_LOGIT)))
    prob = np.clip((first.prob - least) / (1 - 2 * least), 0, 1)
    return 2 * float(prob[mask].sum()) / float(prob.sum() + mask.sum())


def keep_around(
    mask: NDArray[np.uint8],
    earlier: NDArray[np.uint8],
    clicks: Clicks,
    grid: Grid,
    radius_mm: float,
) -> NDArray[np.uint8]:
    """Return a mask that is the earlier one wherever a click is within the radius.

    Args:
        mask: canonical ``(I, J, K)``.
        earlier: same shape.
        clicks: at least one.
        grid: of both, canonical.
        radius_mm: from voxel center to click.
    """
    places = np.argwhere(mask != earlier)
    points_ras = ijk_to_ras(places, grid.affine)
    apart_mm = cdist(points_ras, np.array([click.point_ras for click in clicks]))
    near = tuple(places[(apart_mm <= radius_mm).any(axis=1)].T)
    kept = mask.copy()
    kept[near] = earlier[near]
    return kept


def _refine(case: Case, clicks: Clicks, models: Models) -> float:
    """Make the refined label of a case unless it is there; return how sure it is."""
    assert case.label is not None
    told = case.label.with_name(f"{case.case_id}.json")
    said = [[*click.point_ras, float(click.is_foreground)] for click in clicks]
    content, known = content_of(case, Fingerprints()), _read(told)
    is_of_these = known is not None and (known.content, known.clicks) == (content, said)
    initial = f"{code_version()}/{models.hashes['initial']}"
    if known is not None and is_of_these and known.initial == initial and case.label.is_file():
        return known.sure
    study = read_study(case.t1ce, case.t2)
    first = models.initial(study)
    mask, radius_mm = first.mask, 0.0
    if clicks and known is not None and is_of_these and case.label.is_file():
        earlier, radius_mm = read_case_label(case, study.grid), known.radius_mm
        mask = keep_around(mask, earlier, clicks, study.grid.canonical, radius_mm)
    elif clicks:
        mended = models.correction(study, mask, clicks)
        mask, radius_mm = mended.mask, mended.radius_mm
    sure = round(expected_dice(first), 4) if mask.any() else 0.0
    told.unlink(missing_ok=True)  # between the two writes nothing says what the label is of
    write_volume(case.label, Volume(study.grid.to_stored(mask), study.grid))
    write_text(told, json.dumps(asdict(_Made(initial, content, said, radius_mm, sure))))
    return sure


def _read(path: Path) -> _Made | None:
    try:
        return _Made(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
