"""The index of a studies folder that is a PACS: what is there, be it fetched or not.

The id of an image is the SeriesInstanceUID of its T1ce. A segmentation of it counts as a label from
when it is seen, and is noted as one that waits to be fetched.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.local import DataModel, ImageLabelModel

from clickseg.atomic import write_text
from clickseg.config import ConfigError
from clickseg.dicom.listing import Listing, RemoteImage, RemoteSeg
from clickseg.dicom.tumor import WHEN
from clickseg.dicom.web import Pacs, PacsError, is_uid
from clickseg.training.split import PATIENTS, told_patients
from clickseg_app.datastore import FINAL, StudiesDatastore
from clickseg_app.errors import NOT_FOUND, WRONG, told

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 5.0
"""So old may be what is known of the PACS."""

PATIENCE = 4
"""After a PACS was silent nobody waits for it again for so many times as long."""

WAITING = "waiting_in_pacs"
"""Says of a label that it is still to be fetched, in its info: as this segmentation series."""


class PacsIndex(StudiesDatastore):
    """What a PACS has, as the entries of a studies folder.

    Args:
        pacs: where the studies are.
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
        self._unreadable: set[tuple[str, str]] = set()
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._ask()
        except PacsError as error:
            logger.warning("%s; it is asked again at every request", error)
        super().__init__(str(cache), auto_reload, False, label_names)

    def _ask(self) -> bool:
        is_new = self._listing.look()
        is_first, self._has_looked = not self._has_looked, True
        return is_new or is_first

    def _look(self, is_urgent: bool = False) -> None:
        """Look what the PACS has, unless that was done just now.

        Where it does not answer, what was known of it is used; after a restart, the index.

        Raises:
            PacsError: if it has never answered, and it is urgent or the index is empty.
        """
        started_s = time.monotonic()
        if started_s < self._look_again_s and not is_urgent:
            return
        again_s = started_s
        try:
            if self._ask():
                self.refresh()
        except PacsError as error:
            if not self._has_looked and (is_urgent or not self._datastore.objects):
                raise
            logger.warning("%s; what was known of it is used", error)
            again_s = after_silence(started_s)
        self._look_again_s = max(again_s, time.monotonic() + LOOK_AGAIN_S)

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

    def _waiting(self, image_id: str) -> tuple[str, str] | None:
        """Return which version of which segmentation is to be fetched, if one is."""
        entry = self._datastore.objects.get(image_id)
        label = entry.labels.get(FINAL) if entry is not None else None
        return None if label is None else _awaited(label)

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
            self._tell_patients()
        return changed

    def _tell_patients(self) -> None:
        """Tell the hold-out whose studies these are; those that are here alone stay told."""
        folder, told = Path(self._datastore_path), {}
        with suppress(ConfigError):  # it is damaged
            told = told_patients(folder)
        patients = {uid: image.study.patient_id for uid, image in self._listing.images.items()}
        told |= {uid: name for uid, name in patients.items() if name}
        write_text(folder / PATIENTS, json.dumps(told, indent=1, sort_keys=True) + "\n")

    def _add_non_existing_labels(self, tag: str) -> int:
        changed = super()._add_non_existing_labels(tag)
        if tag != FINAL:
            return changed
        for image_id, image in self._listing.images.items():
            labels = self._datastore.objects[image_id].labels
            readable = (seg for seg in image.segs if seg.version not in self._unreadable)
            newest = next(readable, None)
            if newest is not None and _is_newer(newest, labels.get(FINAL)):
                info: dict[str, Any] = {WAITING: newest.series_uid, "seg_made": newest.when}
                info |= {"ts": int(time.time()), "name": f"{image_id}.nii.gz"}
                labels[FINAL] = DataModel(info=info, ext=".nii.gz")
                changed += 1
        return changed

    def _remove_non_existing(self) -> int:
        """Leave out what is no more in the PACS, and labels whose files are gone.

        Of a study that the PACS fails at nobody knows what is there.
        """
        self._init_from_datastore_file()
        entries, changed = self._datastore.objects, 0
        for image_id, entry in list(entries.items()) if self._has_looked else ():
            study_uid = entry.image.info.get("StudyInstanceUID")
            if image_id not in self._listing.images and study_uid not in self._listing.failed:
                del entries[image_id]
                changed += 1
        for image_id, entry in entries.items():
            for tag, label in list(entry.labels.items()):
                file = Path(self._datastore.label_path(tag), f"{image_id}{label.ext}")
                waiting = _awaited(label)
                if not file.is_file() if waiting is None else waiting in self._unreadable:
                    del entry.labels[tag]
                    changed += 1
        return changed


def after_silence(since_s: float) -> float:
    """Return when a PACS may be asked again that has not answered since a moment.

    All requests wait while one does: a server that is slow to fail would be at nothing else.
    """
    now_s = time.monotonic()
    return now_s + PATIENCE * (now_s - since_s)


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
    }


def _awaited(label: DataModel) -> tuple[str, str] | None:
    uid = label.info.get(WAITING)
    return None if uid is None else (uid, label.info.get("seg_made", ""))


def _is_newer(seg: RemoteSeg, label: DataModel | None) -> bool:
    """Tell whether a segmentation of the PACS takes the place of a label."""
    if label is None:
        return True
    if "seg_made" in label.info:
        return bool(seg.when > label.info["seg_made"])
    saved = datetime.fromtimestamp(label.info.get("ts", 0), UTC).strftime(WHEN)
    return seg.series_uid != label.info.get("dicom_seg") and seg.when > saved


def _looking(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def looked(self: PacsIndex, *args: Any, **kwargs: Any) -> Any:
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
    setattr(PacsIndex, _name, _looking(getattr(StudiesDatastore, _name)))
