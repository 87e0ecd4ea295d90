"""Read and write 3D images; refuse what is not one, with a sentence that says why.

SimpleITK says where the voxels lie: it is what 3D Slicer reads with, so where a NIfTI file holds
two geometries (qform and sform) both see the same one. The pixels of NIfTI files are read by
nibabel and the checksum of gzip is looked at: ITK fills what a truncated file lacks with zeros
and says nothing. Formats: ``.nii``, ``.nii.gz``, ``.nrrd``.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813  # its documented name
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, ImageDataError
from numpy.typing import NDArray
from scipy import linalg

from clickseg.atomic import replacing
from clickseg.geometry import LPS_FROM_RAS, Grid

EXTENSIONS = (".nii.gz", ".nii", ".nrrd")
"""The file name endings of images, in the order in which they are looked for."""

SHEAR = 1e-3
"""Axes whose directions have a larger scalar product are refused: distances would be wrong."""

ROUNDING = 1e-6
"""Those with a larger one are turned to right angles, by less than 0.3 mm at the end of a head."""

MAX_VOXELS = 128 * 1024 * 1024
"""Larger images are refused before their pixels are read: two such sequences take 1 GB."""

MAX_EXTENT_MM = 600.0
"""A head is 250 mm long. Networks look at mm, not at voxels: a huge one would take minutes."""

_DAMAGED = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    zlib.error,
    ImageFileError,
    HeaderDataError,
    ImageDataError,
)
"""What reading a damaged file may raise."""

_LARGEST_VOXEL = 16
"""Bytes of a voxel of the largest kind."""

_LARGEST_HEADER = 1 << 20
"""More bytes than any header with its extensions has."""

_NIFTI_HEADER = 352
"""Bytes of a NIfTI-1 header; ITK reads no NIfTI-2."""

_NRRD_HEADER = 4096
"""More bytes than the header of an NRRD file that ITK writes here."""


class ImageError(ValueError):
    """An image file is not what was wanted; the text says what was wanted and what came."""


@dataclass(frozen=True)
class Volume:
    """A 3D array ``(I, J, K)`` and the grid it lies on."""

    array: NDArray[Any]
    grid: Grid

    def __post_init__(self) -> None:
        """Check that the two belong together.

        Raises:
            ValueError: if their shapes differ.
        """
        if self.array.shape != self.grid.shape:
            raise ValueError(f"array is {self.array.shape}, grid is {self.grid.shape}")


def stem_of(path: Path) -> str:
    """Return the file name without the image ending: the id of a case.

    Raises:
        ImageError: if the file does not end as an image does.
    """
    for extension in EXTENSIONS:
        if path.name.endswith(extension):
            return path.name[: -len(extension)]
    raise ImageError(f"an image ends in one of {', '.join(EXTENSIONS)}; got {path.name!r}")


def find_image(folder: Path, stem: str) -> Path | None:
    """Return the image called ``stem`` in ``folder``, or None."""
    candidates = (folder / f"{stem}{extension}" for extension in EXTENSIONS)
    return next((path for path in candidates if path.is_file()), None)


def read_volume(path: Path) -> Volume:
    """Read a 3D image as float32.

    Raises:
        ImageError: if the file is missing, empty, truncated or not an image, is not 3D, has
            several components or too many voxels, no invertible affine, or values that are not
            finite.
    """
    grid, array = _read(path)
    flat = array.ravel("K")
    # One pass without a temporary array; only an overflow of the sum needs the slow look.
    if not np.isfinite(np.dot(flat, flat)) and not np.isfinite(flat).all():
        raise ImageError(f"{path.name} holds values that are not finite (NaN or infinity)")
    return Volume(array, grid)


def read_label(path: Path) -> Volume:
    """Read a mask as uint8: 1 where the file is not zero.

    Raises:
        ImageError: as for ``read_volume``.
    """
    volume = read_volume(path)
    return Volume((volume.array != 0).astype(np.uint8), volume.grid)


def write_volume(
    path: Path, volume: Volume, compress: bool | None = None, is_to_last: bool = True
) -> Path:
    """Write an image beside its place and move it there: no reader sees half a file.

    Args:
        path: where to; its ending chooses the format.
        volume: the image. Its dtype is kept.
        compress: None compresses as the format usually is: ``.nii.gz`` only.
        is_to_last: see ``replacing``.

    Returns:
        ``path``.

    Raises:
        ImageError: if its path is no text.
        OSError: if it cannot be written; the file that was there is as it was.
    """
    stem_of(path)
    _refuse_unspeakable(path)
    image = as_image(volume)
    suffix = next(extension for extension in EXTENSIONS if path.name.endswith(extension))
    is_gzip = suffix == ".nii.gz" or (suffix == ".nrrd" and bool(compress))
    with replacing(path, suffix, is_to_last) as part:
        try:
            sitk.WriteImage(image, str(part), is_gzip)
        except RuntimeError as error:
            raise OSError(f"{path.name} cannot be written: {_last_line(error)}") from error
        # ITK may say nothing of a full disk.
        if not _is_whole(part, volume.array.nbytes, is_gzip):
            raise OSError(errno.ENOSPC, f"{path.name} was to be written, only a part of it could")
    return path


def _is_whole(path: Path, voxel_bytes: int, is_gzip: bool) -> bool:
    """Tell whether a file that ITK wrote ends with its last voxel; gzip tells how many it got."""
    is_nrrd = path.name.endswith(".nrrd")
    with path.open("rb") as file:
        header = file.read(_NRRD_HEADER).find(b"\n\n") + 2 if is_nrrd else _NIFTI_HEADER
        size = file.seek(0, os.SEEK_END)
        if not is_gzip:
            return size == header + voxel_bytes
        file.seek(max(0, size - 4))
        told = int.from_bytes(file.read(), "little")
    return told == (voxel_bytes if is_nrrd else header + voxel_bytes) % (1 << 32)


def _read(path: Path) -> tuple[Grid, NDArray[np.float32]]:
    """Read a file after a look at its header."""
    stem_of(path)
    _refuse_unspeakable(path)
    if not path.is_file():
        raise ImageError(f"there is no image {path.name}")
    if path.stat().st_size == 0:
        raise ImageError(f"{path.name} is an empty file, not an image")
    is_nrrd = path.name.endswith(".nrrd")
    if is_nrrd:
        _refuse_detached(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if is_nrrd else "NiftiImageIO")  # not what the content claims
    reader.SetFileName(str(path))
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    size = reader.GetSize()
    if len(size) < 3 or max(size[3:], default=1) > 1:
        raise ImageError(f"{path.name} is {len(size)}D {size}, a 3D image was wanted")
    if reader.GetNumberOfComponents() != 1:
        count = reader.GetNumberOfComponents()
        raise ImageError(f"{path.name} has {count} values a voxel, one was wanted")
    if int(np.prod(size)) > MAX_VOXELS:
        raise ImageError(f"{path.name} has {size} voxels, at most {MAX_VOXELS} are allowed")
    extent_mm = max(n * mm for n, mm in zip(size, reader.GetSpacing(), strict=True))
    if not extent_mm <= MAX_EXTENT_MM:
        raise ImageError(
            f"{path.name} is {extent_mm:.0f} mm long, at most {MAX_EXTENT_MM:.0f} mm are allowed: "
            "is its voxel size in mm?"
        )
    try:
        if is_nrrd:
            array = sitk.GetArrayFromImage(reader.Execute()).transpose()
        else:
            array = _nifti_pixels(path, int(np.prod(size)))
        array = array.reshape(size[:3], order="F")
    except ImageError:
        raise
    except _DAMAGED as error:
        raise _unreadable(path, error) from error
    return _grid_of(reader, path), array


def _refuse_unspeakable(path: Path) -> None:
    """Refuse a path that is no text: SimpleITK ends the whole process on it."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ImageError(f"a path in UTF-8 was wanted, got {str(path)!a}") from error


