"""What goes wrong reaches a viewer as a status and a sentence, not as a bare 500."""

import json
import resource
from functools import partial

import numpy as np
import psutil
import pytest
import requests
from serving import AFFINES, SHAPE, WAIT_S, save, tumor_image

RNG = partial(np.random.default_rng, 0)

T2_PROBLEMS = {
    "far-t2": "T2 far-t2.nii.gz overlaps the T1ce by 0%",
    "4d-t2": "4d-t2.nii.gz is 4D",
    "nan-t2": "nan-t2.nii.gz holds values that are not finite",
    "empty-t2": "empty-t2.nii.gz is an empty file",
    "truncated-t2": "truncated-t2.nii.gz cannot be read as an image",
    "singular-t2": "singular-t2.nrrd",
}


@pytest.mark.parametrize("image", T2_PROBLEMS)
@pytest.mark.parametrize("model", ["initial", "click"])
def test_a_t2_that_cannot_be_used_is_named(server, model, image):
    answer = server.slicer(model, image)
    assert answer.status == 422
    assert T2_PROBLEMS[image] in answer.detail


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("corrupt", "corrupt.nii.gz cannot be read as an image"),
        ("flat", "flat.nii.gz has no contrast"),
        ("4d", "4d.nii.gz is 4D"),
    ],
)
def test_a_t1ce_that_cannot_be_used_is_named(server, image, text):
    answer = server.slicer("initial", image)
    assert answer.status == 422
    assert text in answer.detail


@pytest.mark.parametrize("image", ["nobody", "undefined", "ras.nii.gz", "t2"])
def test_an_unknown_image_is_not_found(server, image):
    for viewer in (server.slicer, server.ohif):
        answer = viewer("click", image)
        assert answer.status == 404
        assert f"no image '{image}'" in answer.detail


def test_an_error_carries_the_header_that_lets_ohif_read_it(server):
    answer = server.ohif("click", "nobody")
    assert answer.response.headers["access-control-allow-origin"]
    assert answer.response.headers["content-type"] == "application/json"


def test_an_unknown_model_is_not_found(server):
    answer = server.slicer("deepedit", "ras")
    assert answer.status == 404
    assert "there are: initial, click, edit" in answer.detail


def test_an_unknown_strategy_is_not_found(server):
    response = requests.post(f"{server.url}/activelearning/last", json={}, timeout=10)
    assert response.status_code == 404
    assert "there are: random, uncertainty," in response.json()["detail"]


WRONG_CLICKS = {
    "outside": ([[5, 7, 99]], "[5, 7, 99] lies outside of the image, whose shape is (37, 31, 23)"),
    "two off": ([[-2, 7, 9]], "lies outside"),
    "no list": ("5,7,9", "foreground must be a list of [i, j, k], got '5,7,9'"),
    "one point": ([5, 7, 9], "foreground must be a list of [i, j, k], got 5"),
    "two numbers": ([[5, 7]], "got [5, 7]"),
    "words": ([["a", "b", "c"]], "with numbers"),
    "booleans": ([[True, False, True]], "with numbers"),
    "nested": ([[[5], 7, 9]], "with numbers"),
    "dictionary": ({"x": 1}, "must be a list"),
}


@pytest.mark.parametrize(("points", "text"), WRONG_CLICKS.values(), ids=WRONG_CLICKS.keys())
def test_a_click_that_is_none_is_refused(server, points, text):
    answer = server.slicer("click", "ras", {"foreground": points})
    assert answer.status == 422
    assert text in answer.detail


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e400"])
def test_a_click_that_is_not_finite_is_refused(server, value):
    response = requests.post(
        f"{server.url}/infer/click?image=ras",
        data={"params": f'{{"background": [[1, 2, {value}]]}}'},
        timeout=10,
    )
    assert response.status_code == 422
    assert "finite" in response.json()["detail"]


def test_more_than_a_thousand_clicks_are_refused(server):
    points = [[i, j, k] for i in range(11) for j in range(11) for k in range(11)]
    answer = server.click("ras", points[:600], points[600:1001])
    assert answer.status == 422
    assert "at most 1000 clicks are taken in one request, 1001 came" in answer.detail


def test_a_start_that_is_none_is_refused(server):
    answer = server.click("ras", start="previous")
    assert answer.status == 422
    assert "wanted is one of auto, initial, label" in answer.detail


def test_the_accepted_label_cannot_be_the_start_where_there_is_none(server):
    answer = server.click("ras", start="label")
    assert answer.status == 422
    assert "no label of this image was accepted" in answer.detail


def test_a_result_extension_that_is_none_is_refused(server):
    response = requests.post(
        f"{server.url}/infer/initial?image=ras",
        data={"params": json.dumps({"result_extension": ".png"})},
        timeout=10,
    )
    assert response.status_code == 422
    assert ".nii.gz, .nii, .nrrd, .seg.nrrd" in response.json()["detail"]


def test_an_edit_without_a_mask_is_refused(server):
    answer = server.slicer("edit", "ras")
    assert answer.status == 422
    assert "the current mask was wanted" in answer.detail


def test_an_edit_of_a_mask_on_another_grid_is_refused(server, tmp_path):
    mask = save(tmp_path / "mask.nii.gz", np.zeros(SHAPE, np.uint8), AFFINES["lps"])
    answer = server.slicer("edit", "ras", label=mask)
    assert answer.status == 422
    assert "lies on another grid" in answer.detail


