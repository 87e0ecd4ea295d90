from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from clickseg.clicks import Click
from clickseg.config import load_config
from clickseg.correction import PasteCorrection
from clickseg.geometry import Grid
from clickseg.initial import Initial
from clickseg.metrics import dice
from clickseg.modelfile import ModelError
from clickseg.models import load_correction
from clickseg.networks import build_network
from clickseg.study import Case, labeled_cases, read_study
from clickseg.training.correction import train_correction
from clickseg.training.cuts2d import (
    Cut,
    border_cuts,
    error_cuts,
    fit_cuts,
    train_cuts2d,
    with_error,
)
from clickseg.training.loop import Run
from clickseg.volume import ImageError, Volume, write_volume

PUBLISHED = Path(__file__).parents[2] / "configs" / "published.yaml"
SHAPE = (37, 31, 23)
AFFINES = {
    "ras": np.diag([0.4, 0.5, 1.5, 1]),
    "lps": np.diag([-0.4, -0.5, 1.5, 1]),
    "permuted": np.array([[0, 0, -1.5, 9], [0.4, 0, 0, -5], [0, -0.5, 0, 3], [0, 0, 0, 1.0]]),
}
FIT = {"epochs": 1, "steps_per_epoch": 12, "rate": 0.02}


def ball(center, radius=7):
    distance = np.linalg.norm((np.indices(SHAPE).T - center), axis=-1).T
    return (distance <= radius).astype(np.uint8)


@pytest.fixture
def cases(tmp_path):
    for n, affine in enumerate(AFFINES.values()):
        label, grid = ball((19 - n, 14 + n, 11)), Grid(SHAPE, affine)
        noise = np.random.default_rng(n).normal(10, 1, SHAPE).astype(np.float32)
        name = f"VS-{n}.nii.gz"
        write_volume(tmp_path / name, Volume(noise + 20 * label, grid))
        write_volume(tmp_path / "t2" / name, Volume(noise - 5 * label, grid))
        write_volume(tmp_path / "labels/final" / name, Volume(label, grid))
    return labeled_cases(tmp_path)


def recipe(name="multi_encoder_unet", loss="correction", depth=1, **changes):
    config = load_config(PUBLISHED).correction
    return replace(
        config,
        cut=(16, 16),
        depth=depth,
        network=replace(config.network, name=name, arguments={"features": [4, 4, 8, 8]}),
        loss=replace(config.loss, name=loss, arguments={}),
        fit=replace(config.fit, **FIT),
        fine_tune=replace(config.fine_tune, **FIT),
        border_distance_mm=2.0,
        **changes,
    )


def eroded(study):
    """An initial model whose outline is too small by two voxels, in the plane."""
    bright = ndimage.binary_opening(study.image[0] > 0.5 * study.image[0].max())
    mask = ndimage.binary_erosion(bright, np.ones((3, 3, 1)), iterations=2).astype(np.uint8)
    return Initial(mask, mask.astype(np.float32), (slice(0), slice(0), slice(0)), None)


def test_border_cuts_have_the_outline_at_their_center(cases):
    cuts = border_cuts(cases, recipe(), seed=1)
    assert len(cuts) > 50
    for cut in cuts:
        assert cut.image.shape == (3, 16, 16, 1)
        assert cut.label.shape == (1, 16, 16, 1)
        plane = cut.label[0, :, :, 0]
        assert plane[8, 8] == 1
        assert plane[7:10, 7:10].min() == 0
        torch.testing.assert_close(cut.image[2:], cut.label.half())


def test_error_cuts_hold_what_the_initial_model_said(cases):
    cuts = error_cuts(cases[:1], eroded, recipe(), seed=1)
    study = read_study(cases[0].t1ce, cases[0].t2)
    wrong = eroded(study).mask != study.grid.to_canonical(ball((19, 14, 11)))
    assert len(cuts) == wrong.any(axis=(0, 1)).sum()  # one on each wrong slice
    for cut in cuts:
        assert (cut.image[2] < cut.label[0]).any()
        assert cut.label[0, 8, 8, 0] == 1


def test_cuts_repeat_with_their_seed(cases):
    one, same, other = (border_cuts(cases[:1], recipe(), seed) for seed in (1, 1, 2))
    assert all(torch.equal(a.image, b.image) for a, b in zip(one, same, strict=True))
    pairs = zip(one, other, strict=False)
    assert not all(torch.equal(a.image, b.image) for a, b in pairs)


@pytest.mark.parametrize("errors", ["morphology", "deformation"])
def test_errors_are_drawn_anew_and_touch_the_mask_alone(cases, errors):
    config = recipe(errors=errors, unchanged=0.0)
    cut = border_cuts(cases[:1], config, seed=1)[4]
    before = cut.image.clone()
    rng = np.random.default_rng(0)
    images = [with_error(cut, config, rng) for _ in range(12)]
    torch.testing.assert_close(cut.image, before, rtol=0, atol=0)
    for image in images:
        torch.testing.assert_close(image[:2], before[:2].float())
        assert set(image[2].unique().tolist()) <= {0.0, 1.0}
    assert len({image[2].numpy().tobytes() for image in images}) > 1


