"""What a viewer's request for MLflow comes to."""

import json
import os
from importlib.util import find_spec

import pytest
from monailabel.datastore.local import LocalDatastore
from monailabel.utils.async_tasks import task as task_of_server
from monailabel.utils.async_tasks.task import AsyncTask

from clickseg.learning.settings import load_update
from clickseg.learning.store import ModelStore
from clickseg_app.train import UpdateTask


@pytest.fixture
def task(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(os, "nice", lambda _: 0)  # of this process, which has more tests to run
    monkeypatch.setattr("clickseg_app.train._has_own_process", lambda: True)
    store = ModelStore(tmp_path / "store", weights)
    return UpdateTask("initial", store, tmp_path, load_update(), "cpu", None)


def said(task, request):
    datastore = LocalDatastore(str(task.studies), auto_reload=False)
    with pytest.raises(SystemExit):
        task(request, datastore)
    return json.loads((task.store.folder / "training-initial.json").read_text())["reason"]


@pytest.mark.skipif(find_spec("mlflow") is not None, reason="mlflow is installed")
@pytest.mark.parametrize("asked", ["mlflow", ["mlflow", "None"]])
def test_it_is_told_that_mlflow_is_not_installed(task, asked):
    assert "is not installed here" in said(task, {"tracking": asked})


def test_a_place_and_other_trackers_are_refused(task):
    for uri in ("http://elsewhere.example", "file:///etc"):
        reason = said(task, {"tracking": "mlflow", "tracking_uri": uri})
        assert "MONAI_LABEL_TRACKING_URI" in reason
    assert "wanted is None or mlflow" in said(task, {"tracking": "wandb"})


@pytest.mark.filterwarnings("ignore:'crypt' is deprecated")  # of what logs users in
def test_a_request_names_no_folder_to_import_from(tmp_path, monkeypatch):
    """MONAI Label takes one, and puts it on the PYTHONPATH of the training."""
    from clickseg_app.app import ClickSegApp

    app, sent = object.__new__(ClickSegApp), {}
    app.app_dir = str(tmp_path / "app")
    monkeypatch.setattr(app, "info", dict)
    monkeypatch.setattr(task_of_server, "app_instance", lambda: app)
    monkeypatch.setattr(task_of_server, "run_background_task", lambda one, _: sent.update(one))
    AsyncTask.run("train", {"model": "initial"}, {"bundle_path": str(tmp_path / "theirs")})
    assert sent == {"model": "initial", "bundle_path": app.app_dir}


def test_by_default_nothing_is_tracked(task):
    assert task.config()["tracking"][0] == "None"
    assert "at least 3 patients" in said(task, {"tracking": ["None", "mlflow"], "tracking_uri": ""})
