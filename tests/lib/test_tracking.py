"""MLflow is told of a training where it is installed and asked for; else that is said at once."""

import shutil
from importlib.util import find_spec

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import short
from typer.testing import CliRunner

from clickseg.cli import app
from clickseg.config import ConfigError
from clickseg.learning.store import ModelStore
from clickseg.learning.update import UpdateError, update_model
from clickseg.training.tracking import Tracking, mlflow_logger, tracked

missing = pytest.mark.skipif(find_spec("mlflow") is not None, reason="mlflow is installed")


@missing
@pytest.mark.parametrize(
    "words", [["initial", "--config", "c.yaml", "--out", "o"], ["click", "--store", "o"]]
)
def test_asked_for_without_being_installed_is_told_before_any_work(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    asked = ["train", *words, "--studies", "nowhere", "--tracking", "mlflow"]
    result = CliRunner().invoke(app, asked)
    assert isinstance(result.exception, ConfigError)
    assert "mlflow was asked for, and it is not installed" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


@missing
def test_an_update_says_so_too_and_leaves_its_lock(small_studies, base, tmp_path):
    store = ModelStore(tmp_path / "store", base)
    with pytest.raises(ConfigError, match="not installed"):
        update_model("initial", small_studies, store, short(), tracking=Tracking("file:x", "x"))
    assert not store.is_training("initial")
    assert not (tmp_path / "store/rounds").exists()


def test_without_being_asked_nothing_is_tracked():
    with tracked(None, "a"):
        assert mlflow_logger() is None


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    found = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    return found


def runs_of(mlflow, tracking):
    client = mlflow.MlflowClient(tracking.uri)
    experiment = client.get_experiment_by_name(tracking.experiment)
    return client, client.search_runs([experiment.experiment_id])


def test_mlflow_is_told_what_tensorboard_is_told(small_studies, base, tmp_path, mlflow):
    tracking = Tracking((tmp_path / "mlruns").as_uri(), "tumors")
    store = ModelStore(tmp_path / "store", base)
    update_model("initial", small_studies, store, short(), tracking=tracking)
    client, (run,) = runs_of(mlflow, tracking)
    assert (run.info.run_name, run.info.status) == ("update-initial", "FINISHED")
    assert run.data.params["model"] == "initial"
    folder = next((tmp_path / "store/rounds/initial").glob("*/log"))
    for network, epochs in (("locate", 1), ("segment", 2)):
        board = EventAccumulator(str(folder / network)).Reload().Scalars(f"{network}/loss")
        told = client.get_metric_history(run.info.run_id, f"{network} loss")
        assert [(one.step, one.value) for one in told] == [
            (one.step, pytest.approx(one.value)) for one in board
        ]
        assert len(told) == epochs
    assert mlflow.active_run() is None


def test_a_round_that_fails_is_a_run_that_failed(small_studies, base, tmp_path, mlflow):
    shutil.copytree(small_studies, tmp_path / "studies")
    shutil.rmtree(tmp_path / "studies/labels")
    tracking = Tracking((tmp_path / "mlruns").as_uri(), "tumors")
    store = ModelStore(tmp_path / "store", base)
    with pytest.raises(UpdateError):
        update_model("initial", tmp_path / "studies", store, short(), tracking=tracking)
    _, (run,) = runs_of(mlflow, tracking)
    assert run.info.status == "FAILED"
    assert mlflow.active_run() is None
