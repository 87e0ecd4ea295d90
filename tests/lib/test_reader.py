from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from clickseg.reader import border_clicks, next_click, simulate_clicks

SHAPE = (37, 31, 23)
SPACING_MM = (0.4, 0.5, 1.5)
ROBOTS = ("center", "jitter", "border")
CROSS = ndimage.generate_binary_structure(2, 1)[:, :, None]


def empty():
    return np.zeros(SHAPE, dtype=np.uint8)


def box(*sides):
    mask = empty()
    mask[tuple(slice(*side) for side in sides)] = 1
    return mask


def ball(center, radius_mm, spacing=SPACING_MM):
    grid = np.indices(SHAPE).T - center
    distance_mm = np.linalg.norm(grid * spacing, axis=-1).T
    return (distance_mm <= radius_mm).astype(np.uint8)


@st.composite
def label_and_pred(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, 13, 11, 7)), (0, 2, 2, 1))
    level = draw(st.floats(-0.1, 0.1))
    return tuple((smooth > level).astype(np.uint8))


def test_no_error_means_no_click():
    assert next_click(empty(), empty(), SPACING_MM) is None
    label = ball((18, 15, 11), 4)
    assert next_click(label, label, SPACING_MM) is None


def test_missed_tumor_is_clicked_at_its_center():
    label = box((10, 17), (12, 17), (3, 8))  # middles 13, 14, 5
    assert next_click(label, empty(), SPACING_MM) == ((13, 14, 5), True)


def test_spurious_tumor_gets_a_background_click():
    pred = box((10, 17), (12, 17), (3, 8))
    assert next_click(empty(), pred, SPACING_MM) == ((13, 14, 5), False)


def test_depth_is_measured_in_mm_not_in_voxels():
    # An L in the I, K plane; J is long. One arm is 5 x 2 voxels (I x K), the other 2 x 9: in voxels
    # they are equally shallow. In mm the first is 2 x 3, deepest (1.5 mm) at i = 5: 1.6 mm from its
    # face at i = 1, 1.5 mm from those across K; the second is 0.8 thin.
    label = box((2, 7), (3, 29), (4, 6)) | box((7, 9), (3, 29), (4, 13))
    (i, _, k), _ = next_click(label, empty(), (0.4, 0.5, 1.5))
    assert (i, k) == (5, 4)
    # With thick I and thin K the arm along K is the thicker one.
    (i, _, k), _ = next_click(label, empty(), (3.0, 0.5, 0.4))
    assert i in (7, 8)
    assert k in (7, 8, 9)


def test_axes_and_spacing_permuted_together_give_the_same_place():
    label = (ball((14, 15, 11), 4) | box((20, 30), (4, 20), (9, 15))).astype(np.uint8)
    pred = ball((16, 13, 11), 4)
    (i, j, k), kind = next_click(label, pred, SPACING_MM)
    moved = next_click(label.transpose(2, 0, 1), pred.transpose(2, 0, 1), (1.5, 0.4, 0.5))
    assert moved == ((k, i, j), kind)


def test_missed_and_spurious_tumor_are_not_joined():
    # Two touching errors of 5 x 5 x 5 and 6 x 5 x 5: joined, the deepest voxel would lie between.
    label, pred = box((4, 9), (4, 9), (4, 9)), box((9, 15), (4, 9), (4, 9))
    assert next_click(label, pred, (1, 1, 1))[1] is False
    assert next_click(pred, label, (1, 1, 1))[1] is True


def test_equal_errors_are_answered_with_a_foreground_click_first():
    one, other = box((4, 9), (4, 9), (4, 9)), box((14, 19), (4, 9), (4, 9))
    assert next_click(one, other, (1, 1, 1)) == ((6, 6, 6), True)


def test_the_edge_of_the_image_is_an_edge_of_the_error():
    label = box((0, 7), (0, 31), (0, 23))  # 2.8 x 15.5 x 34.5 mm: the middle of I is the deepest
    assert next_click(label, empty(), SPACING_MM)[0][0] == 3


def test_a_clicked_voxel_is_not_clicked_again():
    label = box((3, 5), (3, 4), (3, 4))
    first, _ = next_click(label, empty(), SPACING_MM)
    second, _ = next_click(label, empty(), SPACING_MM, [first])
    assert {first, second} == {(3, 3, 3), (4, 3, 3)}
    assert next_click(label, empty(), SPACING_MM, [first, second]) is None


