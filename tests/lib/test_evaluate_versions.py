"""The version of a method names the weights and the recipe: what was read by another is no use."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from clickseg.baselines.recipe import RivalConfig
from clickseg.baselines.rivals import build_rival
from clickseg.config import load_recipe
from clickseg.evaluation import run
from clickseg.evaluation.methods import ON_INITIAL, build_method
from clickseg.modelfile import Manifest, save_model
from clickseg.models import WEIGHTS

RIVALS = Path(__file__).parents[2] / "configs" / "rivals"


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(WEIGHTS, tmp_path / "models")


def change(folder, name, *keys, value):
    path = folder / f"{name}.json"
    manifest = part = json.loads(path.read_text())
    for key in keys[:-1]:
        part = part[key]
    assert part[keys[-1]] != value
    part[keys[-1]] = value
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["ours", *ON_INITIAL])
def test_the_recipe_of_the_initial_model_is_part_of_a_version(folder, name):
    before = build_method(name, folder).version
    assert build_method(name, folder).version == before
    change(folder, "initial", "recipe", "initial", "mirror", value=False)
    assert build_method(name, folder).version != before


def test_the_recipe_of_the_correction_is_part_of_the_version_of_ours_alone(folder):
    before = {name: build_method(name, folder).version for name in ("ours", "graph_cut")}
    change(folder, "correction", "recipe", "correction", "reach_mm", value=2.0)
    assert build_method("ours", folder).version != before["ours"]
    assert build_method("graph_cut", folder).version == before["graph_cut"]


def test_what_is_told_of_the_training_is_not(folder):
    before = build_method("ours", folder).version
    change(folder, "initial", "metrics", value={"dice": 0.5})
    assert build_method("ours", folder).version == before


def test_the_recipe_of_a_start_is_part_of_its_version(folder, monkeypatch):
    versions = []
    for candidates in (1, 2):
        monkeypatch.setattr(run, "_INITIALS", {})
        change(folder, "initial", "recipe", "initial", "candidates", value=candidates)
        versions.append(run.start_version(str(folder), None))
    assert versions[0] != versions[1]


@pytest.mark.parametrize("name", ["ritm_static", "deep_edit"])
def test_the_recipe_of_a_trained_method_is_part_of_its_version(tmp_path, name):
    recipe = load_recipe(RIVALS / f"{name}.yaml", RivalConfig)
    if name == "ritm_static":
        recipe = replace(recipe, rival=replace(recipe.rival, filters=(4, 4, 8, 8)))
    torch.manual_seed(0)
    network = build_rival(recipe.rival, "")[1]
    save_model(tmp_path, network, Manifest("rival", asdict(recipe), {}, {}))
    before = build_method(name, tmp_path).version
    key, value = ("margin", 3.0) if name == "ritm_static" else ("patch", [32, 32, 16])
    change(tmp_path, "rival", "recipe", "rival", key, value=value)
    assert build_method(name, tmp_path).version != before
