"""Which studies of a PACS can be worked on: in each the T1ce, the T2 and the newest outline.

What a series says is asked for once, and a study again only when the PACS counts other series or
instances in it: where nothing is new, looking costs one request. Where a PACS does not count, its
instances are counted here, for each study once a minute.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from clickseg.dicom.planes import IN_ONE_FILE, MALFORMED
from clickseg.dicom.rules import SeriesRules, load_rules
from clickseg.dicom.series import SeriesFacts, facts_of, find_pair
from clickseg.dicom.tumor import made_last, made_when
from clickseg.dicom.web import Pacs, PacsError, RemoteSeries, RemoteStudy, UnreachableError
from clickseg.volume import ImageError

logger = logging.getLogger(__name__)

FEW = 40
"""A series of at most so many instances is looked at whole: a localizer has several planes."""

COUNT_AGAIN_S = 60.0
"""So old may be what is known of a study whose series or instances the PACS does not count."""


@dataclass(frozen=True)
class RemoteSeg:
    """A segmentation in a PACS. ``when`` is ``YYYYMMDDHHMMSS.FFFFFF``, as long as the PACS has it.

    ``of``: the series that it refers to.
    """

    series_uid: str
    when: str
    of: tuple[str, ...]

    @property
    def version(self) -> tuple[str, str]:
        """What tells a segmentation from a later one of the same series."""
        return self.series_uid, self.when


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
        both = (one for one in (self.t1ce, self.t2) if one is not None)
        return [[one.uid, one.instances, one.digest] for one in both]


@dataclass
class _Study:
    """What is known of a study: its image, or why there is none, for each of its MR series."""

    study: RemoteStudy
    image: RemoteImage | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    is_understood: bool = True
    read_s: float = field(default_factory=time.monotonic)

    def is_of(self, study: RemoteStudy) -> bool:
        """Tell whether a study, as the PACS tells of it now, is the one that was looked at."""
        if None in study.counts and time.monotonic() > self.read_s + COUNT_AGAIN_S:
            return False
        return self.study == study and self.is_understood


class Listing:
    """The studies of a PACS, as of the last look.

    Args:
        pacs: where to look.
        rules: which series is which.
    """

    def __init__(self, pacs: Pacs, rules: SeriesRules | None = None) -> None:
        self.images: dict[str, RemoteImage] = {}
        self.failed: frozenset[str] = frozenset()
        """The studies that the PACS failed at; the images known of them stay."""
        self._pacs = pacs
        self._rules = rules or load_rules()
        self._studies: dict[str, _Study] = {}
        self._facts: dict[RemoteSeries, SeriesFacts] = {}
        self._segs: dict[RemoteSeries, RemoteSeg] = {}

    def look(self) -> bool:
        """Look what there is; return whether something is new.

        Raises:
            PacsError: if the PACS does not answer; what was known stays.
        """
        before, known = self.images, {}
        for study in self._pacs.studies(ModalitiesInStudy="MR"):
            last = self._studies.get(study.uid)
            is_known = last is not None and last.is_of(study)
            known[study.uid] = last if last is not None and is_known else self._read(study, last)
        self._studies = known
        self.failed = frozenset(uid for uid, one in known.items() if not one.is_understood)
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

    def _read(self, study: RemoteStudy, last: _Study | None) -> _Study:
        """Find out about one study; one that cannot be understood stops no other.

        Where the PACS fails at it, its image is as it was at the last look.
        """
        found = _Study(study)
        series: list[RemoteSeries] = []
        try:
            series = [self._counted(one) for one in self._pacs.series(study.uid)]
            of_mr = {one.uid: one for one in series if one.modality == "MR"}
            facts = [self._facts_of(one) for one in of_mr.values()]
            pair = find_pair(facts, self._rules)
            if pair.t1ce.is_parted:
                text = f"the T1ce is {pair.t1ce}, in several files of many slices"
                raise ImageError(f"{text}: labels could not be stored; {IN_ONE_FILE}")
            segs = [self._seg_of(one) for one in series if one.modality == "SEG"]
        except UnreachableError:
            raise
        except (PacsError, *MALFORMED) as error:  # ImageError is a ValueError
            logger.warning("a study is left out: %s", error)
            found.reasons = {one.uid: str(error) for one in series}
            found.is_understood = not isinstance(error, PacsError)  # it may answer next time
            if last is not None and not found.is_understood:
                found.image = last.image
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

    def _counted(self, series: RemoteSeries) -> RemoteSeries:
        """Count the instances of a series, where the PACS does not and it matters."""
        if series.instances is not None or series.modality not in ("MR", "SEG"):
            return series
        uids = sorted(self._pacs.instances(series.study_uid, series.uid))
        digest = hashlib.sha256(" ".join(uids).encode()).hexdigest()[:16]
        return replace(series, instances=len(uids), digest=digest)

    def _facts_of(self, series: RemoteSeries) -> SeriesFacts:
        if series not in self._facts:
            count = series.instances or 0
            if count <= FEW:
                facts = facts_of(self._pacs.headers(series.study_uid, series.uid))
            else:
                header = self._pacs.header(series.study_uid, series.uid)
                facts = facts_of([header], count * int(header.get("NumberOfFrames") or 1))
            self._facts[series] = facts
        return self._facts[series]

    def _seg_of(self, series: RemoteSeries) -> RemoteSeg:
        if series not in self._segs:
            header = made_last(self._pacs.headers(series.study_uid, series.uid))[0]
            referred = header.get("ReferencedSeriesSequence") or []
            of = tuple(str(item.get("SeriesInstanceUID")) for item in referred)
            self._segs[series] = RemoteSeg(series.uid, made_when(header), of)
        return self._segs[series]


def _newest_first(segs: Sequence[RemoteSeg], t1ce_uid: str) -> tuple[RemoteSeg, ...]:
    of_t1ce = [seg for seg in segs if t1ce_uid in seg.of]
    return tuple(sorted(of_t1ce, key=lambda seg: (seg.when, seg.series_uid), reverse=True))


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