def test_an_edit_of_what_is_no_image_is_refused(server, tmp_path):
    mask = tmp_path / "mask.nii.gz"
    mask.write_bytes(b"no image")
    assert server.slicer("edit", "ras", label=mask).status == 422


@pytest.mark.parametrize(
    "segments", ["tumor", [1, 2], [{"name": "a", "id": "b"}], [{"id": 1}], {"name": 1}]
)
def test_segments_that_are_none_are_refused(server, tmp_path, segments):
    mask = save(tmp_path / "mask.nrrd", np.zeros(SHAPE, np.uint8), AFFINES["ras"])
    answer = server.slicer("edit", "ras", {"label_info": segments}, mask)
    assert answer.status == 422
    assert "label_info must be a list" in answer.detail


@pytest.mark.parametrize("ending", ["", "&output=dicom_seg"])
@pytest.mark.parametrize("params", ["{", "[1]", "null", "5", '"x"'])
def test_params_that_are_no_object_are_refused(server, params, ending):
    url = f"{server.url}/infer/click?image=ras{ending}"
    response = requests.post(url, data={"params": params}, timeout=10)
    assert response.status_code == 422
    assert response.json()["detail"] == f"params is a JSON object, got {params!r}"


@pytest.mark.parametrize("name", ["m.bin", f"m.{'x' * 300}"])
def test_a_label_that_cannot_be_taken_is_told(server, name):
    url, label = f"{server.url}/infer/edit?image=ras", (name, b"0123456789")
    response = requests.post(url, data={"params": "{}"}, files={"label": label}, timeout=10)
    assert response.status_code == 422
    assert "the request cannot be read" in response.json()["detail"]


def test_errors_of_other_routes_are_sentences_that_a_browser_may_read(server):
    origin = {"Origin": "http://viewer"}
    url = f"{server.url}/datastore/image/info?image=ras"
    no_json = requests.put(url, data={"info": "{"}, headers=origin, timeout=10)
    url = f"{server.url}/scoring/unknown?run_sync=true"
    failed = requests.post(url, headers=origin, timeout=10)
    for response, status, text in (
        (no_json, 422, "JSON was wanted"),
        (failed, 500, "the server failed (MONAILabelException"),
    ):
        assert response.status_code == status
        assert text in response.json()["detail"]
        assert response.headers["access-control-allow-origin"] == "http://viewer"


def test_slides_are_refused(server):
    response = requests.post(f"{server.url}/infer/wsi_v2/initial?image=ras", timeout=10)
    assert response.status_code == 404


def test_a_server_with_a_wrong_setting_ends_with_a_sentence(another_server, studies):
    wrong = {
        ("models", "deepedit"): "models is 'deepedit'; wanted is all or a list like initial",
        ("prelaod", "true"): "no setting prelaod; there are: models, preload, device",
    }
    servers = [another_server(studies, setting) for setting in wrong]
    for server, text in zip(servers, wrong.values(), strict=True):
        assert server.process.wait(WAIT_S) != 0
        assert text in server.output.read_text()


def test_a_refused_upload_is_removed(server, tmp_path):
    mask = save(tmp_path / "mask.nii.gz", np.zeros(SHAPE, np.uint8), AFFINES["lps"])
    assert server.slicer("edit", "ras", label=mask).status == 422
    assert list((server.folder / "tmp").glob("vs-clickseg-*/*.n*")) == []


def test_an_accepted_label_that_cannot_be_read_is_named(another_server, tmp_path):
    studies = tmp_path / "studies"
    final = studies / "labels" / "final"
    mask = np.zeros(SHAPE, np.uint8)
    mask[5:9, 5:9, 5:9] = 1
    for name in ("broken", "elsewhere"):
        save(studies / f"{name}.nii.gz", tumor_image(AFFINES["ras"], RNG()), AFFINES["ras"])
    final.mkdir(parents=True)
    (final / "broken.nii.gz").write_bytes(b"no mask at all")
    save(final / "elsewhere.nii.gz", mask, AFFINES["lps"])
    server = another_server(studies).wait()
    told = {"broken": "broken.nii.gz cannot be read as an image", "elsewhere": "another grid"}
    for name, text in told.items():
        answer = server.click(name, [[18, 15, 11]])
        assert answer.status == 422
        assert text in answer.detail
        assert server.click(name, [[18, 15, 11]], start="initial").status == 200
    assert (final / "broken.nii.gz").read_bytes() == b"no mask at all"


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux alone limits other processes")
def test_a_server_without_memory_says_so_and_goes_on(another_server, tmp_path):
    studies = tmp_path / "studies"
    save(studies / "small.nii", tumor_image(AFFINES["ras"], RNG()), AFFINES["ras"])
    large = tumor_image(AFFINES["ras"], RNG(), (509, 499, 97))
    save(studies / "large.nii", large, AFFINES["ras"])
    server = another_server(studies).wait()
    before = server.click("small", [[18, 15, 11]]).mask
    family = [psutil.Process(server.process.pid)]
    family += family[0].children(recursive=True)
    process = max(family, key=lambda one: one.memory_info().rss)
    _, most = resource.prlimit(process.pid, resource.RLIMIT_AS)
    little = process.memory_info().vms + (64 << 20)
    resource.prlimit(process.pid, resource.RLIMIT_AS, (little, most))
    answer = server.slicer("initial", "large")
    assert answer.status == 507
    assert "the server ran out of memory" in answer.detail
    np.testing.assert_array_equal(server.click("small", [[18, 15, 11]]).mask, before)
    resource.prlimit(process.pid, resource.RLIMIT_AS, (most, most))
    assert server.slicer("initial", "large").status == 200
