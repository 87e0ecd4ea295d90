"""The weights that come with the package are what the README and their manifests say."""

from pathlib import Path

import pytest

from clickseg.config import as_values, load_config
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
    assert manifest.recipe[name] == as_values(load_config(DEMONSTRATION))[name]
    assert manifest.license == "Apache-2.0"
    assert "not for clinical use" in manifest.data["source"]


def test_the_short_recipe_differs_from_the_default_in_epochs_alone():
    short, default = (
        as_values(load_config(DEMONSTRATION.with_name(f"{name}.yaml")))
        for name in ("demonstration", "default")
    )

    def leaves(value, path=()):
        if isinstance(value, dict):
            for key, part in value.items():
                yield from leaves(part, (*path, key))
        else:
            yield path, value

    differing = {a[0][-1] for a, b in zip(leaves(short), leaves(default), strict=True) if a != b}
    assert differing == {"name", "epochs", "fold_epochs"}
