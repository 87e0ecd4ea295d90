"""Which studies of a PACS can be worked on: in each the T1ce, the T2 and the newest outline.

What a series says is asked for once, and a study again only when the PACS counts other series or
instances in it: where nothing is new, looking costs one request.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from clickseg.dicom.rules import SeriesRules, load_rules
from clickseg.dicom.series import SeriesFacts, facts_of, find_pair
from clickseg.dicom.web import Pacs, PacsError, RemoteSeries, RemoteStudy, UnreachableError
from clickseg.volume import ImageError

logger = logging.getLogger(__name__)

FEW = 40
"""A series of at most so many instances is looked at whole: a localizer has several planes."""


@dataclass(frozen=True)
class RemoteSeg:
    """A segmentation in a PACS. ``when`` is ``YYYYMMDDHHMMSS.FFFFFF``, as long as the PACS has it.

    ``of``: the series that it refers to.
    """

    series_uid: str
    when: str
    of: tuple[str, ...]


@dataclass(frozen=True)
class RemoteImage:
    """A study that can be worked on; ``segs`` refer to its T1ce, the newest first."""

    study: RemoteStudy
    t1ce: RemoteSeries
    t2: RemoteSeries | None
    is_one_frame: bool
    segs: tuple[RemoteSeg, ...]

    @property
    def stored(self) -> list[list[str | int | None]]:
        """What tells whether a copy is that of the series as they are now."""
        return [[one.uid, one.instances] for one in (self.t1ce, self.t2) if one is not None]


@dataclass
class _Study:
    """What is known of a study: its image, or why there is none, for each of its MR series."""

    study: RemoteStudy
    image: RemoteImage | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    is_understood: bool = True


class Listing:
    """The studies of a PACS, as of the last look.

    Args:
        pacs: where to look.
        rules: which series is which.
    """

    def __init__(self, pacs: Pacs, rules: SeriesRules | None = None) -> None:
        self.images: dict[str, RemoteImage] = {}
        self._pacs = pacs
        self._rules = rules or load_rules()
        self._studies: dict[str, _Study] = {}
        self._facts: dict[tuple[str, int | None], SeriesFacts] = {}
        self._segs: dict[tuple[str, int | None], RemoteSeg] = {}

    def look(self) -> bool:
        """Look what there is; return whether something is new.

        Raises:
            PacsError: if the PACS does not answer; what was known stays.
        """
        before, known = self.images, {}
        for study in self._pacs.studies(ModalitiesInStudy="MR"):
            last = self._studies.get(study.uid)
            is_known = last is not None and last.study == study and last.is_understood
            if last is not None and is_known and None not in study.counts:
                known[study.uid] = last
            else:
                known[study.uid] = self._read(study)
        self._studies = known
        self.images = {
            one.image.t1ce.uid: one.image for one in known.values() if one.image is not None
        }
        return self.images != before

    def reason(self, series_uid: str) -> str | None:
        """Say why a series of the PACS is not worked on; None if it is, or is not there."""
        for one in self._studies.values():
            if series_uid in one.reasons:
                return one.reasons[series_uid]
        return None

    def _read(self, study: RemoteStudy) -> _Study:
        """Find out about one study; one that cannot be understood stops no other."""
        found = _Study(study)
        series: list[RemoteSeries] = []
        try:
            series = self._pacs.series(study.uid)
            of_mr = {one.uid: one for one in series if one.modality == "MR"}
            facts = [self._facts_of(one) for one in of_mr.values()]
            pair = find_pair(facts, self._rules)
            segs = [self._seg_of(one) for one in series if one.modality == "SEG"]
        except UnreachableError:
            raise
        except (ImageError, PacsError) as error:
            logger.warning("a study is left out: %s", error)
            found.reasons = {one.uid: str(error) for one in series}
            found.is_understood = isinstance(error, ImageError)  # a PACS may answer next time
            return found
        t2 = pair.t2
        found.image = RemoteImage(
            study,
            of_mr[pair.t1ce.uid],
            None if t2 is None else of_mr[t2.uid],
            t2 is None or t2.frame_of_reference_uid == pair.t1ce.frame_of_reference_uid,
            _newest_first(segs, pair.t1ce.uid),
        )
        found.reasons = _told(of_mr, pair.t1ce, t2)
        return found

    def _facts_of(self, series: RemoteSeries) -> SeriesFacts:
        key = series.uid, series.instances
        if key not in self._facts:
            if series.instances is None or series.instances <= FEW:
                headers = self._pacs.headers(series.study_uid, series.uid)
            else:
                headers = [self._pacs.header(series.study_uid, series.uid)]
            self._facts[key] = facts_of(headers, series.instances if len(headers) == 1 else None)
        return self._facts[key]

    def _seg_of(self, series: RemoteSeries) -> RemoteSeg:
        key = series.uid, series.instances
        if key not in self._segs:
            header = self._pacs.header(series.study_uid, series.uid)
            referred = header.get("ReferencedSeriesSequence") or []
            of = tuple(str(item.get("SeriesInstanceUID")) for item in referred)
            self._segs[key] = RemoteSeg(series.uid, _when(header), of)
        return self._segs[key]


def _newest_first(segs: Sequence[RemoteSeg], t1ce_uid: str) -> tuple[RemoteSeg, ...]:
    of_t1ce = [seg for seg in segs if t1ce_uid in seg.of]
    return tuple(sorted(of_t1ce, key=lambda seg: (seg.when, seg.series_uid), reverse=True))


def _when(header: Dataset) -> str:
    """Return when a segmentation was made, by its content, else by its series."""
    for of in ("Content", "Series", "InstanceCreation", "Study"):
        if header.get(f"{of}Date"):
            return f"{header[f'{of}Date'].value}{header.get(f'{of}Time') or ''}"
    return ""


def _told(
    of_mr: Mapping[str, RemoteSeries], t1ce: SeriesFacts, t2: SeriesFacts | None
) -> dict[str, str]:
    """Say of each series but the T1ce which one to ask for."""
    told = {}
    for uid, one in of_mr.items():
        if uid != t1ce.uid:
            is_t2 = t2 is not None and uid == t2.uid
            what = "the T2 of its study" if is_t2 else "neither T1ce nor T2 of its study"
            told[uid] = (
                f"series {one.description!r} is {what}; the T1ce was wanted, which is {t1ce}"
            )
    return told