@pytest.mark.parametrize("robot", ROBOTS)
def test_twenty_unanswered_clicks_lie_on_twenty_voxels(robot):
    label = box((3, 6), (3, 6), (3, 5)) | box((20, 22), (20, 22), (8, 10))  # 18 + 8 voxels
    rng, clicked = np.random.default_rng(5), []
    for _ in range(26):
        clicked.append(next_click(label, empty(), SPACING_MM, clicked, robot, rng)[0])
    assert len(set(clicked)) == 26
    assert next_click(label, empty(), SPACING_MM, clicked, robot, rng) is None


def test_a_border_click_lies_on_the_true_outline_where_the_pred_is_farthest():
    label, pred = box((5, 15), (5, 15), (5, 6)), box((5, 9), (5, 15), (5, 6))
    rng = np.random.default_rng(0)
    # Missed: i 9..14. The column i = 14 is 14 - 8 = 6 voxels from the pred.
    (i, _, k), is_foreground = next_click(label, pred, (1, 1, 1), robot="border", rng=rng)
    assert (i, k, is_foreground) == (14, 5, True)
    # Spurious: the voxels just outside the truth are i = 9.
    (i, _, k), is_foreground = next_click(pred, label, (1, 1, 1), robot="border", rng=rng)
    assert (i, k, is_foreground) == (9, 5, False)


def test_border_clicks_equally_far_from_the_pred_are_drawn_from():
    label, rng = ball((18, 15, 11), 4), np.random.default_rng(0)
    drawn = [next_click(label, empty(), SPACING_MM, robot="border", rng=rng) for _ in range(300)]
    voxels = np.array([ijk for ijk, _ in drawn])
    outline = np.argwhere(label - ndimage.binary_erosion(label, CROSS))
    assert {ijk for ijk, _ in drawn} <= set(map(tuple, outline.tolist()))
    # Any place of it is as likely: no pole is preferred.
    spread = outline.std(axis=0) / np.sqrt(len(drawn))
    assert (np.abs(voxels.mean(axis=0) - outline.mean(axis=0)) < 4 * spread).all()
    assert len({tuple(voxel) for voxel in voxels.tolist()}) > 100
    again = next_click(label, empty(), SPACING_MM, robot="border", rng=np.random.default_rng(0))
    assert again == drawn[0]


def test_the_border_rule_measures_in_space():
    # The pred is the lowest slice: within each of the others all places are equally far from it.
    label, pred = box((5, 15), (5, 15), (5, 9)), box((5, 15), (5, 15), (5, 6))
    rng = np.random.default_rng(0)
    for _ in range(5):
        (i, j, k), _ = next_click(label, pred, SPACING_MM, robot="border", rng=rng)
        assert k == 8
        assert {i, j} & {5, 14}


def test_the_border_rule_reaches_a_separate_blob():
    blob = ball((28, 22, 17), 2)
    label = ball((12, 10, 8), 3)
    rng = np.random.default_rng(0)
    ijk, is_foreground = next_click(label, label | blob, SPACING_MM, robot="border", rng=rng)
    assert blob[ijk]
    assert not is_foreground


def test_jitter_is_about_one_mm_and_repeats_with_its_seed():
    label = ball((18, 15, 11), 7)
    clicks = [
        next_click(label, empty(), SPACING_MM, robot="jitter", rng=np.random.default_rng(seed))[0]
        for seed in range(200)
    ]
    shifts_mm = (np.array(clicks) - (18, 15, 11)) * SPACING_MM
    np.testing.assert_allclose(shifts_mm[:, :2].std(), 1, atol=0.15)
    again = next_click(label, empty(), SPACING_MM, robot="jitter", rng=np.random.default_rng(3))
    assert again[0] == clicks[3]


@settings(max_examples=60)
@given(label_and_pred(), st.sampled_from(ROBOTS), st.integers(0, 99))
def test_a_click_always_lies_on_an_error_of_its_kind(masks, robot, seed):
    label, pred = masks
    clicked = [(6, 5, 3), (0, 0, 0)]
    rng = np.random.default_rng(seed)
    found = next_click(label, pred, SPACING_MM, clicked, robot, rng)
    errors = label != pred
    for ijk in clicked:
        errors[ijk] = False
    if found is None:
        assert not errors.any()
        return
    ijk, is_foreground = found
    assert errors[ijk]
    assert bool(label[ijk]) is is_foreground


@settings(max_examples=40)
@given(label_and_pred(), st.integers(0, 99))
def test_a_click_moves_with_the_image(masks, seed):
    label, pred = (np.pad(mask, 1) for mask in masks)
    a, b, c = np.random.default_rng(seed).integers(0, 9, 3).tolist()
    wide_label, wide_pred = (np.pad(mask, ((a, 3), (b, 2), (c, 5))) for mask in (label, pred))
    for robot in ("center", "border"):
        near, far = (
            next_click(*masks, SPACING_MM, robot=robot, rng=np.random.default_rng(seed))
            for masks in ((label, pred), (wide_label, wide_pred))
        )
        if near is None:
            assert far is None
        else:
            assert far == (tuple(np.add(near[0], (a, b, c)).tolist()), near[1])


