from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clickseg.clicks import Click
from clickseg.config import load_config
from clickseg.correction import PasteCorrection
from clickseg.correction.paste import cut_logits, take_cut
from clickseg.geometry import Grid
from clickseg.intensity import intensity_range
from clickseg.networks import build_network
from clickseg.study import Study

PUBLISHED = Path(__file__).parents[2] / "configs" / "published.yaml"
SHAPE = (37, 31, 23)
PERMUTED = np.array([[0, 0, -1.5, 9], [0.4, 0, 0, -5], [0, -0.5, 0, 3], [0, 0, 0, 1.0]])


class Stub(torch.nn.Module):
    """A network made of one function of its input ``(B, 3, ...)``."""

    def __init__(self, function):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(()))
        self.function = function

    def forward(self, cuts):
        return self.function(cuts)


def echo_mask(cuts):
    return 20 * cuts[:, 2:] - 10


def flip_mask(cuts):
    return 10 - 20 * cuts[:, 2:]


def as_the_center(cuts):
    """Fill the window with 1 where T1ce is bright at the click, else with 0."""
    middle = tuple(size // 2 for size in cuts.shape[2:])
    bright = cuts[(slice(None), slice(0, 1), *(slice(m, m + 1) for m in middle))]
    return (20 * bright - 10).expand(-1, 1, *cuts.shape[2:])


def correction(function, cut=(8, 8), depth=1):
    config = replace(load_config(PUBLISHED).correction, cut=cut, depth=depth)
    return PasteCorrection(Stub(function), config)


def study(affine=None, shape=SHAPE, bright=()):
    grid = Grid(shape, np.diag([0.4, 0.5, 1.5, 1]) if affine is None else affine)
    image = np.zeros((2, *grid.canonical.shape), dtype=np.float32)
    for voxel in bright:
        image[(0, *voxel)] = 1
    return Study("one", image, grid, None)


def click(one, *voxel, is_foreground=True):
    return Click.at(voxel, is_foreground, one.grid.canonical)


def random_mask(shape, seed=0):
    return (np.random.default_rng(seed).random(shape) > 0.5).astype(np.uint8)


def test_a_window_is_overwritten_and_nothing_else():
    one, start = study(), random_mask(SHAPE)
    before = start.copy()
    mask = correction(flip_mask)(one, start, (click(one, 20, 15, 11),)).mask
    expected = start.copy()
    expected[16:24, 11:19, 11] ^= 1  # the click at 8 // 2 = 4 of its window
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(start, before)


def test_windows_overwrite_each_other_in_the_order_of_the_clicks():
    one = study(bright=[(20, 15, 11)])
    bright, dark = click(one, 20, 15, 11), click(one, 23, 15, 11)
    paste, start = correction(as_the_center), np.zeros(SHAPE, np.uint8)
    # Windows are i 16..23 and 19..26, each 8 rows of 8: the later one wins rows 19..23.
    last_is_dark = paste(one, start, (bright, dark)).mask
    assert last_is_dark.sum() == 3 * 8
    last_is_bright = paste(one, start, (dark, bright)).mask
    assert last_is_bright.sum() == 8 * 8


def test_every_cut_is_taken_from_the_start_mask():
    one, start = study(), random_mask(SHAPE)
    same_place = (click(one, 20, 15, 11), click(one, 20, 15, 11))
    mask = correction(flip_mask)(one, start, same_place).mask
    assert (mask != start).sum() == 64  # flipped twice it would be as before


def test_windows_of_one_slice_leave_the_others_alone():
    one, start = study(), np.zeros(SHAPE, np.uint8)
    clicks = (click(one, 20, 15, 11), click(one, 20, 15, 14))
    mask = correction(flip_mask)(one, start, clicks).mask
    assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == [11, 14]


def test_no_click_changes_nothing():
    one, start = study(), random_mask(SHAPE)
    answer = correction(flip_mask)(one, start, ())
    np.testing.assert_array_equal(answer.mask, start)
    assert answer.mask is not start
    assert answer.uncertain_ijk is None


def test_the_kind_of_a_click_is_not_seen():
    one, start = study(), random_mask(SHAPE)
    masks = [
        correction(flip_mask)(one, start, (click(one, 20, 15, 11, is_foreground=kind),)).mask
        for kind in (True, False)
    ]
    np.testing.assert_array_equal(*masks)


@pytest.mark.parametrize("voxel", [(0, 0, 0), (36, 30, 22), (2, 29, 5)])
def test_a_window_may_reach_over_the_edge(voxel):
    one, start = study(), random_mask(SHAPE)
    unchanged = correction(echo_mask)(one, start, (click(one, *voxel),)).mask
    np.testing.assert_array_equal(unchanged, start)
    flipped = correction(flip_mask)(one, start, (click(one, *voxel),)).mask
    sides = [min(v + 4, n) - max(v - 4, 0) for v, n in zip(voxel[:2], SHAPE, strict=False)]
    assert (flipped != start).sum() == sides[0] * sides[1]


def test_an_image_smaller_than_the_cut():
    one, start = study(shape=(7, 5, 3)), random_mask((7, 5, 3))
    paste = correction(flip_mask, cut=(48, 48))
    mask = paste(one, start, (click(one, 3, 2, 1),)).mask
    np.testing.assert_array_equal(mask[:, :, 1], 1 - start[:, :, 1])
    np.testing.assert_array_equal(mask[:, :, ::2], start[:, :, ::2])


def test_windows_lie_in_the_axial_plane_of_a_permuted_image():
    one = study(PERMUTED)
    assert one.grid.canonical.shape == (23, 37, 31)  # spacing 1.5, 0.4, 0.5
    start = np.zeros((23, 37, 31), np.uint8)
    # stored (19, 14, 11): stored K runs left, I forward, J down
    where = Click.at((19, 14, 11), True, one.grid)
    answer = correction(flip_mask)(one, start, (where,))
    stored = one.grid.to_stored(answer.mask)
    assert stored[19, 14, 11]
    assert np.flatnonzero(stored.any(axis=(0, 2))).tolist() == [14]
    assert stored.sum() == 64
    assert answer.radius_mm == pytest.approx(np.hypot(4 * 1.5, 4 * 0.4))


def test_the_radius_is_that_of_the_farthest_voxel_that_changes():
    one, start = study(), np.zeros(SHAPE, np.uint8)
    for depth in (1, 4):
        paste = correction(flip_mask, depth=depth)
        answer = paste(one, start, (click(one, 20, 15, 11),))
        gaps_mm = (np.argwhere(answer.mask) - (20, 15, 11)) * (0.4, 0.5, 1.5)
        assert answer.radius_mm == pytest.approx(np.linalg.norm(gaps_mm, axis=1).max())


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 36), st.integers(0, 30), st.integers(0, 22)), max_size=5))
def test_nothing_changes_beyond_the_radius_and_leaving_a_click_out_undoes_it(voxels):
    one, start = study(), random_mask(SHAPE)
    clicks = tuple(click(one, *voxel) for voxel in voxels)
    paste = correction(flip_mask, cut=(6, 10))
    answer, without = paste(one, start, clicks), paste(one, start, clicks[:-1])
    places = np.indices(SHAPE).T * (0.4, 0.5, 1.5)
    for mask, around in ((start, voxels), (without.mask, voxels[-1:])):
        near = np.zeros(SHAPE, bool)
        for voxel in around:
            gaps_mm = np.linalg.norm(places - np.array(voxel) * (0.4, 0.5, 1.5), axis=-1).T
            near |= gaps_mm <= answer.radius_mm + 1e-9
        assert not ((answer.mask != mask) & ~near).any()


