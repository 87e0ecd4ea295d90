"""What a DICOM SEG says of itself: which segment is the tumor, and which of several is the newest.

SNOMED CT codes: the segment is a morphologically abnormal structure (49755003) of type neoplasm
(108369006), modified to vestibular schwannoma (126949007).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.valuerep import DT

from clickseg.volume import ImageError

CATEGORY = Code("49755003", "SCT", "Morphologically Abnormal Structure")
NEOPLASM = Code("108369006", "SCT", "Neoplasm")
SCHWANNOMA = Code("126949007", "SCT", "Vestibular schwannoma")

WHEN = "%Y%m%d%H%M%S.%f"
"""How a time is written, so that the later of two is the greater text."""

_NAMES = re.compile(r"schwann|neuroma|neurinoma|tumou?r|neoplasm|\bVS\b", re.IGNORECASE)
"""What other programs call the segment."""


def says_tumor(dataset: Dataset) -> bool:
    """Tell whether a SEG says, by code or by name, that it shows a tumor, and not anything else."""
    return any(
        _codes_of(segment) & {SCHWANNOMA.value, NEOPLASM.value} or _NAMES.search(_name(segment))
        for segment in dataset.get("SegmentSequence", [])
    )


def tumor_of(dataset: Dataset) -> int:
    """Return the number of the segment that is the tumor: by code, by name, or the only one."""
    kind = dataset.get("SegmentationType")
    if dataset.get("Modality") != "SEG" or kind not in ("BINARY", "FRACTIONAL"):
        raise ImageError(
            f"a binary or fractional SEG was wanted, got {dataset.get('Modality')} {kind or ''}"
        )
    segments = list(dataset.get("SegmentSequence", []))
    by_code = [item for item in segments if _codes_of(item) & {SCHWANNOMA.value}] or [
        item for item in segments if _codes_of(item) & {NEOPLASM.value}
    ]
    for found in (by_code, [s for s in by_code or segments if _NAMES.search(_name(s))], segments):
        if len(found) == 1:
            return int(found[0].SegmentNumber)
    told = ", ".join(_name(segment) for segment in segments) or "none"
    raise ImageError(f"one segment that is the tumor was wanted, the SEG has: {told}")


def made_last(segs: Sequence[Dataset]) -> list[Dataset]:
    """Return the SEG that was made last, of those that say tumor if any does; all if several were.

    Args:
        segs: at least one, as those of a series; headers do.
    """
    of_tumor = [seg for seg in segs if says_tumor(seg)] or segs
    last = max(made_when(seg) for seg in of_tumor)
    return [seg for seg in of_tumor if made_when(seg) == last]


def made_when(seg: Dataset) -> str:
    """Return when a SEG was made, in UTC as ``WHEN``: its content, else its series.

    A SEG that does not say its zone is taken to be of this machine's. Empty where it says nothing,
    and what it says where that is no time.
    """
    for of in ("Content", "Series", "InstanceCreation", "Study"):
        if seg.get(f"{of}Date"):
            said = f"{seg[f'{of}Date'].value}{seg.get(f'{of}Time') or ''}"
            zone = "" if zone_of(seg) is None else seg.TimezoneOffsetFromUTC
            try:
                return DT(f"{said}{zone}").astimezone(UTC).strftime(WHEN)
            except (ValueError, OverflowError):
                return said
    return ""


def zone_of(dataset: Dataset) -> tzinfo | None:
    """Return the zone of all dates and times in a dataset, None where it does not say."""
    try:
        return datetime.strptime(str(dataset.get("TimezoneOffsetFromUTC")), "%z").tzinfo
    except ValueError:
        return None


def zone_of_study(dataset: Dataset) -> tzinfo | None:
    """Return the zone of the times that a dataset has of its study.

    Where it does not say, it is this machine's at that time of the year; None where there is no
    time either.
    """
    try:
        there = DT(f"{dataset.StudyDate}{dataset.get('StudyTime') or ''}").astimezone().tzinfo
    except (AttributeError, ValueError, OverflowError):
        there = None
    return zone_of(dataset) or there


def _codes_of(segment: Dataset) -> set[str]:
    """Return the code values of the type of a segment and of what modifies it."""
    kinds = list(segment.get("SegmentedPropertyTypeCodeSequence", []))
    modifiers = (kind.get("SegmentedPropertyTypeModifierCodeSequence", []) for kind in kinds)
    every = [*kinds, *(modifier for found in modifiers for modifier in found)]
    return {str(item.get("CodeValue")) for item in every}


def _name(segment: Dataset) -> str:
    return str(segment.get("SegmentLabel", "unnamed"))
