"""The default recipe in miniature, and studies that it learns from in seconds."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from clickseg.config import load_config
from clickseg.geometry import Grid
from clickseg.learning.settings import load_update
from clickseg.volume import Volume, write_volume

DEFAULT = Path(__file__).parents[2] / "configs" / "default.yaml"
SHAPE = (61, 53, 19)


def small(network, filters):
    arguments = network.arguments | {"filters": filters}
    for key, count in (("kernel_size", 3), ("strides", 3), ("upsample_kernel_size", 2)):
        arguments[key] = arguments[key][:count]
    if "deep_supr_num" in arguments:
        arguments["deep_supr_num"] = 1  # two of three levels have a head
    return replace(network, arguments=arguments)


def smaller(stage, fit):
    return replace(stage, patch=(48, 48, 12), fit=fit, network=small(stage.network, [2, 4, 8]))


def tiny():
    """The default recipe with tiny networks, patches and few steps."""
    config = load_config(DEFAULT)
    fit = replace(config.initial.segment.fit, epochs=1, steps_per_epoch=2, bfloat16=False)
    initial, correction = config.initial, config.correction
    return replace(
        config,
        split=replace(config.split, validation=0.34),
        initial=replace(
            initial,
            fold_epochs=1,
            locate=replace(
                initial.locate,
                patch=(16, 16, 8),
                fit=fit,
                network=small(initial.locate.network, [2, 4, 8]),
            ),
            segment=replace(
                initial.segment,
                patch=(16, 16, 8),
                small=None,
                fit=fit,
                network=small(initial.segment.network, [2, 4, 8]),
            ),
        ),
        correction=replace(
            correction,
            cut=(16, 16, 5),
            fit=replace(fit, batch=2),
            network=small(correction.network, [2, 4, 8]),
        ),
    )


def roomy():
    """``tiny`` with a fine patch that holds a whole study: one window in place of a hundred."""
    config = tiny()
    segment = replace(config.initial.segment, patch=(64, 64, 20))
    return replace(config, initial=replace(config.initial, segment=segment))


def write_case(folder, name, center, radius_mm, t2=True, label=True):
    grid = Grid(SHAPE, np.diag([-0.5, -0.5, 1.5, 1.0]))
    offsets = (np.indices(SHAPE).reshape(3, -1).T - center) * grid.spacing_mm
    ball = (np.linalg.norm(offsets, axis=1) <= radius_mm).reshape(SHAPE)
    rng = np.random.default_rng(len(name))
    noise = rng.normal(100, 20, SHAPE)
    for path, sign, wanted in ((folder, 1, True), (folder / "t2", -0.5, t2)):
        if wanted:
            image = np.clip(noise + sign * 100 * ball, 1, None).astype(np.float32)
            write_volume(path / f"{name}.nii.gz", Volume(image, grid))
    if label:
        write_volume(
            folder / "labels/final" / f"{name}.nii.gz", Volume(ball.astype(np.uint8), grid)
        )


def short(**changes):
    """Settings of an update that takes a second."""
    config = load_update()
    fit = replace(config.segment, epochs=2, steps_per_epoch=2, bfloat16=False)
    fits = {"locate": replace(fit, epochs=1), "segment": fit, "correction": replace(fit, batch=2)}
    fits |= {"refined": replace(config.refined, studies=0)}
    return replace(config, replay=0, **fits | changes)
