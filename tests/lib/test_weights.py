"""The weights that come with the package are what the README and their manifests say."""

from pathlib import Path

import pytest

from clickseg.config import as_values, config_from, load_config
from clickseg.modelfile import read_manifest
from clickseg.models import WEIGHTS, load_models

DEMONSTRATION = Path(__file__).parents[2] / "configs" / "demonstration.yaml"


def test_they_load_and_are_small():
    models = load_models()
    assert models.hashes == {
        name: read_manifest(WEIGHTS, name).short_hash for name in ("initial", "correction")
    }
    assert sum(path.stat().st_size for path in WEIGHTS.glob("*.pt")) < 12e6


@pytest.mark.parametrize("name", ["initial", "correction"])
def test_they_were_trained_by_the_recipe_in_the_repository(name):
    manifest = read_manifest(WEIGHTS, name)
    trained, recipe = config_from(manifest.recipe), load_config(DEMONSTRATION)
    assert getattr(trained, name) == getattr(recipe, name)
    assert manifest.license == "Apache-2.0"
    assert "not for clinical use" in manifest.data["source"]


def test_the_short_recipe_differs_from_the_one_before_in_epochs_alone():
    short, whole = (
        as_values(load_config(DEMONSTRATION.with_name(f"{name}.yaml")))
        for name in ("demonstration", "unfolded")
    )

    def leaves(value, path=()):
        if isinstance(value, dict):
            for key, part in value.items():
                yield from leaves(part, (*path, key))
        else:
            yield path, value

    differing = {a[0][-1] for a, b in zip(leaves(short), leaves(whole), strict=True) if a != b}
    assert differing == {"name", "epochs", "fold_epochs"}
