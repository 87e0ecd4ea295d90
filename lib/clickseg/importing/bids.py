"""Studies of a BIDS data set: ``sub-*/[ses-*/]anat/*_T1w`` and ``*_T2w``.

The T1w with the entity ``ce`` (``ce-gad``) is the T1ce; without any, the only T1w is. A label is a
``*_mask`` or ``*_dseg`` of the same subject and session below ``derivatives``.
"""

from __future__ import annotations

import re
from pathlib import Path

from clickseg.importing.nifti import NiftiStudy, study_of
from clickseg.importing.source import ImportingError
from clickseg.volume import EXTENSIONS, stem_of

_NAME = re.compile(
    r"(?P<id>sub-[A-Za-z0-9]+(?:_ses-[A-Za-z0-9]+)?)_(?:.*_)?(?P<suffix>[A-Za-z0-9]+)"
)
_CONTRAST = re.compile(r"_ce-[A-Za-z0-9]+_")


def find_in_bids(source: Path) -> list[NiftiStudy]:
    """Find the studies of a BIDS folder, ordered by id: one a subject, or one a session.

    Raises:
        ImportingError: if there is no such folder, or no T1w in it.
    """
    if not source.is_dir():
        raise ImportingError(f"a BIDS folder was wanted, {source} is none")
    images = [*source.glob("sub-*/anat/*"), *source.glob("sub-*/ses-*/anat/*")]
    t1, t2 = _by_id(images, ("T1w",)), _by_id(images, ("T2w",))
    labels = _by_id(list(source.glob("derivatives/**/sub-*")), ("mask", "dseg"))
    if not t1:
        raise ImportingError(f"sub-*/anat/*_T1w images were wanted, {source} has none")
    return [
        study_of(
            name,
            {
                "t1ce": [path for path in t1[name] if _CONTRAST.search(path.name)] or t1[name],
                "t2": t2.get(name, []),
                "label": labels.get(name, []),
            },
        )
        for name in sorted(t1)
    ]


def _by_id(paths: list[Path], suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(paths):
        if path.name.endswith(EXTENSIONS) and path.is_file():
            match = _NAME.fullmatch(stem_of(path))
            if match is not None and match["suffix"] in suffixes:
                found.setdefault(match["id"], []).append(path)
    return found