def test_all_slices_of_a_3d_cut_have_the_same_kind_of_error():
    i, j = np.indices((48, 48)) - 24
    disks = [np.hypot(i, j) <= radius_px for radius_px in (4, 5, 7, 10, 12, 10, 7, 4)]
    label = torch.from_numpy(np.stack(disks, axis=-1)[None].astype(np.uint8))
    cut = Cut(torch.cat([torch.zeros(2, 48, 48, 8), label.float()]).half(), label)
    rng = np.random.default_rng(0)
    signs = set()
    for _ in range(50):
        change = with_error(cut, recipe(depth=8, unchanged=0.0), rng)[2] - label[0].float()
        one, *others = np.sign(change.sum(dim=(0, 1)).numpy())
        assert one in (-1, 1)
        assert set(others) == {one}
        signs.add(one)
    assert signs == {-1, 1}


@pytest.mark.parametrize(
    ("name", "loss", "depth"),
    [
        ("attention_unet", "dice", 1),
        ("multi_encoder_unet_3d", "correction_3d", 8),
        ("multi_encoder_unet_tiled", "correction", 9),
    ],
)
def test_every_kind_of_network_can_be_trained(cases, tmp_path, name, loss, depth):
    config = recipe(name, loss, depth)
    config = replace(config, fit=replace(config.fit, steps_per_epoch=2))
    cuts = border_cuts(cases[:1], config, seed=1)[:6]
    torch.manual_seed(0)
    built = build_network(name, config.network.arguments)
    before = {key: value.clone() for key, value in built.state_dict().items()}
    run = Run(tmp_path / "run", "correction", 1)
    fit_cuts(built, cuts, cuts[:2], config, config.fit, run, is_simulated=True)
    changed = [not torch.equal(before[key], value) for key, value in built.state_dict().items()]
    assert all(changed)


def test_both_trainings_improve_the_cuts(cases, tmp_path):
    config = recipe()
    arguments = {"features": [8, 8, 8, 8], "dropout": 0.0}
    config = replace(config, network=replace(config.network, arguments=arguments))
    network, metrics = train_cuts2d(
        cases[:2], cases[2:], eroded, config, Run(tmp_path / "run", "correction", 1)
    )
    assert metrics["validation_cuts"] > 5
    assert metrics["cut_dice"] > metrics["cut_dice_uncorrected"]
    assert not network.training


def test_an_initial_model_without_errors_needs_no_second_training(cases, tmp_path):
    truth = {case.case_id: ball((19 - n, 14 + n, 11)) for n, case in enumerate(cases)}

    def perfect(study):
        mask = study.grid.to_canonical(truth[study.case_id])
        return replace(eroded(study), mask=mask)

    run = Run(tmp_path / "run", "correction", 1)
    _, metrics = train_cuts2d(cases[:2], cases[2:], perfect, recipe(), run)
    assert metrics == {"validation_cuts": 0}
    assert not (tmp_path / "run" / "correction_real.checkpoint.pt").exists()


def test_the_whole_recipe_from_files_to_files(cases, tmp_path, monkeypatch):
    whole = load_config(PUBLISHED)
    config = replace(whole, correction=recipe(), split=replace(whole.split, validation=0.34))
    monkeypatch.setattr("clickseg.training.correction.load_initial", lambda *_: (eroded, ""))
    manifest = train_correction(cases, config, tmp_path / "run", "cpu")
    assert manifest.metrics["validation_cuts"] > 5
    paste, short_hash = load_correction(tmp_path / "run")
    assert isinstance(paste, PasteCorrection)
    assert short_hash == manifest.short_hash
    study = read_study(cases[0].t1ce, cases[0].t2)
    label, start = study.grid.to_canonical(ball((19, 14, 11))), eroded(study).mask
    clicks = tuple(
        Click.at((i, 14, k), True, study.grid.canonical) for k in range(6, 17) for i in (14, 24)
    )
    mask = paste(study, start, clicks).mask
    assert dice(mask, label) != dice(start, label)
    assert not (mask != start)[:, :, [0, 1, 21, 22]].any()


def test_training_needs_an_initial_model(cases, tmp_path):
    config = replace(load_config(PUBLISHED), correction=recipe())
    with pytest.raises(ModelError, match="no model 'initial'"):
        train_correction(cases, config, tmp_path / "run", "cpu")


def test_no_tumor_to_train_on_says_so(tmp_path):
    broken = tmp_path / "one.nii.gz"
    broken.write_bytes(b"no image")
    with pytest.raises(ImageError, match="no case with a tumor"):
        train_cuts2d(
            [Case("one", broken, None, broken)], [], eroded, recipe(), Run(tmp_path, "c", 1)
        )
