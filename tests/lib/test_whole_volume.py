from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clickseg.config import load_config
from clickseg.geometry import Grid, ijk_to_ras
from clickseg.initial import WholeVolume
from clickseg.initial.whole_volume import resize_in_plane, shrunken, whole_prob
from clickseg.intensity import intensity_range, to_unit_range
from clickseg.models import load_initial
from clickseg.study import Case, Study, read_study
from clickseg.training.initial import train_initial
from clickseg.training.whole_volume import pad_depth, shrink_cases, tumor_depth
from clickseg.volume import ImageError, Volume, write_volume

PUBLISHED = Path(__file__).parents[2] / "configs" / "published.yaml"
SHAPE = (37, 31, 23)
AFFINES = {
    "ras": np.diag([0.4, 0.5, 1.5, 1]),
    "lps": np.diag([-0.4, -0.5, 1.5, 1]),
    "permuted": np.array([[0, 0, -1.5, 9], [0.4, 0, 0, -5], [0, -0.5, 0, 3], [0, 0, 0, 1.0]]),
}


class EchoT1ce(torch.nn.Module):
    """A network that answers with its first channel, 0 to 1, as logits, and notes what it saw."""

    def __init__(self):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, image):
        self.seen.append(image)
        return 20 * image[:, :1] - 10


def config(size=(16, 24, 8)):
    return replace(load_config(PUBLISHED).initial, size=size)


def ball(shape, center, radius):
    distance = np.linalg.norm((np.indices(shape).T - center), axis=-1).T
    return (distance <= radius).astype(np.uint8)


def write_case(folder, name, affine, shape=SHAPE, center=(19, 14, 11), radius=7, t2=True):
    label = ball(shape, center, radius)
    rng = np.random.default_rng(len(name))
    grid = Grid(shape, affine)
    noise = rng.normal(10, 1, shape).astype(np.float32)
    t1ce = write_volume(folder / f"{name}.nii.gz", Volume(noise + 20 * label, grid))
    path = folder / "t2" / f"{name}.nii.gz"
    if t2:
        write_volume(path, Volume(noise - 5 * label, grid))
    truth = write_volume(folder / "labels/final" / f"{name}.nii.gz", Volume(label, grid))
    return Case(name, t1ce, path if t2 else None, truth), label


def study_of(image):
    image = np.asarray(image, dtype=np.float32)
    return Study("one", image, Grid(image.shape[1:], AFFINES["ras"]), None)


@pytest.mark.parametrize("name", AFFINES)
def test_the_outline_comes_back_on_the_grid_of_the_file(tmp_path, name):
    case, label = write_case(tmp_path, "one", AFFINES[name])
    study = read_study(case.t1ce, case.t2)
    mask = WholeVolume(EchoT1ce(), config((48, 48, 8)))(study).mask
    stored = study.grid.to_stored(mask)
    assert stored.shape == SHAPE
    center = np.argwhere(stored).mean(axis=0)
    np.testing.assert_allclose(center, [19, 14, 11], atol=0.3)
    ras = ijk_to_ras([center], study.grid.affine)
    np.testing.assert_allclose(ras, ijk_to_ras([[19, 14, 11]], AFFINES[name]), atol=0.3)
    assert stored.sum() == pytest.approx(label.sum(), rel=0.05)


@pytest.mark.parametrize("depth", [3, 8, 9, 23])
def test_every_slice_is_answered_whatever_their_number(depth):
    image = np.zeros((2, 16, 24, depth), dtype=np.float32)
    image[0, 5:9, 7:13] = np.arange(1, depth + 1)  # above one half in the upper half
    network = EchoT1ce()
    initial = WholeVolume(network, config())(study_of(image))
    assert {tuple(seen.shape[2:]) for seen in network.seen} == {(16, 24, 8)}
    expected = image[0] > depth / 2
    np.testing.assert_array_equal(initial.mask, expected)


def test_a_thin_scan_is_padded_with_zeros_on_both_sides():
    image = np.ones((2, 16, 24, 3), dtype=np.float32)
    image[:, 0, 0, 0] = 0
    network = EchoT1ce()
    WholeVolume(network, config())(study_of(image))
    (seen,) = network.seen
    assert seen[0, 0, 8, 8].tolist() == [0, 0, 1, 1, 1, 0, 0, 0]


def test_training_pads_as_inference_does():
    volume = torch.ones(2, 3, 5, 3)
    assert pad_depth(volume, 8)[0, 0, 0].tolist() == [0, 0, 1, 1, 1, 0, 0, 0]
    assert pad_depth(volume, 3).shape == (2, 3, 5, 3)


def test_resizing_keeps_places_and_slices_apart():
    rng = np.random.default_rng(0)
    levels = torch.from_numpy(rng.random(23).astype(np.float32))
    volume = levels.expand(1, 37, 31, 23)
    torch.testing.assert_close(resize_in_plane(volume, (16, 24)), levels.expand(1, 16, 24, 23))
    blob = torch.from_numpy(ball(SHAPE, (20, 11, 9), 5)[None].astype(np.float32))
    small = resize_in_plane(blob, (24, 16))[0].numpy()
    center = (np.indices(small.shape) * small).sum(axis=(1, 2, 3)) / small.sum()
    # (20 + 1/2) * 24 / 37 - 1/2 = 12.797, (11 + 1/2) * 16 / 31 - 1/2 = 5.435
    np.testing.assert_allclose(center, [12.797, 5.435, 9], atol=0.05)


