"""Studies of a PACS, as a studies folder that fills as they are used.

The id of an image is the SeriesInstanceUID of its T1ce. What a reader opens, and some studies that
may be offered next, is fetched once, with its T2 and its outline, into the layout of a studies
folder: clicks, earlier labels, scores and training work there as on any other. An accepted label is
stored in the PACS as a DICOM SEG before it is kept here; one that is newer there, whoever made it,
takes the place of the one here when the image is used next.
"""

from __future__ import annotations

import io
import logging
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydicom
from fastapi import HTTPException

from clickseg import __version__
from clickseg.accepted import AcceptedMask, read_accepted
from clickseg.choosing.order import Pool, shuffle
from clickseg.dicom.listing import RemoteImage, RemoteSeg
from clickseg.dicom.mirror import fetch_outline, mirror
from clickseg.dicom.seg import Maker, write_seg
from clickseg.dicom.tumor import made_when
from clickseg.dicom.web import Pacs, PacsError, UnreachableError
from clickseg.volume import ImageError, read_volume, write_volume
from clickseg_app.datastore import FINAL
from clickseg_app.errors import NOT_ALLOWED, told
from clickseg_app.pacs_index import PacsIndex, after_silence

logger = logging.getLogger(__name__)

MAKER = Maker(name="vs_clickseg", version=__version__)


FETCHED = ".fetched-"
"""So begin the names of folders for what is just being fetched."""

TRY_AGAIN_AFTER_S = 3600.0
"""After a study could not be fetched, before it is offered again; whoever opens it asks at once."""

LOOK_AHEAD_EVERY_S = 60.0
"""So often the PACS is asked for new studies while no request comes."""


