"""One study for the page: looked at, measured, drawn, and let go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clickseg.drawing import draw_largest_slice
from clickseg.report.measure import Measurement, measure
from clickseg.report.origin import Origin, origin_of
from clickseg.study import Case, Study, read_case_label, read_study, told_alike
from clickseg.volume import find_image

MODEL_FOLDER = "labels/original"
"""Where the server stores outlines that no reader has accepted."""

UNUSABLE = (OSError, ValueError, MemoryError, RuntimeError)
"""What one study may fail with: ImageError is a ValueError, SimpleITK and torch raise RuntimeError
where there is no memory."""

Mask = NDArray[np.uint8]
Outliner = Callable[[Study], Mask]
"""Makes a canonical mask of a study."""


class State(StrEnum):
    """How far a study is."""

    ACCEPTED = "accepted"
    MODEL = "outlined only by the model"
    WAITING = "waiting"
    UNREADABLE = "cannot be read"


@dataclass(frozen=True)
class StudyReport:
    """What the page says of a study. ``reason`` says why it cannot be read.

    ``pictures`` are PNG files by the name of the sequence; ``origin`` is of an accepted label.
    ``date`` is date and time of the visit as DICOM writes them, if a PACS tells them.
    """

    case_id: str
    state: State
    has_t2: bool
    reason: str = ""
    t2_fault: str = ""
    measurement: Measurement | None = None
    origin: Origin | None = None
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    date: str = ""


def describe(
    case: Case, studies: Path, index: Mapping[str, Any], outline: Outliner | None = None
) -> StudyReport:
    """Look at one study; what cannot be read is told, not raised.

    Args:
        case: where its files are.
        studies: the folder of studies.
        index: as ``read_index`` returned it.
        outline: outlines what has no outline yet, for the page alone.
    """
    origin = None if case.label is None else origin_of(studies, index, case.case_id, case.label)
    try:
        study, t2_fault = _read(case)
        state, mask = _outline_of(case, study, studies, outline)
        return StudyReport(
            case.case_id,
            state,
            case.t2 is not None,
            t2_fault=t2_fault,
            measurement=None if mask is None else measure(mask, study.grid.canonical),
            origin=origin,
            pictures={} if mask is None else draw_largest_slice(study, mask),
        )
    except UNUSABLE as error:
        return StudyReport(
            case.case_id, State.UNREADABLE, case.t2 is not None, _told(error), origin=origin
        )


def describe_alike(cases: Sequence[Case]) -> StudyReport:
    """Tell of cases that share an id; which of them an outline belongs to is not known."""
    has_t2 = cases[0].t2 is not None
    return StudyReport(cases[0].case_id, State.UNREADABLE, has_t2, told_alike(cases))


def _read(case: Case) -> tuple[Study, str]:
    """Read a study, without its T2 if that cannot be used, and say why it cannot."""
    try:
        return read_study(case.t1ce, case.t2), ""
    except UNUSABLE as error:
        if case.t2 is None:
            raise
        reason = _told(error)
    return read_study(case.t1ce), reason


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__


def _outline_of(
    case: Case, study: Study, studies: Path, outline: Outliner | None
) -> tuple[State, Mask | None]:
    if case.label is not None:
        return State.ACCEPTED, read_case_label(case, study.grid)
    made = find_image(studies / MODEL_FOLDER, case.case_id)
    if made is not None:
        return State.MODEL, read_case_label(replace(case, label=made), study.grid)
    if outline is not None:
        return State.MODEL, outline(study)
    return State.WAITING, None
