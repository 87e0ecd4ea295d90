"""``clickseg score``: what is scored again and what is not, by a model that counts its calls."""

import sys

import numpy as np
import pytest

from clickseg import cli
from clickseg.choosing.cached import HeldScores, read_entry
from clickseg.commands import score as command
from clickseg.correction import Correction
from clickseg.geometry import Grid
from clickseg.initial import Initial
from clickseg.models import Models
from clickseg.volume import Volume, write_volume

SHAPE = (23, 19, 11)
GRID = Grid(SHAPE, np.diag([0.5, 0.4, 1.5, 1]))


class Brightest:
    """Takes what is bright for tumor, and notes which studies it was asked about unchanged."""

    def __init__(self):
        self.hashes = {"initial": "11", "correction": "22"}
        self.asked = []

    def initial(self, study):
        if not self.asked or self.asked[-1] != study.case_id:
            self.asked.append(study.case_id)
        mask = (study.image[0] > 2).astype(np.uint8)
        box = tuple(slice(0, n) for n in mask.shape)
        return Initial(mask, 0.8 * mask.astype(np.float32), box, None)

    def correction(self, study, start, clicks, memo=None):  # noqa: ARG002
        return Correction(start.copy(), None, 1.0)


def write_study(path, seed=0):
    rng = np.random.default_rng(seed)
    array = rng.normal(100, 5, SHAPE).astype(np.float32)
    array[10:14, 8:12, 4:7] += 200
    return write_volume(path, Volume(array, GRID))


@pytest.fixture
def models(monkeypatch):
    made = Brightest()

    def load(initial, correction, device):  # noqa: ARG001
        return Models(made.initial, made.correction, made.hashes)

    monkeypatch.setattr(command, "load_pair", load)
    return made


@pytest.fixture
def studies(tmp_path):
    for seed, name in enumerate("abc"):
        write_study(tmp_path / "studies" / f"{name}.nii.gz", seed)
    return tmp_path / "studies"


@pytest.fixture
def score(monkeypatch, capsys, studies, tmp_path):
    def run(*more):
        line = ["clickseg", "score", "--studies", studies, "--out", tmp_path / "scores", *more]
        monkeypatch.setattr(sys, "argv", [str(part) for part in line])
        status = 0
        try:
            cli.main()
        except SystemExit as left:
            status = left.code or 0
        return status, capsys.readouterr().err

    return run


def test_each_study_is_scored_once(score, models, tmp_path):
    status, told = score()
    assert status == 0
    assert "scored 3 studies, 0 were there already, 0 were skipped" in told
    assert models.asked == ["a", "b", "c"]
    found = HeldScores(tmp_path / "scores").by(models.hashes)
    # 0.8 is 0.72 bits, the rim 0: the mean is between; nothing is moved by a click.
    assert found.keys() == {"a", "b", "c"}
    assert all(0 < one.uncertainty < 0.72 for one in found.values())
    assert all(one.disagreement == 0 and one.feature is None for one in found.values())
    models.asked.clear()
    assert "scored 0 studies, 3 were there already" in score()[1]
    assert models.asked == []


def test_a_run_that_stopped_goes_on(score, models, tmp_path):
    score()
    (tmp_path / "scores" / "b.json").unlink()
    models.asked.clear()
    score()
    assert models.asked == ["b"]


def test_another_model_scores_anew(score, models, tmp_path):
    score()
    models.hashes = models.hashes | {"correction": "33"}
    models.asked.clear()
    score()
    assert models.asked == ["a", "b", "c"]
    assert HeldScores(tmp_path / "scores").by({"initial": "11", "correction": "22"}) == {}


def test_a_study_that_changed_is_scored_anew(score, models, studies):
    score()
    models.asked.clear()
    write_study(studies / "a.nii.gz", seed=9)
    write_study(studies / "t2" / "b.nii.gz", seed=9)
    (studies / "c.nii.gz").touch()  # the same content
    score()
    assert models.asked == ["a", "b"]


def test_scores_of_a_study_that_changed_do_not_count_even_if_it_cannot_be_read(
    score, models, studies, tmp_path
):
    score()
    (studies / "b.nii.gz").write_bytes(b"this is no image")
    assert "b is skipped" in score()[1]
    assert HeldScores(tmp_path / "scores").by(models.hashes).keys() == {"a", "c"}


def test_two_images_of_one_id_are_told_and_cost_no_other(
    score, models, studies, tmp_path, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "300")
    write_study(studies / "b.nii")
    status, told = score()
    assert status == 0
    assert "b is skipped: several images have this id: b.nii, b.nii.gz" in told
    assert "scored 2 studies, 0 were there already, 1 were skipped" in told
    assert HeldScores(tmp_path / "scores").by(models.hashes).keys() == {"a", "c"}


def test_a_damaged_score_is_made_anew(score, models, tmp_path):
    score()
    whole = read_entry(tmp_path / "scores", "b")
    path = tmp_path / "scores" / "b.json"
    path.write_text(path.read_text()[:40])
    models.asked.clear()
    score()
    assert models.asked == ["b"]
    assert read_entry(tmp_path / "scores", "b") == whole


def test_a_damaged_study_is_told_and_costs_no_other(score, models, studies, tmp_path):
    (studies / "b.nii.gz").write_bytes(b"this is no image")
    status, told = score()
    assert status == 0
    assert "b is skipped" in told
    assert "scored 2 studies, 0 were there already, 1 were skipped" in told
    assert HeldScores(tmp_path / "scores").by(models.hashes).keys() == {"a", "c"}


def test_a_folder_that_is_not_there_is_told(score, models, studies):  # noqa: ARG001
    status, told = score("--studies", studies / "none")
    assert status == 2
    assert "a folder of studies was wanted" in told
