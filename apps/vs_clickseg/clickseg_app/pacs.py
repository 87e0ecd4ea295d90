"""Studies of a PACS, as a studies folder that fills as they are used.

The id of an image is the SeriesInstanceUID of its T1ce. What a reader opens is fetched once, with
its T2 and its outline, into the layout of a studies folder: clicks, earlier labels, scores and
training work there as on any other. An accepted label is stored in the PACS as a DICOM SEG before
it is kept here; one that is newer there, whoever made it, takes the place of the one here when
the image is used next.
"""

from __future__ import annotations

import io
import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any

import pydicom
from fastapi import HTTPException
from monailabel.datastore.local import DataModel, ImageLabelModel

from clickseg import __version__
from clickseg.accepted import AcceptedMask, read_accepted
from clickseg.atomic import write_text
from clickseg.dicom.listing import Listing, RemoteImage, RemoteSeg
from clickseg.dicom.mirror import fetch_outline, mirror
from clickseg.dicom.seg import Maker, write_seg
from clickseg.dicom.web import Pacs, PacsError, is_uid
from clickseg.training.split import PATIENTS
from clickseg.volume import ImageError, read_volume, write_volume
from clickseg_app.datastore import FINAL, StudiesDatastore
from clickseg_app.errors import NOT_ALLOWED, NOT_FOUND, WRONG, told

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 5.0
"""So old may be what is known of the PACS."""

MAKER = Maker(name="vs_clickseg", version=__version__)

WAITING = "waiting_in_pacs"
"""Says of a label that it is still to be fetched, in its info: as this segmentation series."""


class PacsDatastore(StudiesDatastore):
    """The studies of a PACS that have a T1ce.

    Args:
        pacs: where they are.
        cache: a folder for what is fetched; images of patients will be in it.
        label_names: as of ``StudiesDatastore``.
    """

    def __init__(
        self, pacs: Pacs, cache: Path, auto_reload: bool, label_names: Mapping[str, int]
    ) -> None:
        self._pacs = pacs
        self._listing = Listing(pacs)
        self._has_looked = False
        self._look_again_s = 0.0
        self._unreadable: set[str] = set()
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._ask()
        except PacsError as error:
            logger.warning("%s; it is asked again at every request", error)
        super().__init__(str(cache), auto_reload, False, label_names)

    def get_image_uri(self, image_id: str) -> str:
        """Return the file of an image; here it is fetched, with its T2 and its label.

        Raises:
            HTTPException: if the PACS has no such T1ce, or does not hand it over.
        """
        with self._index_lock, told():
            self._look()
            self._fetch(image_id)
            return str(super().get_image_uri(image_id))

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Return the file of a label; a final one is fetched if it is in the PACS alone."""
        with self._index_lock, told():
            self._look()
            if label_tag == FINAL and self._waiting(label_id) is not None:
                self._fetch(label_id)
            return str(super().get_label_uri(label_id, label_tag))

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Return all pairs to train on; here those that are in the PACS alone are fetched."""
        with self._index_lock, told():
            self._look()
            for image_id in list(self._datastore.objects):
                if self._waiting(image_id) is not None:
                    try:
                        self._fetch(image_id)
                    except ImageError as error:
                        logger.warning("%s is left out: %s", image_id, error)
            return list(super().datalist(full_path))

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
        seg = self._seg_of(self._known_image(image_id), mask)
        self._pacs.store([seg])
        of_pacs = {"dicom_seg": str(seg.SeriesInstanceUID)}
        label_id = super()._accept(image_id, mask, info | of_pacs)
        self.last_saved |= of_pacs
        return label_id

    def _ask(self) -> bool:
        is_new = self._listing.look()
        is_first, self._has_looked = not self._has_looked, True
        return is_new or is_first

    def _look(self, is_urgent: bool = False) -> None:
        """Look what the PACS has, unless that was done just now.

        Raises:
            PacsError: if it has never answered.
        """
        if time.monotonic() < self._look_again_s and not is_urgent:
            return
        try:
            if self._ask():
                self.refresh()
        except PacsError as error:
            if not self._has_looked:
                raise
            logger.warning("%s; what was known of it is used", error)
        self._look_again_s = time.monotonic() + LOOK_AGAIN_S

    def _known_image(self, image_id: str) -> RemoteImage:
        image = self._listing.images.get(image_id)
        if image is None:
            self._look(is_urgent=True)  # it may have come this second
            image = self._listing.images.get(image_id)
        if image is not None:
            return image
        reason = self._listing.reason(image_id)
        if reason is not None:
            raise HTTPException(WRONG, reason)
        wanted = "" if is_uid(image_id) else "; the UID of a T1ce series was wanted"
        raise HTTPException(NOT_FOUND, f"there is no series {image_id!r:.80} in the PACS{wanted}")

    def _fetch(self, image_id: str) -> None:
        """Fetch what is not here yet, or not as it is in the PACS now, of one study."""
        image = self._known_image(image_id)
        entry = self._datastore.objects[image_id]
        file = Path(self._datastore_path) / f"{image_id}.nii.gz"
        if not file.is_file() or entry.image.info.get("fetched") != image.stored:
            mirror(self._pacs, image, file)
            with self.changing() as entries:
                entries[image_id].image.info["fetched"] = image.stored
        while (waiting := self._waiting(image_id)) is not None:
            seg = next((one for one in image.segs if one.series_uid == waiting), None)
            if seg is None or not self._take_over(image_id, image, seg, file):
                self._unreadable.add(waiting)
                self.refresh()  # the next one may be waiting then

    def _seg_of(self, image: RemoteImage, mask: AcceptedMask) -> pydicom.Dataset:
        headers = self._pacs.headers(image.study.uid, image.t1ce.uid)
        (name,) = self.label_names
        return write_seg(mask.volume, headers, MAKER, name=name, series_description=name)

    def _waiting(self, image_id: str) -> str | None:
        entry = self._datastore.objects.get(image_id)
        label = entry.labels.get(FINAL) if entry is not None else None
        return None if label is None else label.info.get(WAITING)

    def _take_over(self, image_id: str, image: RemoteImage, seg: RemoteSeg, file: Path) -> bool:
        """Make a segmentation of the PACS the accepted label; return whether it can be one."""
        try:
            volume = fetch_outline(self._pacs, image, seg, read_volume(file).grid)
        except ImageError as error:
            logger.warning("a segmentation of %s is left out: %s", image_id, error)
            return False
        with tempfile.TemporaryDirectory(dir=self._datastore_path, prefix=".fetched-") as name:
            mask = read_accepted(write_volume(Path(name, file.name), volume), file)
            info = {"dicom_seg": seg.series_uid, "seg_time": seg.when}
            self._keep(image_id, mask, info, is_made_here=False)
        return True

    def _add_non_existing_images(self) -> int:
        """List what the PACS has, be it here or not."""
        self._init_from_datastore_file()
        entries, changed = self._datastore.objects, 0
        for image_id, image in self._listing.images.items():
            told_of = _info_of(image)
            if image_id not in entries:
                made = {"ts": int(time.time()), "name": f"{image_id}.nii.gz"}
                entries[image_id] = ImageLabelModel(image=DataModel(info=made, ext=".nii.gz"))
            info = entries[image_id].image.info
            changed += any(info.get(key) != value for key, value in told_of.items())
            info.update(told_of)
        if changed:
            patients = {uid: image.study.patient_id for uid, image in self._listing.images.items()}
            told = {uid: name for uid, name in patients.items() if name}
            path = Path(self._datastore_path, PATIENTS)
            write_text(path, json.dumps(told, indent=1, sort_keys=True) + "\n")
        return changed

    def _add_non_existing_labels(self, tag: str) -> int:
        changed = super()._add_non_existing_labels(tag)
        if tag != FINAL:
            return changed
        for image_id, image in self._listing.images.items():
            labels = self._datastore.objects[image_id].labels
            readable = (seg for seg in image.segs if seg.series_uid not in self._unreadable)
            newest = next(readable, None)
            if newest is not None and _is_newer(newest, labels.get(FINAL)):
                info: dict[str, Any] = {WAITING: newest.series_uid, "seg_time": newest.when}
                info |= {"ts": int(time.time()), "name": f"{image_id}.nii.gz"}
                labels[FINAL] = DataModel(info=info, ext=".nii.gz")
                changed += 1
        return changed

    def _remove_non_existing(self) -> int:
        """Leave out what is no more in the PACS, and labels whose files are gone."""
        self._init_from_datastore_file()
        entries, changed = self._datastore.objects, 0
        for image_id in list(entries) if self._has_looked else ():
            if image_id not in self._listing.images:
                del entries[image_id]
                changed += 1
        for image_id, entry in entries.items():
            for tag, label in list(entry.labels.items()):
                file = Path(self._datastore.label_path(tag), f"{image_id}{label.ext}")
                waiting = label.info.get(WAITING)
                if not file.is_file() if waiting is None else waiting in self._unreadable:
                    del entry.labels[tag]
                    changed += 1
        return changed