def test_the_same_request_gives_the_same_mask():
    config = load_config(PUBLISHED).correction
    torch.manual_seed(3)
    network = build_network("multi_encoder_unet", {"features": [4, 4, 8, 8]})
    paste = PasteCorrection(network, replace(config, cut=(16, 16)))
    image = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    one = replace(study(), image=image)
    clicks = tuple(click(one, 10 + n % 9, 9 + n % 7, n % 23) for n in range(40))  # several batches
    masks = [paste(one, random_mask(SHAPE), clicks).mask for _ in range(2)]
    np.testing.assert_array_equal(*masks)


def test_where_the_network_is_torn_is_the_most_uncertain_place():
    one, start = study(), np.zeros(SHAPE, np.uint8)

    def torn(cuts):
        logits = torch.full_like(cuts[:, :1], -10.0)
        logits[..., 1:9, 2:10] = 0.0
        return logits

    # In a window of 16 around (20, 15) rows 1..8 are i 13..20, columns 2..9 are j 9..16.
    i, j, k = correction(torn, cut=(16, 16))(one, start, (click(one, 20, 15, 11),)).uncertain_ijk
    assert i in (16, 17)
    assert j in (12, 13)
    assert k == 11


def test_a_3d_cut_is_pasted_whole_and_a_tiled_one_in_the_middle():
    one, start = study(), np.zeros(SHAPE, np.uint8)
    whole = correction(flip_mask, depth=4)(one, start, (click(one, 20, 15, 11),)).mask
    assert np.flatnonzero(whole.any(axis=(0, 1))).tolist() == [9, 10, 11, 12]
    middle = correction(lambda cuts: flip_mask(cuts)[..., 4], depth=9)
    mask = middle(one, start, (click(one, 20, 15, 11),)).mask
    assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == [11]
    assert mask.sum() == 64


