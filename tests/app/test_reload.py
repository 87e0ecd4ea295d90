"""A server takes published models without a restart, or stays with the old and tries again."""

import os
import shutil
import time

import pytest

from clickseg.learning.store import ModelStore
from clickseg.modelfile import load_weights, read_manifest, save_model
from clickseg.networks import build_network
from clickseg_app.requests import Folders
from clickseg_app.served import LOAD_PAUSE_S, ServedEngine

pytestmark = pytest.mark.filterwarnings("ignore:'crypt' is deprecated")  # of what logs users in


@pytest.fixture
def served(tmp_path, weights):
    return ServedEngine(ModelStore(tmp_path / "store", weights), "cpu", 1 << 20, "header")


def another(folder, weights, by=0.01):
    """The correction of the base with another bias."""
    manifest = read_manifest(weights, "correction")
    recipe = manifest.recipe["correction"]["network"]
    network = build_network(recipe["name"], recipe["arguments"])
    load_weights(weights, manifest, network)
    next(network.parameters()).data += by
    save_model(folder, network, manifest)
    return folder


def test_a_model_that_cannot_be_loaded_yet_is_taken_later(served, tmp_path, weights):
    before = served.engine().models.hashes
    published = served.store.publish("correction", another(tmp_path / "made", weights))
    file = published.folder / "correction.pt"
    shutil.move(file, tmp_path / "aside.pt")
    assert served.engine().models.hashes == before
    shutil.move(tmp_path / "aside.pt", file)
    assert served.engine().models.hashes == before  # not at each request: a load takes its time
    served._load_again_s = 0.0  # the pause is over
    after = served.engine().models.hashes
    assert after == before | {"correction": published.manifest().short_hash}


def test_a_failed_load_holds_up_no_other_version_and_is_tried_at_least_each_minute(
    served, tmp_path, weights
):
    longest_s = LOAD_PAUSE_S[1]
    base = served.engine().models.hashes
    broken = served.store.publish("correction", another(tmp_path / "made", weights))
    file = broken.folder / "correction.pt"
    shutil.move(file, tmp_path / "aside.pt")
    for _ in range(9):
        served._load_again_s = 0.0
        assert served.engine().models.hashes == base
    assert served._load_pause_s == longest_s
    assert 0 < served._load_again_s - time.monotonic() <= longest_s
    better = served.store.publish("correction", another(tmp_path / "made", weights, by=0.02))
    after = served.engine().models.hashes  # this one has not failed
    assert after == base | {"correction": better.manifest().short_hash}


def test_half_files_of_a_killed_process_are_removed_when_nobody_writes_them(tmp_path):
    from clickseg_app.app import ClickSegApp

    app = object.__new__(ClickSegApp)  # without the server around it
    app._sessions, app._is_pacs = None, False
    app.folders = Folders(tmp_path / "studies", tmp_path / "uploads", tmp_path / "sessions")
    names = {
        f"{place}/.part-a-x{age}" for place in ("studies/labels/final", "uploads") for age in (0, 9)
    }
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        if name.endswith("9"):
            os.utime(tmp_path / name, (1, 1))
    (tmp_path / "studies/a.nii.gz").touch()
    os.utime(tmp_path / "studies/a.nii.gz", (1, 1))
    for age in (0, 9):
        half = tmp_path / f"studies/.fetched-{age}/1.dcm"
        half.parent.mkdir()
        half.touch()
        if age:
            os.utime(half.parent, (1, 1))
    app.cleanup_sessions()
    assert (tmp_path / "studies/.fetched-0/1.dcm").is_file()
    assert not (tmp_path / "studies/.fetched-9").exists()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left >= {name for name in names if name.endswith("0")} | {"studies/a.nii.gz"}
    assert not [name for name in left if name.endswith("9")]


def test_models_are_loaded_once(served, tmp_path, weights, monkeypatch):
    served.engine()
    served.store.publish("correction", another(tmp_path / "made", weights))
    served.engine()
    monkeypatch.setattr(served.store, "load", lambda _: pytest.fail("loaded again"))
    served.engine()
