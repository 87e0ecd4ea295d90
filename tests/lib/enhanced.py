"""Enhanced MR images: all slices of a series in one file, as newer scanners write them."""

import io

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, generate_uid

FROM_FRAMES = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "EchoTime",
    "RepetitionTime",
    "SequenceName",
    "ContrastBolusAgent",
)


def item(**values):
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def code(value, meaning):
    return item(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning=meaning)


def enhanced(slices, *, scales=None, measures="SharedFunctionalGroupsSequence", order=None):
    """Make one enhanced image of the slices of a series.

    `order` is that of the frames; without it the last slice comes first. `measures` names the
    group that says how large a pixel is, and which way slices face.
    """
    slices = [slices[index] for index in order or range(len(slices))[::-1]]
    first = slices[0]
    made = Dataset()
    made.update({element.tag: element for element in first if element.keyword not in FROM_FRAMES})
    made.SOPClassUID, made.SOPInstanceUID = EnhancedMRImageStorage, generate_uid()
    made.NumberOfFrames = len(slices)
    made.PulseSequenceName = first.SequenceName
    if "ContrastBolusAgent" in first:
        made.ContrastBolusAgentSequence = [code("105879004", first.ContrastBolusAgent)]
    organization = item(DimensionOrganizationUID=generate_uid())
    made.DimensionOrganizationSequence = [organization]
    made.DimensionIndexSequence = [
        item(
            DimensionOrganizationUID=organization.DimensionOrganizationUID,
            DimensionIndexPointer=0x00209057,  # in-stack position number
            FunctionalGroupPointer=0x00209111,
        )
    ]
    shared = item(
        MRTimingAndRelatedParametersSequence=[item(RepetitionTime=float(first.RepetitionTime))],
    )
    frames = [
        item(
            FrameContentSequence=[
                item(StackID="1", InStackPositionNumber=number, DimensionIndexValues=[number])
            ],
            PlanePositionSequence=[item(ImagePositionPatient=one.ImagePositionPatient)],
            MREchoSequence=[item(EffectiveEchoTime=float(one.EchoTime))],
        )
        for number, one in enumerate(slices, start=1)
    ]
    for frame, (slope, intercept) in zip(frames, scales or (), strict=bool(scales)):
        scale = item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US")
        frame.PixelValueTransformationSequence = [scale]
    for group in [shared] if measures.startswith("Shared") else frames:
        group.PixelMeasuresSequence = [
            item(
                PixelSpacing=first.PixelSpacing,
                SliceThickness=first.SliceThickness,
                SpacingBetweenSlices=first.SpacingBetweenSlices,
            )
        ]
        orientation = item(ImageOrientationPatient=first.ImageOrientationPatient)
        group.PlaneOrientationSequence = [orientation]
    made.SharedFunctionalGroupsSequence = [shared]
    made.PerFrameFunctionalGroupsSequence = frames
    made.PixelData = np.stack([one.pixel_array for one in slices]).tobytes()
    return as_stored(made, first.file_meta)


def as_stored(made, meta):
    """Return a dataset as a file that holds it is read."""
    made.file_meta = FileMetaDataset(meta)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.is_little_endian, made.is_implicit_VR = True, False
    with io.BytesIO() as file:
        pydicom.dcmwrite(file, made, write_like_original=False)
        file.seek(0)
        return pydicom.dcmread(file)
