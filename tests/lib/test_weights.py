"""The weights that come with the package are what the README and their manifests say."""

from pathlib import Path

import pytest

from clickseg.config import as_values, config_from, load_config
from clickseg.modelfile import read_manifest
from clickseg.models import WEIGHTS, load_models

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = {"initial": "demonstration", "correction": "default"}


def test_they_load_and_are_small():
    models = load_models()
    assert models.hashes == {
        name: read_manifest(WEIGHTS, name).short_hash for name in ("initial", "correction")
    }
    assert sum(path.stat().st_size for path in WEIGHTS.glob("*.pt")) < 12e6


@pytest.mark.parametrize("name", RECIPES)
def test_they_were_trained_by_the_recipe_in_the_repository(name):
    manifest = read_manifest(WEIGHTS, name)
    trained, recipe = config_from(manifest.recipe), load_config(CONFIGS / f"{RECIPES[name]}.yaml")
    assert getattr(trained, name) == getattr(recipe, name)
    assert manifest.license == "Apache-2.0"
    assert "not for clinical use" in manifest.data["source"]


def test_the_short_recipe_has_fewer_epochs_than_the_one_before_and_our_correction():
    short, whole, ours = (
        as_values(load_config(CONFIGS / f"{name}.yaml"))
        for name in ("demonstration", "unfolded", "default")
    )
    assert short["correction"] == ours["correction"]

    def leaves(value, path=()):
        if isinstance(value, dict):
            for key, part in value.items():
                yield from leaves(part, (*path, key))
        else:
            yield path, value

    differing = {
        a[0][-1]
        for a, b in zip(*(leaves(one["initial"]) for one in (short, whole)), strict=True)
        if a != b
    }
    assert differing == {"epochs", "fold_epochs"}