def _info_of(image: RemoteImage) -> dict[str, Any]:
    """Return what viewers are told of an image: OHIF opens the next sample by it."""
    return {
        "Modality": image.t1ce.modality,
        "PatientID": image.study.patient_id,
        "StudyDate": image.study.date,
        "StudyTime": image.study.time,
        "StudyInstanceUID": image.study.uid,
        "SeriesInstanceUID": image.t1ce.uid,
        "SeriesDescription": image.t1ce.description,
        "frames_differ": not image.is_one_frame,
    }


def _is_newer(seg: RemoteSeg, label: DataModel | None) -> bool:
    """Tell whether a segmentation of the PACS takes the place of a label."""
    if label is None:
        return True
    if seg.series_uid in (label.info.get("dicom_seg"), label.info.get(WAITING)):
        return False
    saved = datetime.fromtimestamp(label.info.get("ts", 0)).strftime("%Y%m%d%H%M%S")  # as DICOM
    return bool(seg.when > label.info.get("seg_time", saved))


def _bytes_of(dataset: pydicom.Dataset) -> bytes:
    with io.BytesIO() as file:
        pydicom.dcmwrite(file, dataset, write_like_original=False)
        return file.getvalue()


def _looking(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def looked(self: PacsDatastore, *args: Any, **kwargs: Any) -> Any:
        with self._index_lock, told():
            self._look()
            return method(self, *args, **kwargs)

    return looked


for _name in (
    "get_image_info",
    "get_labeled_images",
    "get_unlabeled_images",
    "json",
    "list_images",
    "status",
):
    setattr(PacsDatastore, _name, _looking(getattr(StudiesDatastore, _name)))
