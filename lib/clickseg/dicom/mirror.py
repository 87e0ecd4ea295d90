"""Fetch studies and outlines of a PACS into the layout of a studies folder."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import pydicom

from clickseg.dicom.listing import RemoteImage, RemoteSeg
from clickseg.dicom.planes import MALFORMED
from clickseg.dicom.read import read_series
from clickseg.dicom.seg import read_seg
from clickseg.dicom.tumor import made_last, says_tumor
from clickseg.dicom.web import Pacs, RemoteSeries
from clickseg.geometry import Grid
from clickseg.placement import tell_frames
from clickseg.study import PLACING_FOLDER, T2_FOLDER
from clickseg.volume import ImageError, Volume, stem_of, write_volume

logger = logging.getLogger(__name__)


def mirror(pacs: Pacs, image: RemoteImage, file: Path) -> None:
    """Write the T1ce of a study to a file, and its T2 to where that belongs beside it.

    Both are as the PACS has them; whoever reads the study is told whether their frames differ.
    All is fetched before any file is touched: others may be reading them. A T2 that is no image,
    with slices missing, say, is left out with a warning.

    Raises:
        PacsError: if the PACS does not hand it over.
        ImageError: if the T1ce is no image.
    """
    t1ce, t2 = _volume(pacs, image.t1ce, file.parent), None
    if image.t2 is not None:
        try:
            t2 = _volume(pacs, image.t2, file.parent)
        except ImageError as error:
            logger.warning("the T2 of %s is left out: %s", image.t1ce.uid, error)
    t2_file = file.parent / T2_FOLDER / file.name
    tell_frames(file.parent / PLACING_FOLDER, stem_of(file), not image.is_one_frame)
    if t2 is None:
        t2_file.unlink(missing_ok=True)
    else:
        write_volume(t2_file, t2)
    write_volume(file, t1ce)  # the last: where it is, all is there


def fetch_outline(pacs: Pacs, image: RemoteImage, seg: RemoteSeg, grid: Grid) -> Volume:
    """Return what a segmentation outlines, as a mask of uint8 0/1 on the grid of its T1ce.

    Raises:
        PacsError: if the PACS does not hand it over.
        ImageError: if it does not say that it is a tumor, or lies elsewhere than the T1ce, or
            its series holds several that were made at one time.
    """
    dataset, *others = made_last(pacs.fetch(image.study.uid, seg.series_uid))
    if not says_tumor(dataset):
        raise ImageError("a segment that is called or coded a tumor was wanted")
    if others:
        count = len(others) + 1
        raise ImageError(f"one newest segmentation was wanted, {count} were made at one time")
    return read_seg(dataset, grid)


def _volume(pacs: Pacs, series: RemoteSeries, scratch: Path) -> Volume:
    instances = pacs.fetch(series.study_uid, series.uid)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".fetched-") as name:
        files = [Path(name, f"{number}.dcm") for number in range(len(instances))]
        try:
            for file, instance in zip(files, instances, strict=True):
                pydicom.dcmwrite(file, instance)
            return read_series(files)
        except ImageError:
            raise
        except MALFORMED as error:
            raise ImageError(f"series {series.uid} is not as DICOM has one: {error}") from error
