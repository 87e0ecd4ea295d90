"""Masks as DICOM Segmentation (SEG): written on the slices of a series, read by position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid
from pydicom.valuerep import format_number_as_ds
from skimage.color import rgb2lab

from clickseg.dicom.planes import IN_ONE_FILE, MALFORMED, is_enhanced, planes_of, stack
from clickseg.dicom.tumor import CATEGORY, NEOPLASM, SCHWANNOMA, tumor_of, zone_of_study
from clickseg.geometry import Grid, ijk_to_ras, ras_to_ijk
from clickseg.study import check_same_grid
from clickseg.volume import ImageError, Volume

LEARNED = Code("123110", "DCM", "Artificial Intelligence")
NAME = "Vestibular schwannoma"
"""What the segment is called where nothing else is wanted."""

COLOR = (230, 60, 60)
"""Red, green and blue in which viewers are asked to show it."""

_COPIED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
)
"""What a SEG takes over from its image."""

OFF_GRID = 0.05
"""A pixel of a SEG may lie this many voxels from the center of the voxel it stands for."""


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Who made a mask: an algorithm and its version, alone or led by a user's clicks."""

    name: str
    version: str
    kind: Literal["AUTOMATIC", "SEMIAUTOMATIC"] = "SEMIAUTOMATIC"


def write_seg(
    label: Volume,
    source: Sequence[Dataset],
    maker: Maker,
    *,
    name: str = NAME,
    series_description: str = NAME,
    series_number: int = 300,
    color: tuple[int, int, int] = COLOR,
    label_time: datetime | None = None,
) -> Dataset:
    """Make a SEG of a mask, as a new series of the study of its image.

    It holds the slices with tumor alone; of an empty mask it holds all slices, empty.

    Args:
        label: the mask, on the grid of the series; what is not zero is tumor.
        source: the headers of the series in any order, one slice each, or one of all slices.
        maker: what made the mask.
        name: what viewers call the segment.
        series_description: what viewers call the series.
        series_number: its number within the study.
        color: red, green and blue, 0 to 255.
        label_time: when the mask was made, in the zone of this machine where it says none; None
            is now.

    Raises:
        ImageError: if the mask lies on another grid, or ``source`` is no series of slices with a
            frame of reference, or one of several files of many slices: highdicom refers to the
            frames of one file only.
    """
    if not source:
        raise ImageError("a series has at least one file, got none")
    if len(source) > 1 and any(is_enhanced(header) for header in source):
        raise ImageError(f"a SEG was wanted of {len(source)} files of many slices; {IN_ONE_FILE}")
    order, grid = stack([plane for header in source for plane in planes_of(header)])
    check_same_grid(label, grid, "the mask")
    pixels = np.empty(grid.shape[::-1], np.uint8)
    pixels[order] = (label.array != 0).transpose()
    dataset: Dataset = hd.seg.Segmentation(
        source_images=[_completed(header, grid) for header in source],
        pixel_array=pixels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(name, maker, color)],
        series_instance_uid=generate_uid(),
        series_number=series_number,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=maker.name,
        manufacturer_model_name=maker.name,
        software_versions=maker.version,
        device_serial_number="0",
        content_label="SEGMENTATION",
        content_description=name[:64],
        omit_empty_frames=bool(pixels.any()),
    )
    dataset.SeriesDescription = series_description[:64]
    # One zone counts for all times, those that are copied from the image among them.
    made = (label_time or datetime.now()).astimezone(zone_of_study(source[0]))
    now = datetime.now().astimezone(made.tzinfo)
    dataset.TimezoneOffsetFromUTC = made.strftime("%z")
    for of, when in (("InstanceCreation", now), ("Series", made), ("Content", made)):
        setattr(dataset, f"{of}Date", when.strftime("%Y%m%d"))
        setattr(dataset, f"{of}Time", when.strftime("%H%M%S.%f"))
    return dataset


def read_seg(dataset: Dataset, grid: Grid) -> Volume:
    """Put the tumor of a SEG on the grid of its image, each pixel where it lies.

    Slices may be missing (they are empty), cropped, in any order or direction.

    Returns:
        A mask of uint8 0/1 on ``grid``.

    Raises:
        ImageError: if this is no SEG, it is not clear which segment is the tumor, or pixels of it
            lie between the voxels of ``grid`` or outside of it.
    """
    try:
        return _read(dataset, grid)
    except ImageError:
        raise
    except MALFORMED as error:
        raise ImageError(f"the SEG is not as DICOM has one: {error}") from error


