"""Networks that do not fit are told before anything is read."""

from dataclasses import replace
from pathlib import Path

import pytest

from clickseg.config import ConfigError, SmallPatchConfig, load_config
from clickseg.training.correction import train_correction
from clickseg.training.fits import check_networks
from clickseg.training.initial import train_initial

CONFIGS = Path(__file__).parents[2] / "configs"
OURS = load_config(CONFIGS / "small.yaml")
PUBLISHED = load_config(CONFIGS / "published.yaml")


def with_arguments(stage, **values):
    return replace(
        stage, network=replace(stage.network, arguments=stage.network.arguments | values)
    )


@pytest.mark.parametrize(
    "name",
    [
        "default",
        "demonstration",
        "published",
        "small",
        "tables/published_small",
        "unfolded",
        "vs-seg",
    ],
)
def test_all_recipes_fit(name):
    check_networks(load_config(CONFIGS / f"{name}.yaml"))


@pytest.mark.parametrize(
    ("stage", "told"),
    [(replace(OURS.correction, cut=(28, 28, 11)), r"correction.cut: .* 5 .* \(28, 28, 11\)"),
     (replace(OURS.correction, cut=(31, 32, 11)), "want even sides, got 31 x 32"),
     (with_arguments(OURS.correction, in_channels=4), "correction.cut: .* 5 channels"),
     (with_arguments(OURS.correction, filters=[16]), "correction.cut: "),
     (with_arguments(OURS.correction, out_channels=2), r"answers \(2, 32, 32, 11\), wanted"),
     (replace(OURS.correction, spacing_mm=(1.0, 1.0, 3.0)), r"is \(1.0, 1.0, 3.0\), .* be one"),
     (replace(PUBLISHED.correction, cut=(42, 48)), r"correction.cut: .* 3 .* \(42, 48, 1\)")],
)  # fmt: skip
def test_a_correction_that_does_not_fit_is_told(stage, told):
    with pytest.raises(ConfigError, match=told):
        check_networks(replace(OURS, correction=stage))


@pytest.mark.parametrize("name", ["locate", "segment"])
def test_an_initial_network_that_does_not_fit_is_told(name):
    stage = replace(getattr(OURS.initial, name), patch=(50, 64, 24))
    initial = replace(OURS.initial, **{name: stage})
    with pytest.raises(
        ConfigError, match=rf"initial.{name}.patch: .* 2 channels of \(50, 64, 24\)"
    ):
        check_networks(replace(OURS, initial=initial))
    segment = replace(OURS.initial.segment, small=SmallPatchConfig(patch=(50, 64, 16), share=0.5))
    with pytest.raises(ConfigError, match=r"segment.small.patch: .* 2 channels of \(50, 64, 16\)"):
        check_networks(replace(OURS, initial=replace(OURS.initial, segment=segment)))
    segment = replace(segment, small=SmallPatchConfig(patch=(64, 72, 16), share=0.5))
    with pytest.raises(ConfigError, match=r"small.patch .* \(64, 64, 24\), is \(64, 72, 16\)"):
        check_networks(replace(OURS, initial=replace(OURS.initial, segment=segment)))
    whole = replace(PUBLISHED.initial, size=(100, 128, 40))
    with pytest.raises(ConfigError, match=r"initial.size: unet3d does not take 2 channels"):
        check_networks(replace(PUBLISHED, initial=whole))


@pytest.mark.parametrize("train", [train_initial, train_correction])
def test_trainings_tell_it_before_they_begin(train, tmp_path):
    config = replace(OURS, correction=replace(OURS.correction, cut=(28, 28, 11)))
    with pytest.raises(ConfigError, match=r"correction\.cut"):
        train([], config, tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()
