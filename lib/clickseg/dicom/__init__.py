"""DICOM in and out: MR series, which series of a study is which, and segmentations."""
