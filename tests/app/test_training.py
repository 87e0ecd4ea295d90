"""The loop as readers drive it: correct, save, train from the viewer, and go on with the result."""

import json
import time

import numpy as np
import psutil
import pytest
import requests
from serving import AFFINES, CENTER_RAS, LABEL, SHAPE, WAIT_S, Server, save, tumor_image, until

from clickseg.geometry import Grid, ijk_to_ras, ras_to_ijk
from clickseg.learning.settings import load_update
from clickseg.learning.store import BASE, ModelStore
from clickseg.learning.update import update_model
from clickseg.metrics import dice
from clickseg.modelfile import read_manifest
from clickseg.reader import next_click

UPDATE = """
holdout: 0.34
smallest: 3
replay: 0
accepted: 0.5
clicks: 1
recorded: 0.5
refined: {studies: 2, share: 0.1, sure: 0}
steps_for: 0
"""
FIT = (
    "{{epochs: {0}, steps_per_epoch: {1}, batch: 1, optimizer: adamw, rate: {2}, "
    "schedule: poly, bfloat16: false, average: 0}}"
)
AFFINE = AFFINES["lps"]


def ball(radius_mm):
    ijk = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).reshape(-1, 3)
    distance_mm = np.linalg.norm(ijk_to_ras(ijk, AFFINE) - CENTER_RAS, axis=1)
    return (distance_mm < radius_mm).reshape(SHAPE)


def settings(path, epochs, steps, rate, correction_rate=None):
    rates = {"locate": rate, "segment": rate, "correction": correction_rate or rate}
    fits = {name: FIT.format(epochs, steps, rate) for name, rate in rates.items()}
    path.write_text(UPDATE + "".join(f"{name}: {fit}\n" for name, fit in fits.items()))
    return path


@pytest.fixture
def studies(tmp_path):
    folder = tmp_path / "studies"
    rng = np.random.default_rng(5)
    for number in range(1, 13):
        save(folder / f"VS-{number:02d}.nii.gz", tumor_image(AFFINE, rng), AFFINE)
    return folder


def start(tmp_path, weights, studies, update, name="server"):
    (tmp_path / name).mkdir()
    conf = (("pretrained_path", weights), ("update_path", update))
    return Server(tmp_path / name, studies, *conf).wait()


def correct_and_save(server, case_id):
    """Click twice where the outline is wrong, as 3D Slicer would, paint what is left, and save."""
    truth, grid = ball(4.0), Grid(SHAPE, AFFINE)
    to_canonical, clicked = grid.to_canonical, []
    mask, clicks = server.slicer("initial", case_id).mask, {"foreground": [], "background": []}
    for _ in range(2):
        found = next_click(
            to_canonical(truth), to_canonical(mask), grid.canonical.spacing_mm.tolist(),
            clicked,
        )  # fmt: skip
        if found is None:
            break
        clicked.append(found[0])
        point_ras = ijk_to_ras([found[0]], grid.canonical.affine)
        voxel = np.rint(ras_to_ijk(point_ras, AFFINE)[0]).astype(int).tolist()
        clicks["foreground" if found[1] else "background"].append(voxel)
        mask = server.click(case_id, **clicks).mask
    path = save(server.folder / "edited.nii.gz", truth.astype(np.uint8), AFFINE)
    saved = requests.put(
        f"{server.url}/datastore/label",
        params={"image": case_id},
        files={
            "label": (path.name, path.read_bytes()),
            "params": (None, json.dumps({"label_info": [{"name": LABEL, "idx": 1}]})),
        },
        timeout=30,
    )
    saved.raise_for_status()
    return saved.json()