class PacsDatastore(PacsIndex):
    """The studies of a PACS that have a T1ce: fetched when used, labels stored in it."""

    def __init__(
        self, pacs: Pacs, cache: Path, auto_reload: bool, label_names: Mapping[str, int]
    ) -> None:
        self._failed_s: dict[str, float] = {}
        self._broken_s: dict[str, float] = {}
        self._look_ahead_s = self._label_again_s = 0.0
        super().__init__(pacs, cache, auto_reload, label_names)

    def get_image_uri(self, image_id: str) -> str:
        """Return the file of an image; here it is fetched, with its T2 and its label.

        Where the PACS does not hand over a newer label, the one that is here is used.

        Raises:
            HTTPException: if the PACS has no such T1ce, or does not hand it over.
        """
        with self._index_lock, told():
            self._look()
            try:
                self._fetch_image(image_id)
            except ImageError:
                self._broken_s[image_id] = time.monotonic()
                raise
            self._broken_s.pop(image_id, None)
            started_s = time.monotonic()
            try:
                if started_s >= self._label_again_s:
                    self._fetch_label(image_id)
            except PacsError as error:
                logger.warning("a newer label of %s is not used: %s", image_id, error)
                if isinstance(error, UnreachableError):
                    self._label_again_s = after_silence(started_s)
            return str(super().get_image_uri(image_id))

    def get_unlabeled_images(self) -> list[str]:
        """Return the images without an accepted label; what is none comes only if nothing else."""
        names, left_out = super().get_unlabeled_images(), self.left_out()
        return [name for name in names if name not in left_out] or names

    def left_out(self) -> set[str]:
        """Return the studies that were fetched in the last hour and are no image."""
        return _lately(self._broken_s)

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Return the file of a label; a final one is fetched if it is in the PACS alone."""
        with self._index_lock, told():
            self._look()
            if label_tag == FINAL and self._waiting(label_id) is not None:
                self._fetch_image(label_id)
                self._fetch_label(label_id)
            return str(super().get_label_uri(label_id, label_tag))

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Return all pairs to train on; here those that are in the PACS alone are fetched.

        What the PACS does not hand over is left out.
        """
        with self._index_lock, told():
            self._look()
            for image_id in list(self._datastore.objects):
                if self._waiting(image_id) is not None:
                    try:
                        self._fetch_image(image_id)
                        self._fetch_label(image_id)
                    except UnreachableError as error:
                        logger.warning("labels that are in the PACS alone are left out: %s", error)
                        break
                    except (ImageError, PacsError) as error:
                        logger.warning("%s is left out: %s", image_id, error)
            labels = Path(self._datastore.label_path(FINAL))
            return [
                pair
                for pair in super().datalist(full_path)
                if (labels / Path(pair["label"]).name).is_file()
            ]

    def bring(self, wanted: int) -> bool:
        """Fetch one image that waits for a label, unless so many are here; tell whether one was.

        Which one is drawn. Requests are answered meanwhile. One that cannot be fetched is not tried
        again for an hour.

        Raises:
            PacsError: if the PACS does not answer, or does not hand it over.
            OSError: if there is no room.
        """
        with self._index_lock:
            image = self._next_to_bring(wanted)
        if image is None:
            return False
        image_id = image.t1ce.uid
        try:
            self._mirror(image)
        except (ImageError, PacsError) as error:
            if not isinstance(error, UnreachableError):
                self._failed_s[image_id] = time.monotonic()
            if isinstance(error, PacsError):
                raise
            self._broken_s[image_id] = time.monotonic()
            logger.warning("%s cannot be scored: %s", image_id, error)
        return True

    def _next_to_bring(self, wanted: int) -> RemoteImage | None:
        if time.monotonic() >= self._look_ahead_s:  # nobody may have asked for long
            self._look()
            self._look_ahead_s = time.monotonic() + LOOK_AHEAD_EVERY_S
        waiting = [
            name
            for name, entry in self._datastore.objects.items()
            if FINAL not in entry.labels and name in self._listing.images
        ]
        absent = [name for name in waiting if not self._file_of(name).is_file()]
        if len(waiting) - len(absent) >= wanted:
            return None
        failed = _lately(self._failed_s)
        left = [name for name in absent if name not in failed]
        return self._listing.images[next(shuffle(Pool(left)))] if left else None

    def as_seg(self, image_id: str, path: Path) -> bytes:
        """Return a mask of an image as a DICOM SEG file.

        Raises:
            HTTPException: if there is no such image, or the mask is none of it.
        """
        with self._index_lock, told():
            image = self._known_image(image_id)
            mask = read_accepted(path, Path(self.get_image_uri(image_id)))
            return _bytes_of(self._seg_of(image, mask))

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Refuse: studies come into the PACS.

        Raises:
            HTTPException: always.
        """
        raise HTTPException(NOT_ALLOWED, "studies are sent to the PACS, not to this server")

    def remove_image(self, image_id: str) -> None:
        """Refuse: this server removes nothing from a PACS.

        Raises:
            HTTPException: always.
        """
        raise HTTPException(NOT_ALLOWED, "studies are removed from the PACS, not by this server")

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label, but no accepted one: the PACS would bring it back.

        Raises:
            HTTPException: for an accepted one.
        """
        if label_tag == FINAL:
            text = "an accepted label is in the PACS, from which this server removes nothing"
            raise HTTPException(NOT_ALLOWED, f"{text}; accept another one in its place")
        super().remove_label(label_id, label_tag)

    def _accept(self, image_id: str, mask: AcceptedMask, info: dict[str, Any]) -> str:
        """Store a label in the PACS, then here: what the PACS refuses is accepted nowhere."""
        image = self._known_image(image_id)
        seg = self._seg_of(image, mask)
        # What was there before is not newer, be the clock of its maker ahead of ours.
        seg_made = max(made_when(seg), *(one.when for one in image.segs), "")
        of_pacs = {"dicom_seg": str(seg.SeriesInstanceUID)}
        self._pacs.store([seg])
        with self._held():
            label_id = super()._accept(image_id, mask, info | of_pacs | {"seg_made": seg_made})
        self.last_saved |= of_pacs
        return label_id

    def _fetch_image(self, image_id: str) -> None:
        """Fetch a T1ce and its T2 that are not here yet, or not as they are in the PACS now."""
        file = self._file_of(image_id)
        if not self._has_looked and image_id in self._datastore.objects and file.is_file():
            return  # the PACS has not answered yet
        image = self._known_image(image_id)
        entry = self._datastore.objects[image_id]
        if not file.is_file() or entry.image.info.get("fetched") != image.stored:
            self._mirror(image)

    def _mirror(self, image: RemoteImage) -> None:
        """Fetch an image and its T2, and note as what; it may have left the PACS meanwhile."""
        image_id = image.t1ce.uid
        mirror(self._pacs, image, self._file_of(image_id))
        with self.changing() as entries:
            if image_id in entries:
                entries[image_id].image.info["fetched"] = image.stored

    def _fetch_label(self, image_id: str) -> None:
        """Fetch the accepted label of an image that is here, where a newer one is in the PACS."""
        while (waiting := self._waiting(image_id)) is not None:
            image = self._known_image(image_id)
            seg = next((one for one in image.segs if one.version == waiting), None)
            if seg is None or not self._take_over(image_id, image, seg):
                self._unreadable.add(waiting)
                self.refresh()  # the next one may be waiting then

    def _seg_of(self, image: RemoteImage, mask: AcceptedMask) -> pydicom.Dataset:
        headers = self._pacs.headers(image.study.uid, image.t1ce.uid)
        (name,) = self.label_names
        return write_seg(mask.volume, headers, MAKER, name=name, series_description=name)

    def _file_of(self, image_id: str) -> Path:
        return Path(self._datastore_path) / f"{image_id}.nii.gz"

    def _take_over(self, image_id: str, image: RemoteImage, seg: RemoteSeg) -> bool:
        """Make a segmentation of the PACS the accepted label; return whether it can be one.

        Another process may accept a label meanwhile: that one stays.
        """
        file = self._file_of(image_id)
        try:
            volume = fetch_outline(self._pacs, image, seg, read_volume(file).grid)
        except ImageError as error:
            logger.warning("a segmentation of %s is left out: %s", image_id, error)
            return False
        with tempfile.TemporaryDirectory(dir=self._datastore_path, prefix=FETCHED) as name:
            mask = read_accepted(write_volume(Path(name, file.name), volume), file)
            info = {"dicom_seg": seg.series_uid, "seg_made": seg.when}
            with self._held():
                self._init_from_datastore_file()
                if self._waiting(image_id) == seg.version:
                    self._keep(image_id, mask, info, is_made_here=False)
        return True


def _lately(failed_s: Mapping[str, float]) -> set[str]:
    """Return what failed so short a time ago that it is not tried again by itself."""
    since_s = time.monotonic() - TRY_AGAIN_AFTER_S
    return {name for name, when_s in list(failed_s.items()) if when_s >= since_s}


def _bytes_of(dataset: pydicom.Dataset) -> bytes:
    with io.BytesIO() as file:
        pydicom.dcmwrite(file, dataset, write_like_original=False)
        return file.getvalue()
