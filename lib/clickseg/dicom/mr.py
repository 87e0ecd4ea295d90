"""Write an image as a series of classic MR Images, one file a slice.

Index I of the array runs along the rows of a slice, J along its columns, K from slice to slice.
A slice is placed by its own position, so that any orientation can be written. Readers order slices
along the cross product of both directions within them: an array whose K runs against it (as one of
axes left, anterior, superior) comes back with K reversed, each voxel where it was.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from clickseg.atomic import PART
from clickseg.geometry import LPS_FROM_RAS, Grid
from clickseg.volume import SHEAR, ImageError, Volume

_LEVELS = 65535
"""How many steps a value that is no whole number is rounded to."""


@dataclass(frozen=True, kw_only=True)
class SeriesHeader:
    """What a series says of itself; of the patient it says the id of the study, nothing else.

    ``contrast_agent`` is None where none was given. Times are in ms; ``study_date`` is YYYYMMDD.
    ``sequence``: the values of ScanningSequence and SequenceVariant.
    """

    patient_id: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    series_number: int
    series_description: str
    sequence_name: str
    contrast_agent: str | None
    echo_time_ms: float
    repetition_time_ms: float
    sequence: tuple[str, str] = ("GR", "NONE")
    field_strength_t: float = 1.5
    manufacturer: str = ""
    study_description: str = ""
    study_date: str = ""


def headers_of(case_id: str) -> tuple[SeriesHeader, SeriesHeader]:
    """Return what the T1ce and the T2 of a study say that was no DICOM: one frame of reference.

    Descriptions and times are those of a scanner that served in radiosurgery.
    """
    t1ce = SeriesHeader(
        patient_id=case_id,
        study_uid=uid_of(case_id),
        frame_of_reference_uid=uid_of(case_id, "frame of reference"),
        manufacturer="clickseg",
        study_description="MRI internal auditory canal",
        series_uid=uid_of(case_id, "t1ce"),
        series_number=2,
        series_description="t1_fl3d_tra_gk_v1",
        sequence_name="*fl3d1",
        contrast_agent="Gadolinium",
        echo_time_ms=4.1,
        repetition_time_ms=25.0,
    )
    t2 = replace(
        t1ce,
        series_uid=uid_of(case_id, "t2"),
        series_number=3,
        series_description="t2_ci3d_tra_1.5mm_v2_448",
        sequence_name="*ci3d1",
        contrast_agent=None,
        echo_time_ms=4.2,
        repetition_time_ms=9.4,
    )
    return t1ce, t2


def uid_of(*names: str) -> str:
    """Return the UID that belongs to names: always the same for the same ones."""
    return str(generate_uid(entropy_srcs=["clickseg", *names]))


def write_series(
    volume: Volume,
    folder: Path,
    header: SeriesHeader,
    *,
    descending: bool = False,
    replace: bool = False,
) -> list[Path]:
    """Write an image as an MR series, all files or none.

    Whole numbers of 16 bits are kept; other values are rounded to 65536 steps and scaled.

    Args:
        volume: the image, ``(I, J, K)``.
        folder: where the files go; it must be missing or empty, unless ``replace``.
        header: what the series says of itself.
        descending: let instance numbers fall as K rises, as some scanners do.
        replace: remove what is in the folder, once all that takes its place is written.

    Returns:
        The files in the order of K.

    Raises:
        ImageError: if the folder holds something, or the image cannot be written so: values that
            are not finite, axes that are not at right angles.
    """
    if not replace and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ImageError(f"an empty folder was wanted for a series, {folder} is there already")
    stored, slope, intercept = _stored(volume.array)
    common = _common(header, volume.grid)
    common.PixelRepresentation = int(stored.dtype == np.int16)
    _set_window(common, volume.array)
    if (slope, intercept) != (1, 0):
        common.RescaleSlope, common.RescaleIntercept = slope, intercept
        common.RescaleType = "US"  # unspecified
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f"{PART}{folder.name}-", dir=folder.parent))
    names = []
    try:
        for k in range(stored.shape[2]):
            number = stored.shape[2] - k if descending else k + 1
            dataset = _slice(common, volume.grid, k, number)
            dataset.PixelData = stored[:, :, k].T.tobytes()
            names.append(f"{number:04d}.dcm")
            dataset.save_as(part / names[-1], write_like_original=False)
        part.chmod(0o755)  # a temporary folder is for its owner alone
        if replace and folder.exists():
            shutil.rmtree(folder)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return [folder / name for name in names]


def _stored(array: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
    """Return what is stored, little endian, with the slope and intercept that undo it."""
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise ImageError("values that are not finite (NaN or infinity) cannot be written as DICOM")
    if np.issubdtype(array.dtype, np.integer) or np.array_equal(array, np.rint(array)):
        for kind in (np.dtype("<u2"), np.dtype("<i2")):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return array.astype(kind), 1.0, 0.0
    slope = float(format_number_as_ds((high - low) / _LEVELS or 1.0))
    intercept = float(format_number_as_ds(low))
    steps = np.rint((array.astype(np.float64) - intercept) / slope)
    return np.clip(steps, 0, _LEVELS).astype("<u2"), slope, intercept


def _common(header: SeriesHeader, grid: Grid) -> Dataset:
    """Return what all slices say alike."""
    lps = (LPS_FROM_RAS @ grid.affine)[:3, :3] / grid.spacing_mm
    if np.abs(lps.T @ lps - np.eye(3)).max() > SHEAR:
        raise ImageError(f"DICOM has slices at right angles to their order, got {lps.tolist()}")
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    dataset.SOPClassUID = MRImageStorage
    dataset.StudyDate = dataset.SeriesDate = header.study_date
    dataset.StudyTime = dataset.SeriesTime = ""
    dataset.AccessionNumber = dataset.ReferringPhysicianName = dataset.StudyID = ""
    dataset.Modality = "MR"
    dataset.Manufacturer = header.manufacturer
    dataset.StudyDescription = header.study_description
    dataset.SeriesDescription = header.series_description
    dataset.PatientName = dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.PatientID = header.patient_id
    if header.contrast_agent is not None:
        dataset.ContrastBolusAgent = header.contrast_agent
    dataset.BodyPartExamined = "HEAD"
    dataset.ScanningSequence, dataset.SequenceVariant = header.sequence
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "3D"
    dataset.SequenceName = header.sequence_name
    dataset.SliceThickness = dataset.SpacingBetweenSlices = _ds(grid.spacing_mm[2])
    dataset.RepetitionTime = _ds(header.repetition_time_ms)
    dataset.EchoTime = _ds(header.echo_time_ms)
    dataset.EchoTrainLength = 1
    dataset.MagneticFieldStrength = _ds(header.field_strength_t)
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = header.study_uid
    dataset.SeriesInstanceUID = header.series_uid
    dataset.SeriesNumber = header.series_number
    dataset.FrameOfReferenceUID = header.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.ImageOrientationPatient = [_ds(value) for value in lps[:, :2].T.ravel()]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Columns, dataset.Rows = grid.shape[:2]
    dataset.PixelSpacing = [_ds(grid.spacing_mm[1]), _ds(grid.spacing_mm[0])]  # rows, columns
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    return dataset


def _slice(common: Dataset, grid: Grid, k: int, number: int) -> Dataset:
    """Return one slice without its pixels."""
    dataset = Dataset()
    dataset.update(common)
    dataset.SOPInstanceUID = uid_of(common.SeriesInstanceUID, str(k))
    dataset.InstanceNumber = number
    position = (LPS_FROM_RAS @ grid.affine @ [0, 0, k, 1])[:3]
    dataset.ImagePositionPatient = [_ds(value) for value in position]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    return dataset


def _set_window(dataset: Dataset, array: NDArray[Any]) -> None:
    """Let viewers begin with a view from the darkest to nearly the brightest."""
    low, high = np.percentile(array[::4, ::4].astype(np.float32), (1, 99.5))
    dataset.WindowCenter = _ds((low + high) / 2)
    dataset.WindowWidth = _ds(max(high - low, 1))


def _ds(value: float) -> str:
    """Return a number as text of at most 16 characters, which is what DICOM allows."""
    return str(format_number_as_ds(float(value)))
