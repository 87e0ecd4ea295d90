"""The settings of a classical method, searched on studies that train."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from clickseg.baselines.flooding import FloodSettings
from clickseg.baselines.graph_cut import CutSettings
from clickseg.cli import app
from clickseg.evaluation import search as module
from clickseg.evaluation.methods import MethodError
from clickseg.geometry import Grid
from clickseg.initial import Initial
from clickseg.modelfile import ModelError
from clickseg.volume import ImageError, Volume, write_volume

SHAPE = (41, 37, 13)
GRID = Grid(SHAPE, np.diag([0.5, 0.5, 1.5, 1]))
WHOLE = tuple(slice(0, n) for n in SHAPE)
FLOODS = [FloodSettings(0.01, 1.0), FloodSettings(), FloodSettings(3.0, 1.2)]


def ball(radius_mm, center=(20, 18, 6)):
    offsets = (np.indices(SHAPE).T - center) * (0.5, 0.5, 1.5)
    return (radius_mm >= np.linalg.norm(offsets, axis=-1).T).astype(np.uint8)


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Two studies of a ball, of which the initial outline has the inner part alone."""
    opened = []
    for n in range(2):
        noise = np.random.default_rng(n).normal(100, 5, SHAPE).astype(np.float32)
        write_volume(tmp_path / f"VS-{n}.nii.gz", Volume(noise + 100 * ball(5), GRID))
        write_volume(tmp_path / f"labels/final/VS-{n}.nii.gz", Volume(ball(5), GRID))

    def initial(study):
        opened.append(study.case_id)
        inner = ball(3)
        return Initial(inner, inner * np.float32(0.9), WHOLE, None)

    monkeypatch.setattr(module, "initial_of", lambda _: (initial, "abc"))
    for name, grid in (("flooding", FLOODS), ("graph_cut", [CutSettings(), CutSettings(8.0, 1.0)])):
        monkeypatch.setitem(module.METHODS, name, replace(module.METHODS[name], grid=grid))

    def ask(method, clicks=2, start=()):
        command = ["search", method, "--studies", str(tmp_path), "--out", str(tmp_path / "out")]
        result = CliRunner().invoke(
            app, [*command, "--clicks", str(clicks), *start], catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        return json.loads((tmp_path / "out" / f"{method}.json").read_text()), result.stdout

    ask.opened = opened
    return ask


def test_all_settings_are_tried_and_the_best_comes_first(ask):
    values, text = ask("flooding")
    rows = values["rows"]
    assert values["studies"] == ["VS-0", "VS-1"]
    assert sorted(row["settings"]["tolerance"] for row in rows) == [0.01, 0.4, 3.0]
    assert [row["auc"] for row in rows] == sorted((row["auc"] for row in rows), reverse=True)
    # Hardly any voxel of noise is within a hundredth of the click: next to nothing is flooded.
    assert rows[-1]["settings"]["tolerance"] == 0.01
    assert rows[0]["dice"][2] > rows[-1]["dice"][2] + 0.1
    assert len({row["dice"][0] for row in rows}) == 1  # one start
    assert all(len(row["dice"]) == 3 for row in rows)
    assert [row["is_used"] for row in rows].count(True) == 1
    assert text.count("yes") == 1
    assert ask.opened == ["VS-0", "VS-1"]


def test_what_was_read_is_not_read_again_unless_something_changed(ask, tmp_path):
    first, _ = ask("graph_cut")
    assert ask("graph_cut")[0]["rows"] == first["rows"]
    assert ask.opened == ["VS-0", "VS-1"]
    more, _ = ask("graph_cut", clicks=3)
    assert len(more["rows"][0]["dice"]) == 4
    assert ask.opened == ["VS-0", "VS-1"] * 2
    write_volume(tmp_path / "labels/final/VS-1.nii.gz", Volume(ball(4), GRID))
    assert ask("graph_cut", clicks=3)[0]["rows"] != more["rows"]
    assert ask.opened == ["VS-0", "VS-1", "VS-0", "VS-1", "VS-1"]


def test_what_is_damaged_is_read_again(ask, tmp_path):
    first, _ = ask("graph_cut")
    (tmp_path / "out" / "graph_cut" / "VS-1.json").write_text("")
    assert ask("graph_cut")[0]["rows"] == first["rows"]
    assert ask.opened == ["VS-0", "VS-1", "VS-1"]


def test_a_label_that_cannot_be_used_is_told_before_any_work(ask, tmp_path):
    other = Grid((*SHAPE[:2], SHAPE[2] + 1), GRID.affine)
    label = Volume(np.zeros(other.shape, np.uint8), other)
    write_volume(tmp_path / "labels/final/VS-1.nii.gz", label)
    with pytest.raises(ImageError, match=r"VS-1 .*another grid"):
        ask("flooding")
    assert ask.opened == []


@pytest.mark.parametrize("method", ["flooding", "graph_cut"])
def test_settings_may_be_searched_from_nothing_or_other_masks(ask, tmp_path, method):
    own, _ = ask(method)
    assert own["start"] == "own"
    assert own["rows"][0]["dice"][0] > 0.2
    opened = list(ask.opened)
    nothing, _ = ask(method, start=("--start", "nothing"))
    assert nothing["start"] == "nothing"
    assert [row["dice"][0] for row in nothing["rows"]] == [0.0] * len(nothing["rows"])
    assert nothing["rows"][0]["dice"][1] > 0.2
    for n in range(2):
        write_volume(tmp_path / f"masks/VS-{n}-start.nii.gz", Volume(ball(4), GRID))
    masks = ("--start", str(tmp_path / "masks"))
    given, _ = ask(method, start=masks)
    assert given["rows"][0]["dice"][0] > own["rows"][0]["dice"][0]
    write_volume(tmp_path / "masks/VS-1-start.nii.gz", Volume(ball(5), GRID))
    assert ask(method, start=masks)[0]["rows"] != given["rows"]
    assert ask.opened == opened  # whoever has masks asks no network for one


def test_a_start_that_is_not_there_is_told(ask, tmp_path):
    with pytest.raises(ModelError, match="--start wants a folder of start masks"):
        ask("flooding", start=("--start", str(tmp_path / "none")))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", module.METHODS)
def test_what_is_used_is_one_of_the_grid(name):
    assert module.METHODS[name].now in module.METHODS[name].grid
    assert len(set(module.METHODS[name].grid)) == len(module.METHODS[name].grid)


def test_a_method_without_settings_is_told(ask):
    with pytest.raises(MethodError, match="ours has no settings; those with some: graph_cut"):
        ask("ours")
