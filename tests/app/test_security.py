"""A request names no file: one test for each way in that MONAI Label leaves open."""

import json
import runpy

import numpy as np
import pytest
import requests
from monailabel.config import settings
from serving import AFFINES, ROOT, SHAPE, WAIT_S, save, tumor_image

RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    """An image that lies where no request may look."""
    ras = AFFINES["ras"]
    return save(tmp_path_factory.mktemp("secret") / "secret.nii.gz", tumor_image(ras, RNG), ras)


def infer(server, model="initial", query="", **params):
    return requests.post(
        f"{server.url}/infer/{model}?{query}", data={"params": json.dumps(params)}, timeout=30
    )


def files_under(folder):
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("model", ["initial", "click", "edit"])
def test_an_image_named_by_a_path_is_refused(server, secret, model):
    for response in (
        infer(server, model, f"image={secret}"),
        infer(server, model, "image=ras", image=str(secret)),
    ):
        assert response.status_code == 403
        assert "an image is asked for by its id" in response.json()["detail"]


def test_a_file_that_is_no_image_is_not_even_looked_at(server):
    assert infer(server, query="image=ras", image="/etc/hostname").status_code == 403
    assert infer(server, query="image=ras", image="/etc/nowhere").status_code == 403


@pytest.mark.parametrize("image", ["../secret", "t2/../../ras", "..", "a\\b", "a/b", ".lock"])
def test_an_image_id_that_climbs_is_refused(server, image):
    assert infer(server, query="image=ras", image=image).status_code == 403


def test_a_name_in_the_servers_working_folder_is_no_image(server):
    (server.folder / "local.nii.gz").write_bytes((server.studies / "ras.nii.gz").read_bytes())
    response = infer(server, query="image=local.nii.gz")
    assert response.status_code == 404


@pytest.mark.parametrize("image", [None, 5, ["ras"], {"a": 1}, ""])
def test_an_image_that_is_no_string_is_refused(server, image):
    assert infer(server, query="image=ras", image=image).status_code == 422


@pytest.mark.parametrize("model", [None, 5, ["click"], {}])
def test_a_model_that_is_no_string_is_refused(server, model):
    assert infer(server, query="image=ras", model=model).status_code == 404


@pytest.mark.parametrize("model", ["initial", "click", "edit"])
def test_a_label_named_by_a_path_is_refused(server, secret, model):
    response = infer(server, model, "image=ras", label=str(secret))
    assert response.status_code == 403
    assert "a label is uploaded, not named" in response.json()["detail"]
    assert infer(server, model, "image=ras", label="../secret.nii.gz").status_code == 403


def test_the_name_of_a_segment_is_no_path(server):
    assert infer(server, "click", "image=ras", label="T1/T2 tumor").status_code == 200


@pytest.mark.parametrize("tag", ["../../out", "a/b", "..", "", "x" * 33, 5, ["final"]])
def test_a_label_tag_that_climbs_writes_nothing(server, tag):
    before = files_under(server.studies.parent)
    response = infer(server, query="image=saved", save_label=True, label_tag=tag)
    if tag:
        assert response.status_code == 403
        assert files_under(server.studies.parent) <= before
    else:  # as if there were none
        assert response.status_code == 200


@pytest.mark.parametrize("tag", ["../../../out", "a/b", "..", ".", "history", "History"])
def test_a_label_saved_under_a_tag_that_climbs_writes_nothing(server, tag):
    before = files_under(server.studies.parent)
    label = (server.studies / "labels/final/accepted.nii.gz").read_bytes()
    response = requests.put(
        f"{server.url}/datastore/label",
        params={"image": "saved", "tag": tag},
        files={"label": ("a.nii.gz", label)},
        timeout=10,
    )
    assert response.status_code == 403
    assert files_under(server.studies.parent) <= before


@pytest.mark.parametrize("image", ["../out", "/tmp/out", "a/b", "..", "."])
def test_an_image_added_under_an_id_that_climbs_writes_nothing(server, image):
    before = files_under(server.studies.parent)
    content = (server.studies / "ras.nii.gz").read_bytes()
    response = requests.put(
        f"{server.url}/datastore/image",
        params={"image": image},
        files={"file": ("a.nii.gz", content)},
        timeout=10,
    )
    assert response.status_code == 403
    assert files_under(server.studies.parent) <= before


def test_an_image_or_label_that_climbs_cannot_be_fetched_or_removed(server, secret):
    for path in (f"../{secret.parent.name}/secret", str(secret)):
        fetched = requests.get(f"{server.url}/datastore/image", params={"image": path}, timeout=10)
        assert fetched.status_code == 404
        query = {"label": path, "tag": "../.."}
        fetched = requests.get(f"{server.url}/datastore/label", params=query, timeout=10)
        assert fetched.status_code == 404
        removed = requests.delete(f"{server.url}/datastore/", params={"id": path}, timeout=10)
        assert removed.status_code in (403, 404)
        query = {"id": path, "tag": "../.."}
        removed = requests.delete(f"{server.url}/datastore/label", params=query, timeout=10)
        assert removed.status_code in (403, 404)
    assert secret.is_file()