def test_each_sequence_is_scaled_on_its_own():
    image = np.stack([np.linspace(-3, 8, 24), np.linspace(2, 4, 24)]).reshape(2, 2, 3, 4)
    scaled = to_unit_range(torch.from_numpy(image), intensity_range(image))
    expected = torch.linspace(0, 1, 24, dtype=torch.float64).reshape(2, 3, 4).expand(2, 2, 3, 4)
    torch.testing.assert_close(scaled, expected)


def test_a_missing_t2_is_zeros():
    image = np.zeros((2, 16, 24, 8), dtype=np.float32)
    image[0] = np.arange(8)
    small = shrunken(torch.from_numpy(image), intensity_range(image), (16, 24))
    assert not small[1].any()
    assert small[0].max() == 1


def test_no_tumor_gives_an_empty_outline_and_nothing_to_click():
    image = np.zeros((2, 16, 24, 8), dtype=np.float32)
    initial = WholeVolume(EchoT1ce(), config())(study_of(image))
    assert not initial.mask.any()
    assert initial.prob.size == 0
    assert initial.uncertain_ijk is None


def test_the_probability_fills_its_box_and_is_low_elsewhere():
    image = np.zeros((2, *SHAPE), dtype=np.float32)
    image[0] = ball(SHAPE, (20, 11, 9), 5)
    initial = WholeVolume(EchoT1ce(), config())(study_of(image))
    whole = np.zeros(SHAPE)
    whole[initial.box] = initial.prob
    np.testing.assert_array_equal(whole > 0.5, initial.mask)


def test_windows_do_not_show():
    prob = whole_prob(EchoT1ce(), torch.full((2, 16, 24, 23), 0.5), (16, 24, 8))
    torch.testing.assert_close(prob, torch.full((1, 16, 24, 23), 0.5))


@pytest.mark.parametrize(
    ("slices", "total", "expected"),
    [
        ((30, 40), 80, (15, 55)),  # middle 35, 20 on either side
        ((2, 6), 80, (0, 40)),  # cannot be in the middle
        ((76, 80), 80, (40, 80)),
        ((5, 9), 20, (0, 20)),  # all of a thin scan
        ((0, 0), 80, (20, 60)),  # no tumor
    ],
)
def test_the_tumor_is_about_the_middle_in_depth(slices, total, expected):
    label = np.zeros((5, 7, total), np.uint8)
    label[2, 3, slice(*slices)] = 1
    depth = tumor_depth(label, 40)
    assert (depth.start, depth.stop) == expected


def test_cases_are_shrunken_with_their_labels(tmp_path):
    case, _ = write_case(tmp_path, "one", AFFINES["permuted"])
    (item,) = shrink_cases([case], (24, 16, 32))
    assert item.image.shape == (2, 24, 16, 32)
    assert item.label.shape == (1, 24, 16, 32)
    assert item.image.min() >= 0
    assert item.image.max() <= 1
    bright = item.image[0] > 0.5  # what the network sees as bright lies where its label is
    overlap = 2 * (bright & (item.label[0] > 0)).sum() / (bright.sum() + item.label.sum())
    assert overlap > 0.9


def test_an_unreadable_case_is_left_out(tmp_path, caplog):
    case, _ = write_case(tmp_path, "one", AFFINES["ras"])
    broken = tmp_path / "two.nii.gz"
    broken.write_bytes(b"no image")
    items = shrink_cases([case, Case("two", broken, None, case.label)], (24, 16, 8))
    assert [item.case_id for item in items] == ["one"]
    assert "two is left out" in caplog.text


def tiny_recipe():
    recipe = load_config(PUBLISHED)
    initial = replace(
        recipe.initial,
        size=(24, 24, 40),
        network=replace(recipe.initial.network, arguments={"features": [4, 8, 8, 8]}),
        fit=replace(recipe.initial.fit, epochs=3, steps_per_epoch=15, rate=0.03),
    )
    return replace(recipe, initial=initial, split=replace(recipe.split, validation=0.34))


def test_a_tiny_training_learns_and_is_loaded_again(tmp_path):
    cases = [
        write_case(tmp_path, f"VS-{n}", AFFINES[affine], center=(19 - n, 14 + n, 11))[0]
        for n, affine in enumerate(AFFINES, start=1)
    ]
    manifest = train_initial(cases, tiny_recipe(), tmp_path / "run", "cpu")
    assert manifest.metrics["validation_studies"] == 1
    assert manifest.metrics["validation_dice"] > 0.5
    again, short_hash = load_initial(tmp_path / "run")
    assert short_hash == manifest.short_hash
    study = read_study(cases[0].t1ce, cases[0].t2)
    initial = again(study)
    assert initial.mask.shape == study.grid.canonical.shape
    assert initial.mask.any()


def test_training_without_a_readable_case_says_so(tmp_path):
    broken = tmp_path / "one.nii.gz"
    broken.write_bytes(b"no image")
    with pytest.raises(ImageError, match="no case with image and label"):
        train_initial([Case("one", broken, None, broken)], tiny_recipe(), tmp_path / "run", "cpu")
