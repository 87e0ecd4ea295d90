"""3D Slicer's requests, on a real PACS; `tests/app/test_slicer.py` has them step by step."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from slicer import Slicer
from stack import PATIENTS

from clickseg.dicom.seg import read_seg
from clickseg.volume import Volume, read_label, write_volume


@pytest.fixture
def study(stack):
    return stack.studies[PATIENTS[1]]


def test_a_label_of_slicer_comes_back_from_the_pacs(stack, study, tmp_path):
    path = write_volume(tmp_path / "label.nii.gz", Volume(study.truth.astype(np.uint8), study.grid))
    slicer = Slicer(stack.url, tmp_path, {"label.nii.gz": path, "volume.nii.gz": path})
    slicer.known["image"] = study.t1ce_uid
    came = nib.Nifti1Image.from_bytes(gzip.decompress(slicer.send("image").content))
    np.testing.assert_allclose(came.affine, study.grid.affine, atol=1e-4)
    assert slicer.infer("segment").mask.shape == study.grid.shape
    saved = slicer.send("save").json()
    (seg,) = [one for one in stack.segs(study) if one.SeriesInstanceUID == saved["dicom_seg"]]
    np.testing.assert_array_equal(read_seg(seg, study.grid).array, study.truth)
    (tmp_path / "came.nii.gz").write_bytes(slicer.send("saved label").content)
    np.testing.assert_array_equal(read_label(tmp_path / "came.nii.gz").array, study.truth)
