"""``clickseg segment`` and ``correct`` give what the engine gives, by the weights we ship."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from clickseg import cli
from clickseg.clicks import Click
from clickseg.engine import Engine
from clickseg.models import load_models
from clickseg.volume import read_label

SAMPLE = Path(__file__).parents[2] / "sample-data"
IMAGE = SAMPLE / "phantom-0001.nii.gz"
LABEL = SAMPLE / "labels/final/phantom-0001.nii.gz"
CLICK = (118, 120, 9)


@pytest.fixture(scope="module")
def engine():
    return Engine(load_models())


@pytest.fixture(scope="module")
def study(engine):
    return engine.study(IMAGE, SAMPLE / "t2" / IMAGE.name)


def run(monkeypatch, capsys, *arguments):
    """Return the exit status, and what went to standard output and error."""
    monkeypatch.setattr(sys, "argv", ["clickseg", *map(str, arguments)])
    status = 0
    try:
        cli.main()
    except SystemExit as left:
        status = left.code or 0
    return status, *capsys.readouterr()


def test_segment_writes_the_initial_outline(monkeypatch, capsys, tmp_path, engine, study):
    out = tmp_path / "mask.nii.gz"
    status, printed, _ = run(monkeypatch, capsys, "segment", IMAGE, "--out", out)
    assert status == 0
    wanted = engine.initial(study)
    np.testing.assert_array_equal(read_label(out).array, wanted.label)
    assert read_label(out).grid == study.grid
    told = json.loads(printed)
    assert told["volume_ml"] == wanted.result["volume_ml"] > 0
    assert told["models"] == wanted.result["models"]


@pytest.mark.parametrize("start", ["auto", "label", "initial", str(LABEL)])
def test_correct_starts_as_the_server_does(monkeypatch, capsys, tmp_path, engine, study, start):
    out = tmp_path / "mask.nrrd"
    point = ",".join(map(str, CLICK))
    command = ["correct", IMAGE, "--background", point, "--start", start, "--out", out]
    status, printed, _ = run(monkeypatch, capsys, *command)
    assert status == 0
    mask = None if start == "initial" else engine.label(study, LABEL)
    wanted = engine.correct(study, (Click.at(CLICK, False, study.grid),), mask)
    np.testing.assert_array_equal(read_label(out).array, wanted.label)
    assert json.loads(printed)["clicks_obeyed"] == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["segment", SAMPLE / "none.nii.gz"], "there is no image none.nii.gz"),
        (["correct", IMAGE, "--click", "1,2"], "click"),
        (["correct", IMAGE, "--click", "a,b,c"], "a click is i,j,k in voxels"),
        (["correct", SAMPLE / "phantom-0003.nii.gz", "--start", "label"], "has none in labels"),
        (["correct", IMAGE, "--start", SAMPLE / "phantom-0003.nii.gz"], "lies on another grid"),
        (["segment", IMAGE, "--models", SAMPLE], "no model 'initial'"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(monkeypatch, capsys, tmp_path, arguments, text):
    out = tmp_path / "mask.nii.gz"
    status, printed, error = run(monkeypatch, capsys, *arguments, "--out", out)
    assert (status, printed) == (2, "")
    assert error.startswith("clickseg: ")
    assert text in error
    assert "Traceback" not in error
    assert not out.exists()


@pytest.mark.parametrize("command", ["segment", "correct"])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--out", "mask.png"], "an image ends in one of .nii.gz, .nii, .nrrd; got 'mask.png'"),
        (["--out", "file/mask.nii.gz"], "cannot be written"),
        (["--out", "folder.nii"], "it is a folder"),
        (["--out", "a.nii", "--device", "cuda:99"], "--device cuda:99 was wanted, there are"),
        (["--out", "a.nii", "--device", "gpu"], "--device is cpu, cuda, cuda:1, ...; got 'gpu'"),
    ],
)
def test_what_cannot_be_is_told_before_the_models_run(
    monkeypatch, capsys, tmp_path, command, options, text
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr("clickseg.commands.segment.load_models", lambda *_: pytest.fail("loaded"))
    Path("file").touch()
    Path("folder.nii").mkdir()
    status, printed, error = run(monkeypatch, capsys, command, IMAGE, *options)
    assert (status, printed) == (2, "")
    assert text in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.nii"]


def test_registration_is_told_where_it_is_asked_for(monkeypatch, capsys, tmp_path):
    command = ["segment", IMAGE, "--out", tmp_path / "mask.nii.gz"]
    _, printed, _ = run(monkeypatch, capsys, *command)
    assert json.loads(printed)["registration"] is None
    status, printed, _ = run(monkeypatch, capsys, *command, "--registration", "auto")
    assert status == 0
    assert json.loads(printed)["registration"]["accepted"] is False
    status, _, told = run(monkeypatch, capsys, *command, "--registration", "on")
    assert status == 2
    assert "--registration is one of auto, header, off, got 'on'" in told
