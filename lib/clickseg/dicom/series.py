"""Which series of a study is the T1ce and which the T2, by the rules in ``series-rules.yaml``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from clickseg.dicom.planes import Plane, is_enhanced, planes_of
from clickseg.dicom.rules import (
    Evidence,
    Patterns,
    Preference,
    Range,
    Refusal,
    RoleRules,
    SeriesRules,
)
from clickseg.volume import ImageError

ALIKE = 1.05
"""Voxels whose sizes differ by less than this factor are of one resolution."""

_PLANES = ("sagittal", "coronal", "axial")
"""What a slice is called whose normal lies along R, A and S."""


@dataclass(frozen=True, kw_only=True)
class SeriesFacts:
    """What a series says of itself; None, 0 or an empty text where it does not.

    ``spacing_mm`` is the voxel size along columns, rows and slices. ``orientation`` is axial,
    coronal or sagittal, whichever is closest, or ``mixed`` where slices differ, as a localizer's.
    """

    uid: str
    modality: str
    description: str
    sequence_name: str
    contrast_agent: str
    echo_time_ms: float | None
    repetition_time_ms: float | None
    rows: int
    columns: int
    slices: int
    spacing_mm: tuple[float, float, float] | None
    slice_thickness_mm: float | None
    orientation: str
    image_type: tuple[str, ...]
    frame_of_reference_uid: str
    is_parted: bool = False
    """Whether it is of several files of many slices, of which no SEG can be made."""

    def __str__(self) -> str:
        """Return how a series is named in messages: by its description, slices and UID."""
        return f"{self.description or 'without description'} ({self.slices} slices, {self.uid})"


@dataclass(frozen=True)
class Pair:
    """The two series of a study that belong together; ``t2`` is None where there is none."""

    t1ce: SeriesFacts
    t2: SeriesFacts | None


def facts_of(headers: Sequence[Dataset], slices: int | None = None) -> SeriesFacts:
    """Gather what a series says of itself.

    Args:
        headers: at least one of its files; the first one speaks for all where they should agree.
        slices: how many slices it has, where ``headers`` are but some of its files.
    """
    first = headers[0]
    said, planes = _holders(first), _planes(headers)
    # Some of the slices alone do not say how far neighbors lie apart; one says it of itself.
    spacing_mm = _spacing_mm(planes if slices is None else planes[:1])
    kind = first.get("ImageType") or []
    return SeriesFacts(
        uid=str(first.get("SeriesInstanceUID", "")),
        modality=str(first.get("Modality", "")),
        description=str(first.get("SeriesDescription") or first.get("ProtocolName") or ""),
        sequence_name=str(first.get("SequenceName") or first.get("PulseSequenceName") or ""),
        contrast_agent=_agent(first),
        echo_time_ms=_number(said, "EchoTime", "EffectiveEchoTime"),
        repetition_time_ms=_number(said, "RepetitionTime"),
        rows=int(first.get("Rows") or 0),
        columns=int(first.get("Columns") or 0),
        slices=slices or sum(int(header.get("NumberOfFrames") or 1) for header in headers),
        spacing_mm=spacing_mm,
        slice_thickness_mm=_number(said, "SliceThickness"),
        orientation=_orientation(planes),
        image_type=(str(kind),) if isinstance(kind, str) else tuple(str(part) for part in kind),
        frame_of_reference_uid=str(first.get("FrameOfReferenceUID", "")),
        is_parted=is_enhanced(first) and (len(headers) > 1 or slices is not None),
    )


def find_pair(series: Sequence[SeriesFacts], rules: SeriesRules) -> Pair:
    """Find the T1ce and the T2 of a study.

    Raises:
        ImageError: if there is no T1ce, or several series may be it or the T2; it names them.
    """
    able = [facts for facts in series if _is_able(facts, rules)]
    t1ce = _find("T1ce", able, rules.t1ce, rules, "")
    if t1ce is None:
        told = "; ".join(str(facts) for facts in series) or "none at all"
        raise ImageError(f"a series that is a T1ce was wanted, the study has: {told}")
    others = [facts for facts in able if facts is not t1ce]
    return Pair(t1ce, _find("T2", others, rules.t2, rules, t1ce.frame_of_reference_uid))


def _is_able(facts: SeriesFacts, rules: SeriesRules) -> bool:
    """Tell whether a series can be one of the two at all."""
    return (
        facts.modality in rules.modalities
        and facts.slices >= rules.smallest_slices
        and facts.orientation != "mixed"
        and not _is_refused(facts, rules.refuse)
    )


def _find(
    what: str, able: Sequence[SeriesFacts], role: RoleRules, rules: SeriesRules, frame_uid: str
) -> SeriesFacts | None:
    left = [
        facts
        for facts in able
        if not _is_refused(facts, role.refuse)
        and (role.contrast == "any" or not _denies_contrast(facts, rules))
    ]
    by_evidence = ([f for f in left if _fits(f, item, rules)] for item in role.evidence)
    found = next((candidates for candidates in by_evidence if candidates), [])
    for preference in role.prefer:
        if preference == "resolution":
            kept = _finest(found)
        else:
            kept = [facts for facts in found if _holds(preference, facts, rules, frame_uid)]
        found = kept or found
    if len(found) > 1:
        told = "; ".join(str(facts) for facts in found)
        raise ImageError(f"one series that is the {what} was wanted, {len(found)} may be: {told}")
    return found[0] if found else None


def _fits(facts: SeriesFacts, item: Evidence, rules: SeriesRules) -> bool:
    return (
        (item.description is None or _says(facts.description, item.description))
        and (item.sequence_name is None or _says(facts.sequence_name, item.sequence_name))
        and (item.contrast is None or _says_contrast(facts, rules))
        and _is_within(facts.echo_time_ms, item.echo_time_ms)
        and _is_within(facts.repetition_time_ms, item.repetition_time_ms)
    )


def _is_within(value: float | None, limits: Range | None) -> bool:
    return limits is None or (value is not None and limits[0] <= value <= limits[1])


def _is_refused(facts: SeriesFacts, refusal: Refusal) -> bool:
    return _says(facts.description, refusal.description) or _says(
        facts.sequence_name, refusal.sequence_name
    )


def _says(text: str, patterns: Patterns) -> bool:
    plain = re.sub(r"[\s_./\\-]+", " ", text)
    return any(pattern.search(plain) for pattern in patterns)


def _denies_contrast(facts: SeriesFacts, rules: SeriesRules) -> bool:
    return _says(facts.description, rules.no_contrast)


def _says_contrast(facts: SeriesFacts, rules: SeriesRules) -> bool:
    has_agent = not _says(facts.contrast_agent, rules.no_agent)
    return has_agent or _says(facts.description, rules.contrast)


def _holds(preference: Preference, facts: SeriesFacts, rules: SeriesRules, frame_uid: str) -> bool:
    """Tell whether a series is what a preference, other than resolution, keeps."""
    if preference == "contrast":
        return _says_contrast(facts, rules)
    if preference == "frame_of_reference":
        return facts.frame_of_reference_uid == frame_uid
    derived = {"DERIVED", "SECONDARY", "MPR", "REFORMATTED"} & set(facts.image_type)
    return not derived and not _says(facts.description, rules.reformat)


def _finest(found: Sequence[SeriesFacts]) -> list[SeriesFacts]:
    """Keep the shortest longest edges, then the smallest voxels; not the unknown."""
    known = [(facts, facts.spacing_mm) for facts in found if facts.spacing_mm is not None]
    for size_of in (max, np.prod):
        sizes = [float(size_of(spacing_mm)) for _, spacing_mm in known]
        known = [k for k, size in zip(known, sizes, strict=True) if size <= min(sizes) * ALIKE]
    return [facts for facts, _ in known]


def _holders(header: Dataset) -> list[Dataset]:
    """Return what may hold an attribute: a file, and what an enhanced one says of its frames.

    The first frame speaks for all.
    """
    shared = header.get("SharedFunctionalGroupsSequence") or []
    frames = header.get("PerFrameFunctionalGroupsSequence") or []
    elements = (element for group in (*shared[:1], *frames[:1]) for element in group)
    return [
        header,
        *(element.value[0] for element in elements if element.VR == "SQ" and element.value),
    ]


def _number(holders: Sequence[Dataset], *names: str) -> float | None:
    for holder in holders:
        for name in names:
            try:
                return float(holder[name].value)
            except (KeyError, TypeError, ValueError):
                continue
    return None


def _agent(header: Dataset) -> str:
    """Return the contrast agent; enhanced files have a code for it."""
    codes = header.get("ContrastBolusAgentSequence") or [Dataset()]
    return str(header.get("ContrastBolusAgent") or codes[0].get("CodeMeaning") or "")


def _planes(headers: Sequence[Dataset]) -> list[Plane]:
    try:
        return [plane for header in headers for plane in planes_of(header)]
    except ImageError:
        return []


def _spacing_mm(planes: Sequence[Plane]) -> tuple[float, float, float] | None:
    if not planes:
        return None
    first = planes[0]
    heights = np.unique([(plane.corner_ras @ first.normal_ras).round(3) for plane in planes])
    between_mm = float(np.median(np.diff(heights))) if len(heights) > 1 else first.thickness_mm
    return float(first.spacing_mm[0]), float(first.spacing_mm[1]), between_mm


def _orientation(planes: Sequence[Plane]) -> str:
    names = {_PLANES[int(np.abs(plane.normal_ras).argmax())] for plane in planes}
    return names.pop() if len(names) == 1 else "mixed" if names else ""