def test_a_cut_holds_the_click_in_its_middle_and_zeros_beyond_the_image():
    image = np.arange(2 * 5 * 7 * 3, dtype=np.float32).reshape(2, 5, 7, 3)
    mask = np.ones((5, 7, 3), np.uint8)
    cut = take_cut(
        torch.from_numpy(image), intensity_range(image), mask, np.array([1, 6, 2]), (6, 4, 1)
    )
    assert cut.shape == (3, 6, 4, 1)
    # voxel (1, 6, 2) at (3, 2, 0); values of a channel run from 0 to 104: 1 * 21 + 6 * 3 + 2 = 41
    assert cut[0, 3, 2, 0].item() == pytest.approx(41 / 104)
    assert cut[1, 3, 2, 0].item() == pytest.approx(41 / 104)
    assert cut[2, :, :, 0].tolist() == [[0] * 4] * 2 + [[1, 1, 1, 0]] * 4
    assert not cut[:, :2].any()


def test_networks_of_two_and_three_axes_are_called_alike():
    flat = build_network("attention_unet", {"features": [2, 2, 2, 2]})
    assert cut_logits(flat, torch.zeros(2, 3, 16, 8, 1)).shape == (2, 1, 16, 8, 1)
    deep = build_network("multi_encoder_unet_3d", {"features": [2, 2, 2, 2]})
    assert cut_logits(deep, torch.zeros(2, 3, 16, 8, 8)).shape == (2, 1, 16, 8, 8)
    tiled = build_network("multi_encoder_unet_tiled", {"features": [2, 2, 2, 2]})
    assert cut_logits(tiled, torch.zeros(2, 3, 16, 8, 9)).shape == (2, 1, 16, 8, 1)


def test_wrong_requests_are_refused():
    one = study()
    with pytest.raises(ValueError, match=r"start mask is \(3, 3, 3\), the image \(37, 31, 23\)"):
        correction(echo_mask)(one, np.zeros((3, 3, 3), np.uint8), ())
    outside = Click.at((37, 0, 0), True, one.grid)
    with pytest.raises(ValueError, match="inside of an image of shape"):
        correction(echo_mask)(one, random_mask(SHAPE), (outside,))
