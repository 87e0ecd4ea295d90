"""The story of a reader in 3D Slicer, on a studies folder and on a PACS: the same requests."""

import io

import numpy as np
import pydicom
import pytest
import requests
import SimpleITK as sitk  # noqa: N813  # its documented name
from dicomweb import SmallPacs
from serving import LABEL, SHAPE, Server, save, tumor_image, until
from slicer import Slicer

from clickseg.dicom.mr import headers_of
from clickseg.dicom.seg import read_seg
from clickseg.geometry import Grid
from clickseg.volume import Volume

# The head of the tests, as a scanner writes it: columns to the left, rows to the back.
AFFINE = np.diag([-0.5, -0.5, 1.5, 1.0])
AFFINE[:3, 3] = [12.0, 3.5, 3.5]


def image(contrast):
    return np.rint(tumor_image(AFFINE, np.random.default_rng(3), SHAPE, contrast))


@pytest.fixture
def files(tmp_path):
    """What Slicer uploads: a mask, a mask with scribbles, a volume of its own."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[14:22, 11:19, 9:13] = 1
    scribbled = mask.copy()
    scribbled[18, 15, 11] = 2
    scribbled[5, 7, 9] = 3
    arrays = {"label.nii.gz": mask, "scribbles.nii.gz": scribbled, "volume.nii.gz": image(400)}
    return {name: save(tmp_path / name, array, AFFINE) for name, array in arrays.items()}


@pytest.fixture(params=["folder", "pacs"], scope="module")
def place(request, tmp_path_factory, weights):
    """A server with one study; the server, the id of the study, and the PACS or None."""
    folder = tmp_path_factory.mktemp("server")
    conf = ("pretrained_path", weights)
    if request.param == "folder":
        studies = folder / "studies"
        save(studies / "a.nii.gz", image(400), AFFINE)
        save(studies / "t2" / "a.nii.gz", image(-60), AFFINE)
        server = Server(folder, studies, conf)
        try:
            yield server.wait(), "a", None
        finally:
            server.stop()
        return
    with SmallPacs() as pacs:
        grid = Grid(SHAPE, AFFINE)
        pacs.add_study(folder / "made", "a", *(Volume(image(c), grid) for c in (400, -60)))
        server = Server(folder, pacs.url, conf)
        try:
            yield server.wait(), headers_of("a")[0].series_uid, pacs
        finally:
            server.stop()


@pytest.mark.slow
def test_the_story_of_a_reader_in_slicer(place, files, tmp_path):
    server, image_id, pacs = place
    slicer = Slicer(server.url, tmp_path, files)
    assert slicer.send("auth").status_code == 404  # there is no login
    info = slicer.send("info").json()
    assert info["datastore"] == {"total": 1, "completed": 0, "label_tags": {}}

    sample = slicer.send("next sample").json()
    assert sample["id"] == image_id
    slicer.known["image"] = image_id
    (tmp_path / "came.nii.gz").write_bytes(slicer.send("image").content)
    came = sitk.ReadImage(str(tmp_path / "came.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(came).transpose(), image(400))
    assert slicer.send("list").json()["objects"][image_id]["labels"] == {}

    outline = slicer.infer("segment")
    assert outline.params["label_names"] == {LABEL: 1}
    assert outline.params["t2"] is not None
    assert outline.image.GetOrigin() == pytest.approx(came.GetOrigin(), abs=1e-5)
    assert outline.image.GetDirection() == pytest.approx(came.GetDirection(), abs=1e-5)
    assert outline.mask[18, 15, 11] == 1

    clicked = slicer.infer("foreground")
    assert clicked.mask[5, 7, 9] == 1
    both = slicer.infer("background")
    assert (both.mask[5, 7, 9], both.mask[18, 15, 11]) == (1, 0)
    edited = slicer.infer("scribbles")
    assert (edited.mask[5, 7, 9], edited.mask[18, 15, 11]) == (1, 0)
    assert edited.mask[14, 11, 9] == 1  # as it was uploaded

    saved = slicer.send("save").json()
    assert saved["volume_ml"] == pytest.approx(256 * 0.5 * 0.5 * 1.5 / 1000)
    label = tmp_path / "saved.nii.gz"
    label.write_bytes(slicer.send("saved label").content)
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(label))).transpose()
    wanted = sitk.GetArrayFromImage(sitk.ReadImage(str(files["label.nii.gz"]))).transpose()
    np.testing.assert_array_equal(mask, wanted)
    assert slicer.send("info").json()["datastore"]["completed"] == 1
    if pacs is not None:
        (seg,) = pacs.segs()
        assert saved["dicom_seg"] == seg.SeriesInstanceUID
        np.testing.assert_array_equal(read_seg(seg, Grid(SHAPE, AFFINE)).array, wanted)

    slicer.known["session"] = slicer.send("session").json()["session_id"]
    local = slicer.infer("segment local volume")
    assert local.params["t2"] is None  # T1ce alone, and said so
    assert local.mask[18, 15, 11] == 1
    assert slicer.infer("click local volume").mask[5, 7, 9] == 1
    assert slicer.send("remove session").status_code == 200

    assert slicer.send("train").status_code == 200
    until(lambda: slicer.send("training status").json()["status"] == "RUNNING")
    assert slicer.send("is training").status_code == 200
    assert slicer.send("stop").status_code == 200
    until(lambda: slicer.send("is training").status_code != 200)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["pacs"], indirect=True)
def test_viewers_reach_the_pacs_and_an_answer_can_be_a_dicom_seg(place):
    server, image_id, pacs = place
    studies = f"{server.url}/proxy/dicom/qido/studies"
    listed = requests.get(studies, timeout=30).json()
    assert [one["00100020"]["Value"] for one in listed] == [["a"]]
    assert requests.get(studies, params={"PatientID": "b"}, timeout=30).json() == []
    stored = len(pacs.segs())
    asked = {"image": image_id, "output": "dicom_seg"}
    answer = requests.post(f"{server.url}/infer/initial", params=asked, timeout=60)
    assert answer.headers["content-type"] == "application/dicom"
    quoted = f"{server.url}/infer/initial?image={image_id}&output=dicom%5Fseg"
    assert requests.post(quoted, timeout=60).headers["content-type"] == "application/dicom"
    seg = pydicom.dcmread(io.BytesIO(answer.content))
    mask = server.slicer("initial", image_id).mask
    assert mask.any()
    np.testing.assert_array_equal(read_seg(seg, Grid(SHAPE, AFFINE)).array, mask)
    assert len(pacs.segs()) == stored  # it was asked for, not accepted
    # A login opens more than images; clients leave dots out of paths unless they mean harm.
    root, before = f"{server.url}/proxy/dicom/", sum(pacs.asked.values())
    inner = ("wado/studies/../../tools", "../tools", "wado/servers", "studies/%2e%2e/x")
    for path in (*inner, "/servers", "wado//servers"):
        refused = requests.Request("GET", root).prepare()
        refused.url = root + path
        answer = requests.Session().send(refused, timeout=30)
        assert (answer.status_code, path) == (403, path)
        assert "studies, series or instances of the PACS were wanted" in answer.json()["detail"]
    # Some PACS remove a study so.
    answer = requests.post(f"{root}studies/1.2.3/reject/113039^DCM", timeout=30)
    assert answer.status_code == 403
    assert "images are stored at studies or studies/UID" in answer.json()["detail"]
    assert sum(pacs.asked.values()) == before
    pacs.stop()
    refused = requests.get(studies, timeout=30)
    assert refused.status_code == 502
    assert "does not answer" in refused.json()["detail"]


def test_what_only_a_pacs_has_is_refused_on_a_folder(server):
    asked = {"image": "ras", "output": "dicom_seg"}
    answer = requests.post(f"{server.url}/infer/initial", params=asked, timeout=60)
    assert answer.status_code == 422
    assert "images of a PACS alone" in answer.json()["detail"]
    answer = requests.get(f"{server.url}/proxy/dicom/qido/studies", timeout=30)
    assert answer.status_code == 422
    assert "there is no PACS to ask" in answer.json()["detail"]
