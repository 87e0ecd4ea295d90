"""A server on a PACS: what it answers with is what its other processes read."""

import numpy as np
import pydicom
import pytest
from dicomweb import SmallPacs
from enhanced import enhanced
from serving import AFFINES, SHAPE, tumor_image

from clickseg import placement
from clickseg.dicom.mr import headers_of, write_series
from clickseg.dicom.seg import read_seg
from clickseg.geometry import Grid
from clickseg.placement import Placing
from clickseg.study import find_case, placing_of, read_study
from clickseg.volume import Volume, read_volume

T1CE, T2 = headers_of("a")


@pytest.fixture
def remote(tmp_path):
    """A PACS with one study of enhanced images, whose frames of reference differ."""
    rng, grid = np.random.default_rng(0), Grid(SHAPE, AFFINES["oblique"])
    with SmallPacs() as pacs:
        for header, contrast in ((T1CE, 400.0), (T2, -60.0)):
            volume = Volume(np.rint(tumor_image(grid.affine, rng, contrast=contrast)), grid)
            files = write_series(volume, tmp_path / header.series_uid, header)
            image = enhanced([pydicom.dcmread(path) for path in files])
            image.FrameOfReferenceUID = f"1.2.{header.series_number}"
            pacs.add(image)
        yield pacs


@pytest.mark.slow
def test_a_pair_of_enhanced_images_is_answered_accepted_and_read_by_all_alike(
    remote, another_server, tmp_path, monkeypatch
):
    monkeypatch.setenv("MONAI_LABEL_DICOMWEB_CACHE_PATH", str(tmp_path / "cache"))
    server = another_server(remote.url).wait()
    answer = server.ohif("initial", T1CE.series_uid, {"accept": True})
    assert answer.mask.shape == SHAPE
    assert answer.mask.any()
    (seg,) = remote.segs()
    (path,) = (tmp_path / "cache").glob(f"*/{T1CE.series_uid}.nii.gz")
    np.testing.assert_array_equal(read_seg(seg, read_volume(path).grid).array, answer.mask)
    told = server.slicer("initial", T1CE.series_uid).params
    server.stop()
    case = find_case(path)
    assert case.label is not None
    assert placing_of(path) == Placing("auto", frames_differ=True)
    with monkeypatch.context() as patched:
        patched.delattr(placement, "register")  # what the server found is read
        study = read_study(case.t1ce, case.t2)
    assert study.registration.as_result() == told["registration"]
    # The same copies after a restart with another setting.
    server = another_server(remote.url, ("registration", "off")).wait()
    told = server.slicer("initial", T1CE.series_uid).params
    assert (told["t2"], told["registration"]) == (None, None)
    assert read_study(case.t1ce, case.t2).t2_path is None
