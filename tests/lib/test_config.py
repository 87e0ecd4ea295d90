import copy
from pathlib import Path

import pytest
import yaml

from clickseg.baselines.recipe import RivalConfig
from clickseg.baselines.rivals import name_of
from clickseg.config import (
    ConfigError,
    LocalConfig,
    PasteConfig,
    TwoStageConfig,
    WholeVolumeConfig,
    as_values,
    config_from,
    load_config,
    load_recipe,
    save_config,
)

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(set(CONFIGS.glob("*.yaml")) - {CONFIGS / "series-rules.yaml"})


@pytest.fixture
def values():
    return yaml.safe_load((CONFIGS / "default.yaml").read_text())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_can_be_read_and_is_named_like_its_file(path):
    assert load_config(path).name == path.stem


@pytest.mark.parametrize(
    "path", sorted((CONFIGS / "rivals").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_rival_can_be_read_and_is_named_like_its_file(path):
    recipe = load_recipe(path, RivalConfig)
    assert recipe.name == path.stem == name_of(recipe.rival)


def test_the_recipes_are_what_they_are_called():
    ours, theirs = load_config(CONFIGS / "default.yaml"), load_config(CONFIGS / "published.yaml")
    assert isinstance(ours.initial, TwoStageConfig)
    assert isinstance(ours.correction, LocalConfig)
    assert isinstance(theirs.initial, WholeVolumeConfig)
    assert isinstance(theirs.correction, PasteConfig)


@pytest.mark.parametrize("name", ["default", "published"])
def test_a_recipe_survives_a_file_and_a_manifest(tmp_path, name):
    config = load_config(CONFIGS / f"{name}.yaml")
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config
    assert config_from(as_values(config)) == config


def changed(values, key, value):
    values = copy.deepcopy(values)
    *path, last = key.split(".")
    inner = values
    for part in path:
        inner = inner[part]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return values


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("seed", None, "seed: Field required"),
        ("sede", 1, "sede: Unexpected keyword argument"),
        ("seed", "one", "seed: .*integer.*, got 'one'"),
        ("seed", -1, "seed: .*greater than or equal to 0, got -1"),
        ("split.validation", 1.5, r"split\.validation: .*less than or equal to 1, got 1\.5"),
        ("initial.locate.patch", [8, 8], r"initial\.two_stage\.locate\.patch"),
        ("initial.locate.spacing_mm", [1, 0, 1], r"locate\.spacing_mm\.1: .*greater than 0, got 0"),
        ("initial.method", "unet", "initial: .*'two_stage', 'whole_volume'"),
        ("correction.merge", "some", r"merge: .*'component' or 'all', got 'some'"),
        ("correction.fit.average", 1, r"fit\.average: .*less than 1, got 1"),
        ("correction.fit.rate", float("inf"), r"fit\.rate: .*finite number, got inf"),
        ("correction.fit.optimizer", "lion", r"fit\.optimizer: .*'adam', 'adamw' or 'sgd'"),
        ("correction.border_distance", 3, r"border_distance: Unexpected"),
    ],
)
def test_a_wrong_key_is_told_with_its_value_and_what_was_wanted(values, key, value, text):
    with pytest.raises(ConfigError, match=text):
        config_from(changed(values, key, value))


def test_all_wrong_keys_are_told_at_once(values):
    wrong = changed(changed(values, "seed", None), "split.validation", -1)
    with pytest.raises(ConfigError, match=r"split.*; seed|seed.*; split"):
        config_from(wrong)


@pytest.mark.parametrize("content", [b"", b"5", b"- a", b"a: [", b"name: \tx", b"name: \xff"])
def test_what_is_no_recipe_is_refused_with_the_name_of_the_file(tmp_path, content):
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_config(tmp_path / "bad.yaml")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no configuration at"):
        load_config(tmp_path / "gone.yaml")


def test_a_recipe_is_frozen(values):
    with pytest.raises(AttributeError):
        config_from(values).seed = 2
