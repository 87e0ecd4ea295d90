"""The public VS-SEG data set as it was downloaded: what belongs to which patient.

Folders may have any names, those of the archive's two naming schemes among them: DICOM files are
told apart by what they say of themselves. Outlines (``contours.json``) and registrations
(``inv_T1_LPS_to_T2_LPS.tfm`` and its inverse) are published as two ZIP files; they may lie anywhere
below the source, unpacked or not, or be missing.

Source: Shapey et al. 2021, Vestibular-Schwannoma-SEG, The Cancer Imaging Archive,
doi 10.7937/TCIA.9YTJ-5Q73, CC BY 4.0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as checked_dataclass
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from clickseg.config import load_recipe
from clickseg.importing.documents import Document, documents_in, label_of
from clickseg.importing.source import ImportingError
from clickseg.importing.transforms import T1_FROM_T2, T2_FROM_T1
from clickseg.training.split import Split

SPLIT = Path(__file__).with_name("vs-seg-split.yaml")
PATIENT = re.compile(r"VS-SEG-\d{3}")

PROVENANCE = {
    "collection": "Vestibular-Schwannoma-SEG",
    "doi": "10.7937/TCIA.9YTJ-5Q73",
    "license": "CC BY 4.0",
}


@dataclass(frozen=True)
class Found:
    """What was found of one patient.

    ``images`` are the files of each MR series by its UID, each slice once however often it was
    downloaded; ``plans`` are the RTSTRUCT files;
    ``contours`` the published outlines by the series that they were drawn on, ``transforms`` the
    registrations by what they are called.
    """

    patient: str
    images: dict[str, dict[str, Path]] = field(default_factory=dict)
    plans: dict[str, Path] = field(default_factory=dict)
    contours: dict[str, Document] = field(default_factory=dict)
    transforms: dict[str, Document] = field(default_factory=dict)


@dataclass(frozen=True)
class Scan:
    """All that lies below a folder. ``others`` counts DICOM files of patients of no such name."""

    found: dict[str, Found]
    others: int
    broken: tuple[str, ...]
    """Files that cannot be read, and why."""


def scan(source: Path, advance: Callable[[], None] = lambda: None) -> Scan:
    """Look at every file below a folder.

    Args:
        source: where the download is.
        advance: called once a file.

    Raises:
        ImportingError: if there is no such folder, or nothing of the data set in it.
    """
    if not source.is_dir():
        raise ImportingError(f"a folder of the VS-SEG download was wanted, {source} is none")
    found: dict[str, Found] = {}
    others = 0
    broken: list[str] = []
    for path in files_below(source):
        advance()
        with _noting(broken):
            if _may_be_dicom(path):
                others += not _add_dicom(found, path)
                continue
            for document in documents_in(path):
                with _noting(broken):
                    _add_document(found, document)
    with_images = {name: found[name] for name in sorted(found) if found[name].images}
    if not with_images:
        raise ImportingError(
            f"MR series of patients VS-SEG-001, ... were wanted, {source} has none"
        )
    return Scan(with_images, others, tuple(broken))


def files_below(folder: Path) -> Iterable[Path]:
    """Return the files below a folder in a fixed order, without hidden ones."""
    return (path for path in sorted(folder.rglob("[!.]*")) if path.is_file())


@contextmanager
def _noting(broken: list[str]) -> Iterator[None]:
    """Note what cannot be read, and go on behind it."""
    try:
        yield
    except ImportingError as error:
        broken.append(str(error))


def _may_be_dicom(path: Path) -> bool:
    return path.suffix.lower() in (".dcm", ".ima", "") and path.name != "DICOMDIR"


def _add_dicom(found: dict[str, Found], path: Path) -> bool:
    """Note a DICOM file; return whether it is of a patient of the data set, or no DICOM at all.

    Raises:
        ImportingError: if it is DICOM, and damaged.
    """
    tags = ["PatientID", "Modality", "SeriesInstanceUID", "SOPInstanceUID"]
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=tags)
        patient, modality, series_uid, uid = (str(header.get(tag, "")) for tag in tags)
    except InvalidDicomError:
        return True
    except Exception as error:  # whatever the damage leads pydicom to; one file of 40 000
        text = str(error) or type(error).__name__
        raise ImportingError(f"{path.name} cannot be read as DICOM: {text}") from error
    if not PATIENT.fullmatch(patient):
        return False
    one = found.setdefault(patient, Found(patient))
    if modality == "MR":
        one.images.setdefault(series_uid, {}).setdefault(uid, path)
    elif modality == "RTSTRUCT":
        one.plans.setdefault(uid, path)
    return True


def _add_document(found: dict[str, Found], document: Document) -> None:
    label = label_of(document)
    if label is None:
        return
    one = found.setdefault(label.patient, Found(label.patient))
    kind = next((name for name in (T2_FROM_T1, T1_FROM_T2) if name in document.name), None)
    if kind is not None:
        one.transforms.setdefault(kind, document)
    elif "contours" in document.name and label.series_uid:
        one.contours.setdefault(label.series_uid, document)


@checked_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class SplitRules:
    """The official split by numbers of patients; see ``vs-seg-split.yaml``."""

    training: tuple[int, int]
    validation: tuple[int, int]
    test: tuple[int, int]
    absent: tuple[int, ...]

    def patients(self, first_last: tuple[int, int]) -> tuple[str, ...]:
        """Return the ids of the patients of a range, both ends in it."""
        first, last = first_last
        return tuple(f"VS-SEG-{n:03d}" for n in range(first, last + 1) if n not in self.absent)


@cache
def official_split() -> Split:
    """Return the split that the data set was published with: 176, 20 and 46 patients."""
    rules = load_recipe(SPLIT, SplitRules)
    return Split(*(rules.patients(side) for side in (rules.training, rules.validation, rules.test)))