def _refuse_detached(path: Path) -> None:
    """Refuse an NRRD header that names another file: ITK would read whatever file it names.

    ITK also ends a line at a lone carriage return. A header with one, or so long that its end is
    not seen here, is refused: what is looked at must be what ITK reads.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST_HEADER).replace(b"\r\n", b"\n")
    header, end, _ = content.partition(b"\n\n")
    if not end or b"\r" in header:
        raise ImageError(
            f"{path.name} has no header of an NRRD file: lines up to an empty one, "
            f"at most {_LARGEST_HEADER} bytes, were wanted"
        )
    if re.search(rb"^\s*data ?file\s*:", header.lower(), re.MULTILINE):
        raise ImageError(f"{path.name} keeps its voxels in another file; one file was wanted")


def _unreadable(path: Path, error: Exception) -> ImageError:
    return ImageError(f"{path.name} cannot be read as an image: {_last_line(error)}")


def _last_line(error: Exception) -> str:
    """Return what an error says; ITK says where in its code first."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()


def _nifti_pixels(path: Path, voxels: int) -> NDArray[np.float32]:
    """Return the pixels of a NIfTI file, whole or not at all."""
    largest = voxels * _LARGEST_VOXEL + _LARGEST_HEADER
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        content = file.read(largest + 1)  # up to its end, where gzip has its checksum
    if len(content) > largest:
        raise ImageError(f"{path.name} holds more than the {voxels} voxels that its header tells")
    image = nib.Nifti1Image.from_bytes(content)
    if image.dataobj.offset < _NIFTI_HEADER:  # ITK reads on behind the header
        raise ImageError(
            f"{path.name} says that its voxels begin at byte {image.dataobj.offset}, which is "
            f"within its header of {_NIFTI_HEADER}"
        )
    return np.asarray(np.asanyarray(image.dataobj), dtype=np.float32)


def _grid_of(image: sitk.ImageFileReader, path: Path) -> Grid:
    dim = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(dim, dim)[:3, :3]
    shear = np.abs(direction.T @ direction - np.eye(3)).max()
    if shear > SHEAR:
        raise ImageError(f"{path.name} has axes that are not at right angles: {direction.tolist()}")
    if shear > ROUNDING:  # as NIfTI has them: a label in it is to lie on the grid of its image
        direction, _ = linalg.polar(direction)
    lps = np.eye(4)
    lps[:3, :3] = direction * np.array(image.GetSpacing()[:3])
    lps[:3, 3] = image.GetOrigin()[:3]
    try:
        return Grid(image.GetSize()[:3], LPS_FROM_RAS @ lps)
    except ValueError as error:
        raise ImageError(f"{path.name}: {error}") from error


def as_image(volume: Volume) -> sitk.Image:
    """Return an image as SimpleITK's, with its geometry in LPS."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.transpose()))
    set_geometry(image, volume.grid)
    return image


def set_geometry(image: sitk.Image, grid: Grid) -> None:
    """Say where the voxels of an image of SimpleITK lie."""
    lps = LPS_FROM_RAS @ grid.affine
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    # Rounded, since ITK finds no voxel where an entry is next to nothing, as 1e-309 is.
    image.SetDirection((lps[:3, :3] / grid.spacing_mm).round(12).ravel().tolist())