def test_published_clicks_are_one_a_wrong_slice_and_on_the_true_outline():
    label = box((5, 15), (5, 15), (4, 9))
    pred = box((5, 9), (5, 15), (4, 8))
    pred[:, :, 6] = label[:, :, 6]
    clicks = simulate_clicks(label, pred, (1, 1, 1), np.random.default_rng(0))
    assert [k for _, _, k in clicks] == [4, 5, 7, 8]  # slice 6 is right
    assert all(i == 14 for i, _, k in clicks if k != 8)  # farthest from the pred, at i = 8
    i, j, _ = clicks[-1]  # nothing predicted there: any voxel of the outline
    assert {i, j} & {5, 14}


def test_published_clicks_of_a_spurious_part_lie_on_the_true_outline():
    label, pred = box((5, 9), (5, 15), (4, 5)), box((5, 15), (3, 17), (4, 5))
    ((i, j, _),) = simulate_clicks(label, pred, (1, 1, 1), np.random.default_rng(0))
    # Depth in the pred: i = 8 is 4 from its face at low i (8 - 4) and from j = 2 or 17 at least 4.
    assert i == 8
    assert 6 <= j <= 13


def test_published_clicks_skip_slices_without_true_tumor():
    assert (
        simulate_clicks(empty(), ball((18, 15, 11), 4), SPACING_MM, np.random.default_rng(0)) == []
    )
    assert simulate_clicks(empty(), empty(), SPACING_MM, np.random.default_rng(0)) == []


def test_published_clicks_repeat_with_their_seed():
    label = ball((18, 15, 11), 4)
    one, same, other = (
        simulate_clicks(label, empty(), SPACING_MM, np.random.default_rng(seed))
        for seed in (7, 7, 8)
    )
    assert one == same
    assert one != other


@pytest.mark.parametrize("where", ["border", "inside", "outside"])
def test_border_clicks_keep_their_distance_and_their_side(where):
    label = ball((18, 15, 11), 5)
    clicks = border_clicks(label, SPACING_MM, 1.6, np.random.default_rng(2), where)
    wide = ndimage.binary_dilation(label, np.ones((3, 3, 1)))
    assert {k for _, _, k in clicks} == set(np.flatnonzero(label.any(axis=(0, 1))).tolist())
    for i, j, k in clicks:
        assert wide[i, j, k]
        assert bool(label[i, j, k]) is (where != "outside")
    for a, b in pairwise(clicks):
        if a[2] == b[2]:
            assert np.linalg.norm((np.array(a) - b) * SPACING_MM) >= 1.6


def test_border_clicks_of_a_square_are_its_outline():
    label = box((5, 8), (5, 8), (4, 5))
    clicks = border_clicks(label, (1, 1, 1), 1, np.random.default_rng(0))
    assert sorted(clicks) == [
        (5, 5, 4), (5, 6, 4), (5, 7, 4), (6, 5, 4), (6, 7, 4), (7, 5, 4), (7, 6, 4), (7, 7, 4),
    ]  # fmt: skip
    assert border_clicks(label, (1, 1, 1), 1, np.random.default_rng(0), "inside") == [(6, 6, 4)]
    few = border_clicks(label, (1, 1, 1), 1, np.random.default_rng(0), max_per_slice=3)
    assert few == clicks[:3]


def test_border_clicks_of_an_empty_mask_are_none():
    assert border_clicks(empty(), SPACING_MM, 1, np.random.default_rng(0)) == []


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"\(37, 31, 23\) and \(23, 31, 37\)"):
        next_click(empty(), empty().T, SPACING_MM)
    with pytest.raises(ValueError, match="three positive lengths"):
        next_click(empty(), empty(), (1, 0, 1))
    with pytest.raises(ValueError, match="not 'middle'"):
        next_click(empty(), empty(), SPACING_MM, robot="middle")
    for robot in ("jitter", "border"):
        with pytest.raises(ValueError, match=f"'{robot}' needs an rng"):
            next_click(empty(), ball((18, 15, 11), 4), SPACING_MM, robot=robot)
    with pytest.raises(ValueError, match="not 'edge'"):
        border_clicks(ball((18, 15, 11), 4), SPACING_MM, 1, np.random.default_rng(0), "edge")