def wait_for(server, seconds=WAIT_S):
    """Wait for the training that was started last; return its status."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = requests.get(f"{server.url}/train/", timeout=30).json()
        if status["status"] not in ("SUBMITTED", "RUNNING"):
            return status
        time.sleep(0.3)
    raise AssertionError(f"not done in {seconds} s: {status}")


def stats_of(server, name):
    return requests.get(f"{server.url}/info/", timeout=30).json()["train_stats"][name]


def hashes(server):
    return server.slicer("initial", "VS-12").params["models"]


def test_readers_correct_and_train_and_the_server_goes_on_with_it(tmp_path, weights, studies):
    # The first model outlines too little; the second is too good to learn much.
    update = settings(tmp_path / "update.yaml", 3, 20, 0.02, 1e-9)
    server = start(tmp_path, weights, studies, update)
    try:
        _too_few_labels_are_told(server)
        for number in range(1, 7):
            reply = correct_and_save(server, f"VS-{number:02d}")
            assert reply["volume_ml"] > 0
            assert reply["clicks"] >= 1
        before, outlined = hashes(server), dice(server.slicer("initial", "VS-12").mask, ball(4.0))
        for name in ("initial", "click"):
            started = requests.post(f"{server.url}/train/{name}", json={}, timeout=30)
            assert started.status_code == 200
            status = wait_for(server)
            assert status["status"] == "DONE", status["details"]
            stats = stats_of(server, name)
            assert stats["is_published"], stats["reason"]
            assert stats["epoch"] == stats["total_epochs"] == {"initial": 6, "click": 3}[name]
            assert isinstance(stats["best_metric"], float)
            assert stats["total_time"] > 0
        after = hashes(server)
        assert after["initial"] != before["initial"]  # without a restart
        assert after["correction"] != before["correction"]
        # VS-12 was never labeled.
        assert dice(server.slicer("initial", "VS-12").mask, ball(4.0)) > outlined + 0.05
        answer = server.click("VS-12", foreground=[[18, 15, 11]])
        assert answer.params["models"] == after
        held = json.loads((studies / ".clickseg/holdout.json").read_text())["patients"]
        store = next((server.app / "model").glob("published-*"))
        for name, folder in (("initial", "initial"), ("correction", "correction")):
            manifest = read_manifest(next((store / "versions" / folder).iterdir()), name)
            assert {held[case] for case in manifest.data["training"]} == {"training"}
        listed = {path.name for path in studies.iterdir()}
        assert not [name for name in listed if name.startswith("VS") and "nii" not in name]
    finally:
        server.stop()


def _too_few_labels_are_told(server):
    requests.post(f"{server.url}/train/initial", json={}, timeout=30).raise_for_status()
    status = wait_for(server)
    assert status["status"] == "ERROR"
    assert any("at least 3 patients" in line for line in status["details"])
    assert "at least 3 patients" in stats_of(server, "initial")["reason"]


def test_a_worse_model_is_not_published(tmp_path, weights, studies):
    for number in range(1, 7):
        label = ball(3.2).astype(np.uint8)
        save(studies / "labels/final" / f"VS-{number:02d}.nii.gz", label, AFFINE)
    update = settings(tmp_path / "update.yaml", 2, 2, 10.0)  # as good as random weights
    server = start(tmp_path, weights, studies, update)
    try:
        before = hashes(server)
        assert requests.post(f"{server.url}/train/initial", json={}, timeout=30).ok
        assert wait_for(server)["status"] == "DONE"
        stats = stats_of(server, "initial")
        assert not stats["is_published"]
        assert stats["reason"].startswith("worse on 2 held-out studies: mean Dice")
        assert hashes(server) == before
    finally:
        server.stop()


def test_a_training_that_is_killed_harms_nothing_and_all_are_started_at_once(
    tmp_path, weights, studies
):
    for number in range(1, 7):
        label = ball(4.0).astype(np.uint8)
        save(studies / "labels/final" / f"VS-{number:02d}.nii.gz", label, AFFINE)
    update = settings(tmp_path / "update.yaml", 3, 2, 1e-9)
    server = start(tmp_path, weights, studies, update)
    try:
        before = hashes(server)
        # What OHIF sends: all trainers at once.
        asked = {"initial": {"max_epochs": 30}, "click": {"max_epochs": 1}}
        assert requests.post(f"{server.url}/train/", json=asked, timeout=30).ok
        until(lambda: stats_of(server, "initial").get("epoch", 0) >= 4)
        assert stats_of(server, "click")["model"] == "initial"  # the one that is at work
        children = psutil.Process(server.process.pid).children(recursive=True)
        training = [one for one in children if "train" in one.cmdline()]
        assert training
        for one in training:
            one.kill()
        assert wait_for(server)["status"] == "DONE"  # the other one came next
        assert stats_of(server, "click")["is_published"]
        after = hashes(server)
        assert after["initial"] == before["initial"]
        assert after["correction"] != before["correction"]
        assert not list((server.app / "model").rglob(".part-*"))
        stats = stats_of(server, "initial")
        assert not stats["is_running"]
        assert "stopped before its end" in stats["reason"]
        # The next start goes on where that one was.
        again = {"max_epochs": 30}
        assert requests.post(f"{server.url}/train/initial", json=again, timeout=30).ok
        assert wait_for(server)["status"] == "DONE"
        assert stats_of(server, "initial")["epoch"] == 33
        assert "goes on after epoch" in server.output.read_text()
        # Not before: a click on a study that waits is new to the next start, which begins anew.
        assert server.click("VS-11", foreground=[[18, 15, 11]]).status == 200
        # In the server's own process it would stand still meanwhile.
        claimed = {"local_rank": 0}  # what MONAI Label tells the process of a training
        alone = requests.post(f"{server.url}/train/initial?run_sync=true", json=claimed, timeout=30)
        assert alone.status_code == 403
    finally:
        server.stop()


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_the_gate_rejects_what_was_trained_on_shuffled_labels(
    tmp_path, weights, studies, is_shuffled
):
    """A model that outlines too little, then a round on true labels, or on those of elsewhere."""
    places = [[-5, 4, 3], [5, -4, -3], [-5, -4, 3], [5, 4, -3], [0, 5, 5]]
    labels = [np.roll(ball(4.0), place, axis=(0, 1, 2)) for place in places]
    labels = labels if is_shuffled else [ball(4.0)] * 5
    sides = {f"VS-{n:02d}": "training" for n in range(1, 6)} | {"VS-06": "holdout"}
    for case_id, label in zip(sides, [*labels, ball(4.0)], strict=True):
        path = studies / "labels/final" / f"{case_id}.nii.gz"
        save(path, label.astype(np.uint8), AFFINE)
    (studies / ".clickseg").mkdir()
    (studies / ".clickseg/holdout.json").write_text(json.dumps({"patients": sides}))
    store = ModelStore(tmp_path / "store", weights)
    config = load_update(settings(tmp_path / "update.yaml", 3, 20, 0.02))
    outcome = update_model("initial", studies, store, config)
    assert 0.6 < outcome.verdict.before[0] < 0.9
    assert outcome.is_published != is_shuffled, outcome.reason
    assert outcome.reason.startswith("worse on 1 held-out studies") == is_shuffled
    assert (store.current()["initial"] == BASE) == is_shuffled
