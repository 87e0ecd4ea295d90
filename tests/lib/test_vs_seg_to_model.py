"""From a download of the public data set to a model and its scores, by the documented commands."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tcia import made, write_images, write_plans, write_texts
from tiny import tiny
from typer.testing import CliRunner

from clickseg.cli import app
from clickseg.config import save_config
from clickseg.importing.vs_seg import official_split
from clickseg.modelfile import read_manifest
from clickseg.study import find_case, read_case_label, read_study
from clickseg.training.split import read_split

LIB = Path(__file__).parents[2] / "lib"
PATIENTS = {1: "training", 2: "training", 3: "training", 182: "validation", 202: "test"}


def clickseg(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.output


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    """Both naming schemes; zipped, unpacked, and as RTSTRUCT without any transform."""
    src = tmp_path_factory.mktemp("download")
    patients = [made(number, 3.5 + number % 5 / 2) for number in PATIENTS]
    for number, patient in enumerate(patients):
        write_images(patient, src, ("descriptive", "classic")[number % 2])
    write_texts(patients[:2], src, ("contours",), zipped=True)
    write_texts(patients[:2], src, ("transforms",), zipped=True)
    write_texts(patients[2:4], src)
    write_plans(patients[4], src)
    return src


def stop_after_the_first_study(src, out):
    """Begin an import and kill it as soon as one study is there."""
    code = "from clickseg.cli import main; main()"
    command = [sys.executable, "-c", code, "import-vs-seg", str(src), str(out)]
    environment = os.environ | {"PYTHONPATH": str(LIB)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not list(out.glob("provenance/*.json")):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)


def test_a_side_is_asked_for_of_a_split(tmp_path):
    arguments = ["evaluate", "--studies", tmp_path, "--out", tmp_path / "out", "--side"]
    for side, told in (("test", "wants --split, or a split.json"), ("tests", "--side is one of")):
        result = CliRunner().invoke(app, [str(argument) for argument in [*arguments, side]])
        assert result.exit_code == 2
        assert told in " ".join(result.output.replace("│", "").split())


@pytest.mark.slow
def test_a_download_becomes_a_model_with_scores_on_the_official_test_side(download, tmp_path):
    studies, run, results = tmp_path / "studies", tmp_path / "run", tmp_path / "results"
    stop_after_the_first_study(download, studies)
    # Whoever trains on these few does not see the test side.
    assert read_split(studies / "split.json") == official_split()
    for path in studies.glob("provenance/*.json"):  # what is told to be there is whole
        case = find_case(studies / f"{path.stem}.nii.gz")
        assert read_case_label(case, read_study(case.t1ce, case.t2).grid).any()
    told = clickseg("import-vs-seg", download, studies, "--jobs", 2)
    assert "0 with warnings" in told
    assert "not imported" not in told
    assert len(list(studies.glob("*.nii.gz"))) == len(PATIENTS)

    recipe = tmp_path / "tiny.yaml"
    save_config(tiny(), recipe)
    common = ("--studies", studies, "--config", recipe, "--out", run)
    clickseg("train", "initial", *common, "--threads", 1)
    clickseg("train", "correction", *common, "--threads", 1)
    for name in ("initial", "correction"):
        data = read_manifest(run, name).data
        assert data["training"] == ["VS-SEG-001", "VS-SEG-002", "VS-SEG-003"]
        assert data["validation"] == ["VS-SEG-182"]
    clickseg(
        "evaluate", "--studies", studies, "--side", "test", "--models", f"ours={run}",
        "--clicks", 1, "--out", results,
    )  # fmt: skip
    scores = json.loads((results / "results.json").read_text())
    assert [score["study"] for score in scores] == ["VS-SEG-202"]
    assert json.loads((results / "summary.json").read_text())["plan"]["side"] == "test"
