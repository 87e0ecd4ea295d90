"""Read a DICOM series as an image.

Voxels are in the order in which SimpleITK's series reader has them, which is the order of MONAI
Label's conversion and of OHIF: I along rows, J along columns, K along their cross product. So a
click that OHIF sends as voxel indices is one of this array, however the scanner numbered slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813  # its documented name
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from clickseg.dicom.planes import Plane, planes_of, stack
from clickseg.volume import MAX_VOXELS, ImageError, Volume

_PIXEL_DATA = 0x7FE00010
_DEFERRED_BYTES = 1024
"""What is longer is left on the disk where only its length is wanted."""


def read_headers(files: Sequence[Path]) -> list[Dataset]:
    """Read the headers of a series, without pixels, in the order of ``files``.

    Raises:
        ImageError: if there is none, one cannot be read, or they are not of one series.
    """
    if not files:
        raise ImageError("a series has at least one file, got none")
    headers = [_header(path) for path in files]
    uids = sorted({str(header.get("SeriesInstanceUID")) for header in headers})
    if len(uids) > 1:
        raise ImageError(f"files of one series were wanted, got {len(uids)}: {', '.join(uids)}")
    return headers


def read_series(files: Sequence[Path]) -> Volume:
    """Read the files of one series, in any order, as float32 with the file's rescaling applied.

    Classic images have one slice a file; enhanced ones have all in one.

    Raises:
        ImageError: if the files are no even stack of slices of one series, or cannot be read.
    """
    headers = read_headers(files)
    planes: list[Plane] = []
    for path, header in zip(files, headers, strict=True):
        if header.get("SamplesPerPixel", 1) != 1:
            raise ImageError(f"{path.name} has colors, an MRI was wanted")
        _refuse_uneven_scale(path, header)
        try:
            planes.extend(planes_of(header))
        except ImageError as error:
            raise ImageError(f"{path.name}: {error}") from error
        _refuse_missing_pixels(path, header)
    order, grid = stack(planes)
    if int(np.prod(grid.shape)) > MAX_VOXELS:
        raise ImageError(f"a series has {grid.shape} voxels, at most {MAX_VOXELS} are allowed")
    slices = np.concatenate([_pixels(path) for path in files])
    if slices.shape != grid.shape[::-1]:
        raise ImageError(f"{grid.shape} voxels were wanted, the files hold {slices.shape[::-1]}")
    if not np.isfinite(slices).all():
        raise ImageError("a series holds values that are not finite (NaN or infinity)")
    return Volume(slices[order].transpose(), grid)


def _header(path: Path) -> Dataset:
    try:
        return dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError) as error:
        raise ImageError(f"{path.name} cannot be read as DICOM: {error}") from error


def _refuse_uneven_scale(path: Path, header: Dataset) -> None:
    """Refuse frames that are scaled differently: SimpleITK applies the first one's to all."""
    found = set()
    for frame in header.get("PerFrameFunctionalGroupsSequence", []):
        for item in frame.get("PixelValueTransformationSequence", []):
            found.add((float(item.RescaleSlope), float(item.RescaleIntercept)))
    if len(found) > 1:
        raise ImageError(f"{path.name} scales its frames in {len(found)} ways, one was wanted")


def _refuse_missing_pixels(path: Path, header: Dataset) -> None:
    """Refuse a file with fewer pixels than it says: SimpleITK fills up with what is in memory."""
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None or syntax.is_compressed:
        return
    held = dcmread(path, specific_tags=["PixelData"], defer_size=_DEFERRED_BYTES).values()
    raw = (element for element in held if isinstance(element, RawDataElement))
    count = sum(int(element.length) for element in raw if element.tag == _PIXEL_DATA)
    values = int(header.get("NumberOfFrames") or 1) * header.get("Rows", 0)
    wanted = values * header.get("Columns", 0) * header.get("BitsAllocated", 0) // 8
    if count < wanted:
        raise ImageError(f"{path.name} has {count} bytes of pixels, {wanted} were wanted")


def _pixels(path: Path) -> NDArray[np.float32]:
    """Return the frames of a file, ``(K, J, I)``."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        array: NDArray[np.float32] = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        lines = str(error).strip().splitlines() or ["no reason given"]
        raise ImageError(f"{path.name} cannot be read as DICOM: {lines[-1].strip()}") from error
    return array.reshape(-1, *array.shape[-2:])
