"""The weights that come with the package are what the README and their manifests say."""

from pathlib import Path

import pytest

from clickseg.config import config_from, load_config
from clickseg.modelfile import read_manifest
from clickseg.models import WEIGHTS, load_models

DEFAULT = Path(__file__).parents[2] / "configs" / "default.yaml"


def test_they_load_and_are_small():
    models = load_models()
    assert models.hashes == {
        name: read_manifest(WEIGHTS, name).short_hash for name in ("initial", "correction")
    }
    assert sum(path.stat().st_size for path in WEIGHTS.glob("*.pt")) < 12e6


@pytest.mark.parametrize("name", ["initial", "correction"])
def test_they_were_trained_by_the_recipe_in_the_repository(name):
    manifest = read_manifest(WEIGHTS, name)
    trained, recipe = config_from(manifest.recipe), load_config(DEFAULT)
    assert getattr(trained, name) == getattr(recipe, name)
    assert manifest.license == "Apache-2.0"
    assert "not for clinical use" in manifest.data["source"]