@pytest.mark.parametrize("session", ["../secret", "..", "a/b", "x" * 65, "a b"])
def test_a_session_id_that_climbs_is_refused(server, session):
    response = requests.post(
        f"{server.url}/infer/initial",
        params={"image": "ras", "session_id": session},
        data={"params": "{}"},
        timeout=10,
    )
    assert response.status_code == 403
    assert "a session id is" in response.json()["detail"]


def test_a_forged_session_does_not_open_a_path(server, secret):
    session = {"id": "x", "path": str(secret.parent), "image": str(secret)}
    assert infer(server, query="image=ras", session=session, image=str(secret)).status_code == 403


def test_an_archive_is_not_unpacked_into_a_session(server):
    response = requests.put(
        f"{server.url}/session/",
        params={"uncompress": True},
        files={"files": ("a.zip", b"PK")},
        timeout=10,
    )
    assert response.status_code == 422
    uploads = [path for path in (server.folder / "tmp").glob("vs-clickseg-*/*") if path.is_dir()]
    assert uploads == []


@pytest.mark.parametrize("key", ["image", "label"])
@pytest.mark.parametrize("name", ["a\0b", "/a\0b", "\ud800/x", "/" + 300 * "x"])
def test_what_no_file_can_be_called_is_refused(server, key, name):
    response = infer(server, "click", "image=ras", **{key: name})
    assert response.status_code in (403, 404, 422)
    assert response.json()["detail"]


def test_weights_are_not_replaced_moved_or_sent_over_http(server, weights):
    before = {path: path.read_bytes() for path in weights.iterdir()}
    for model in ("initial", "click", "correction"):
        url = f"{server.url}/model/{model}"
        sent = requests.put(url, files={"file": ("a.pt", b"weights")}, timeout=10)
        assert sent.status_code == 403
        assert requests.get(url, timeout=10).status_code == 404
        assert requests.delete(url, timeout=10).status_code == 404
        info = requests.get(f"{server.url}/model/info/{model}", timeout=10)
        assert info.status_code == 404
    assert {path: path.read_bytes() for path in weights.iterdir()} == before


def test_no_second_app_is_made_beside_the_first(server):
    answer = requests.post(f"{server.url}/reload", timeout=10)
    assert answer.status_code == 403
    assert "restart the server" in answer.json()["detail"]


@pytest.mark.filterwarnings("ignore:'crypt' is deprecated")  # of what logs users in
def test_routes_that_are_mended_lie_where_monai_labels_do(monkeypatch):
    monkeypatch.setattr(settings, "MONAI_LABEL_API_STR", "/api")
    made = runpy.run_path(str(ROOT / "apps/vs_clickseg/clickseg_app/routes.py"))
    paths = {route.path for route in made["router"].routes}
    assert paths == {"/api/infer/{model}", "/api/proxy/dicom/{path:path}"}


def test_weights_that_are_not_plain_tensors_are_not_loaded(another_server, studies, tmp_path):
    for name in ("initial", "correction"):
        (tmp_path / f"{name}.pt").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
        (tmp_path / f"{name}.json").write_text("{}")
    server = another_server(studies, ("pretrained_path", tmp_path))
    assert server.process.wait(WAIT_S) != 0
    assert "ModelError" in server.output.read_text()
    assert not (server.folder / "owned").exists()


def test_a_header_that_claims_a_huge_volume_is_refused(server):
    """The size in the header is looked at before the pixels are."""
    header = "NRRD0004\ntype: uchar\ndimension: 3\nspace: left-posterior-superior\n"
    header += "sizes: 4000 4000 4000\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
    header += "kinds: domain domain domain\nencoding: raw\nspace origin: (0,0,0)\n\n"
    response = requests.post(
        f"{server.url}/infer/initial",
        data={"params": "{}"},
        files={"file": ("a.nrrd", header.encode() + bytes(100))},
        timeout=10,
    )
    assert response.status_code == 422
    assert "voxels, at most" in response.json()["detail"]


def test_an_upload_cannot_name_another_file(server, tmp_path):
    secret = tmp_path / "secret.raw"
    secret.write_bytes(bytes(64))
    header = "NRRD0004\ntype: uchar\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 4 4\n"
    header += "space directions: (1,0,0) (0,1,0) (0,0,1)\nencoding: raw\nspace origin: (0,0,0)"
    for end in ("\n", "\r"):
        content = f"{header}{end}data file: {secret}\n\n".encode()
        for name in ("file", "label"):
            response = requests.post(
                f"{server.url}/infer/edit?image=ras",
                data={"params": "{}"},
                files={name: ("a.nrrd", content)},
                timeout=10,
            )
            assert response.status_code == 422
            detail = response.json()["detail"]
            assert "in another file" in detail or "no header" in detail


def test_an_upload_of_the_requests_own_is_taken(server):
    response = requests.post(
        f"{server.url}/infer/initial?output=json",
        data={"params": "{}"},
        files={"file": ("a.nii.gz", (server.studies / "ras.nii.gz").read_bytes())},
        timeout=30,
    )
    assert response.status_code == 200
    assert response.json()["t2"] is None


def test_the_server_listens_where_it_was_told_to(server):
    assert "Uvicorn running on http://127.0.0.1:" in server.output.read_text()
    assert SHAPE == (37, 31, 23)