def _read(dataset: Dataset, grid: Grid) -> Volume:
    number = tumor_of(dataset)
    array = np.zeros(grid.shape, np.uint8)
    largest = float(dataset.get("MaximumFractionalValue") or 1)
    try:
        frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    except (AttributeError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ImageError(f"the pixels of the SEG cannot be read: {error}") from error
    segments = list(_segments_of_frames(dataset))
    for frame, segment, plane in zip(frames, segments, planes_of(dataset), strict=True):
        if segment != number:
            continue
        steps_ras = plane.axes_ras * plane.spacing_mm
        steps_ijk = np.linalg.inv(grid.affine)[:3, :3] @ steps_ras
        _check_on_grid(steps_ijk, "axes")
        if not np.array_equal(np.abs(np.rint(steps_ijk)).sum(axis=0), [1, 1]):
            raise ImageError("a SEG with the pixel size of its image was wanted, this has another")
        corner_ijk = ras_to_ijk(plane.corner_ras, grid.affine)
        rows, columns = np.nonzero(frame.astype(np.float32) * 2 >= largest)
        points_ijk = corner_ijk + np.stack([columns, rows], axis=1) @ steps_ijk.T
        _check_on_grid(points_ijk, "pixels")
        voxels = np.rint(points_ijk).astype(int)
        if ((voxels < 0) | (voxels >= grid.shape)).any():
            at_mm = ijk_to_ras(voxels[:1], grid.affine)[0].round(1).tolist()
            raise ImageError(f"the SEG reaches out of its image, at RAS {at_mm} mm")
        array[tuple(voxels.T)] = 1
    return Volume(array, grid)


def _completed(header: Dataset, grid: Grid) -> Dataset:
    """Return a header with what highdicom wants of it, left empty where the PACS has it not."""
    if not header.get("FrameOfReferenceUID"):
        raise ImageError("a SEG lies in the frame of reference of its image, which has none")
    completed = Dataset()
    completed.update(header)
    for name in _COPIED:
        if name not in completed:
            setattr(completed, name, "")
    if is_enhanced(header):
        completed.SharedFunctionalGroupsSequence = [_shared(header)]
    elif not completed.get("SliceThickness"):
        completed.SliceThickness = format_number_as_ds(float(grid.spacing_mm[2]))
    return completed


def _shared(header: Dataset) -> Dataset:
    """Return what all frames have in common; highdicom looks for it nowhere else.

    Files may say of each frame what is the same for all.
    """
    frame, shared = header.PerFrameFunctionalGroupsSequence[0], Dataset()
    for group in header.get("SharedFunctionalGroupsSequence", []):
        shared.update(group)
    for name in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
        if name not in shared and name not in frame:
            raise ImageError(f"a SEG was wanted of a file that has no {name}")
        if name not in shared:
            shared[name] = frame[name]
    return shared


def _description(name: str, maker: Maker, color: tuple[int, int, int]) -> hd.seg.SegmentDescription:
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=name[:64],
        segmented_property_category=CATEGORY,
        segmented_property_type=NEOPLASM,
        algorithm_type=maker.kind,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=maker.name, family=LEARNED, version=maker.version
        ),
    )
    modifier = hd.sr.CodedConcept(
        SCHWANNOMA.value, SCHWANNOMA.scheme_designator, SCHWANNOMA.meaning
    )
    description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
        modifier
    ]
    light, a, b = rgb2lab(np.array(color) / 255)
    # DICOM spreads 0 to 100, and -128 to 127, over 16 bits.
    scaled = (light / 100 * 65535, (a + 128) / 255 * 65535, (b + 128) / 255 * 65535)
    description.RecommendedDisplayCIELabValue = [round(value) for value in scaled]
    return description


def _segments_of_frames(dataset: Dataset) -> Iterator[int]:
    """Yield the numbers; a file of one frame may say them of all its frames."""
    shared = list(dataset.get("SharedFunctionalGroupsSequence", []))
    for frame in dataset.get("PerFrameFunctionalGroupsSequence", []) or [dataset]:
        groups = [group for group in (frame, *shared) if group.get("SegmentIdentificationSequence")]
        if not groups:
            raise ImageError("the SEG does not say which frame is of which segment")
        yield int(groups[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _check_on_grid(values_ijk: NDArray[Any], what: str) -> None:
    off = np.abs(values_ijk - np.rint(values_ijk)).max(initial=0)
    if off > OFF_GRID:
        raise ImageError(f"the {what} of the SEG lie {off:.2f} voxels beside those of its image")
