import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from clickseg.mistakes import (
    Cutoff,
    Deformation,
    Ellipsoid,
    Missing,
    deformed_mistake,
    draw_deformation,
    draw_mistake,
    mistaken,
    morphological_mistake,
)
from clickseg.mistakes.whole import _spurious

SHAPE = (53, 47, 23)
SPACING_MM = np.array([0.5, 0.4, 1.5])
ONES = np.ones(3)
STILL = {"scale": (1, 1, 1), "shift": (0, 0, 0), "elastic": 0, "sigma": 2, "seed": 0}


def ball(radius_mm, shape=SHAPE, spacing=SPACING_MM):
    spacing = np.array(spacing)
    middle = (np.array(shape) - 1) // 2
    distance_mm = np.linalg.norm((np.indices(shape).T - middle) * spacing, axis=-1).T
    return (distance_mm <= radius_mm).astype(np.uint8)


def dice(a, b):
    return 2 * np.logical_and(a, b).sum() / max(a.sum() + b.sum(), 1)


def test_a_still_deformation_changes_nothing():
    mask = ball(6).astype(bool)
    same = Deformation(rotation_deg=(0, 0, 0), **STILL).apply(mask, SPACING_MM)
    np.testing.assert_array_equal(same, mask)


def test_a_shift_is_in_mm_along_its_axis():
    mask = np.zeros(SHAPE, bool)
    mask[20:30, 15:25, 8:12] = True
    step = Deformation((0, 0, 0), (1, 1, 1), (1.5, -0.8, 1.5), 0, 2, 0)
    moved = step.apply(mask, SPACING_MM)  # 1.5 / 0.5 = 3 voxels, -0.8 / 0.4 = -2, 1.5 / 1.5 = 1
    np.testing.assert_array_equal(moved, np.roll(mask, (3, -2, 1), (0, 1, 2)))


def test_a_scale_is_about_the_center_of_mass():
    mask = np.zeros((41, 41), bool)
    mask[15:26, 15:26] = True  # 11 x 11 about 20, 20
    step = Deformation((0,), (2, 1), (0, 0), 0, 2, 0)
    # Twice 11 rows; linear interpolation puts the edges at 20 -+ 2 * 5.5 = 9 and 31, both included.
    wide = step.apply(mask, np.ones(2))
    assert np.flatnonzero(wide.any(axis=1)).tolist() == list(range(9, 32))
    assert np.flatnonzero(wide.any(axis=0)).tolist() == list(range(15, 26))


def test_a_quarter_turn_about_k_in_mm():
    mask = np.zeros((61, 61, 5), bool)
    mask[20:41, 28:33, 1:4] = True  # 21 x 5 voxels of 0.4 x 0.8 mm: 8.4 x 4 mm
    step = Deformation(rotation_deg=(0, 0, 90), **STILL)
    turned = step.apply(mask, np.array([0.4, 0.8, 1.5]))
    # Half sizes 4.2 x 2 mm swap: along I 2.0 / 0.4 = 5 voxels, along J 4.2 / 0.8 = 5.25.
    assert np.flatnonzero(turned.any(axis=(1, 2))).tolist() == list(range(25, 36))
    assert np.flatnonzero(turned.any(axis=(0, 2))).tolist() == list(range(25, 36))


def test_the_longest_displacement_is_what_was_asked_for():
    step = Deformation((0, 0, 0), (1, 1, 1), (0, 0, 0), 2.2, 2.2, 5)
    bend = step._bend((31, 29, 13), SPACING_MM)
    np.testing.assert_allclose(np.sqrt((bend**2).sum(axis=0)).max(), 2.2, rtol=1e-5)
    assert bend.std() > 0.2  # not one spike


def test_bending_depends_on_its_seed_alone():
    mask = ball(6).astype(bool)
    one, same, other = (
        Deformation((0, 0, 0), (1, 1, 1), (0, 0, 0), 2.2, 2.2, seed).apply(mask, SPACING_MM)
        for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_an_ellipsoid_has_its_volume_in_any_position():
    for rotation in ((0, 0, 0), (30, 50, 70)):
        blob = Ellipsoid((12.0, 9.0, 16.0), (5.0, 3.0, 4.0), rotation, True)
        added = blob.apply(np.zeros(SHAPE, bool), SPACING_MM)
        # 4/3 pi 5 * 3 * 4 = 251.3 mm^3; one voxel is 0.3
        np.testing.assert_allclose(added.sum() * SPACING_MM.prod(), 251.3, rtol=0.05)
        taken = Ellipsoid(blob.center, blob.radii, rotation, False)
        np.testing.assert_array_equal(taken.apply(np.ones(SHAPE, bool), SPACING_MM), ~added)


def test_an_ellipsoid_may_reach_over_the_edge():
    mask = np.zeros(SHAPE, bool)
    inside = Ellipsoid((0, 0, 0), (2, 2, 2), (0, 0, 0), True).apply(mask, SPACING_MM)
    assert inside[0, 0, 0]
    far = Ellipsoid((-9, 0, 0), (2, 2, 2), (0, 0, 0), True).apply(mask, SPACING_MM)
    assert not far.any()


def test_a_cutoff_takes_the_last_slices():
    mask = ball(9).astype(bool)
    kept = Cutoff((0, 0, 1), 11 * 1.5).apply(mask, SPACING_MM)
    np.testing.assert_array_equal(kept[:, :, :12], mask[:, :, :12])
    assert not kept[:, :, 12:].any()


def test_missing_is_empty():
    assert not Missing().apply(ball(6).astype(bool), SPACING_MM).any()


def test_full_deformations_of_48_px_blobs_have_the_dice_of_real_errors():
    rng = np.random.default_rng(3)
    values = []
    for _ in range(300):
        radius = rng.uniform(6, 16)
        blob = ball(radius, (97, 97), (1, 1))
        values.append(dice(blob, deformed_mistake(blob, rng, unchanged=0)))
    assert 0.72 < np.mean(values) < 0.82


def test_whole_tumor_mistakes_cover_slight_and_gross_errors():
    rng = np.random.default_rng(1)
    label = ball(6.9)
    values = np.array([dice(label, mistaken(label, SPACING_MM, rng)) for _ in range(400)])
    assert 0.7 < values.mean() < 0.85
    assert (values > 0.92).mean() > 0.05
    assert (values < 0.6).mean() > 0.05
    assert 0 < (values == 0).mean() < 0.1


def test_each_kind_of_mistake_is_drawn():
    rng = np.random.default_rng(1)
    steps = [step for _ in range(300) for step in draw_mistake(ball(6), SPACING_MM, rng)]
    assert {type(step) for step in steps} == {Deformation, Ellipsoid, Cutoff, Missing}
    assert {step.is_added for step in steps if isinstance(step, Ellipsoid)} == {True, False}


def test_a_spurious_blob_lies_apart_from_the_tumor():
    label = ball(3).astype(bool)
    for seed in range(50):
        (blob,) = _spurious(label, SPACING_MM, 3.0, np.random.default_rng(seed))
        both = blob.apply(label, SPACING_MM)
        assert ndimage.label(both, np.ones((3, 3, 3)))[1] == 2


def test_there_is_no_place_for_a_spurious_blob_in_a_full_mask():
    full = np.ones(SHAPE, bool)
    assert _spurious(full, SPACING_MM, 3.0, np.random.default_rng(0)) == ()


def test_mistakes_of_nothing_are_a_blob_or_nothing():
    empty = np.zeros(SHAPE, np.uint8)
    sizes = [mistaken(empty, SPACING_MM, np.random.default_rng(seed)).sum() for seed in range(40)]
    assert 5 < np.count_nonzero(sizes) < 35


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 9), st.permutations([0.5, 0.4, 1.5]))
def test_a_mistake_repeats_and_leaves_the_label_alone(seed, radius_mm, spacing):
    label = ball(radius_mm, (31, 29, 37), spacing)
    before = label.copy()
    one, same = (mistaken(label, spacing, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(label, before)
    np.testing.assert_array_equal(one, same)
    assert one.shape == label.shape
    assert one.dtype == label.dtype
    assert set(np.unique(one)) <= {0, 1}


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0, 20))
def test_morphology_never_lets_a_mask_vanish(seed, radius_px):
    label = ball(radius_px, (48, 48), (1, 1))
    pred = morphological_mistake(label, np.random.default_rng(seed))
    assert pred.any()
    assert (pred >= label).all() or (pred <= label).all()


def test_morphology_at_the_edge_of_the_cut():
    full = np.ones((48, 48), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert morphological_mistake(full, rng).all()
    empty = np.zeros((48, 48), np.uint8)
    assert not morphological_mistake(empty, rng, unchanged=0).any()


def test_a_fifth_of_the_cuts_is_unchanged():
    rng = np.random.default_rng(0)
    label = ball(9, (48, 48), (1, 1))
    same = [np.array_equal(morphological_mistake(label, rng), label) for _ in range(8000)]
    assert 0.185 < np.mean(same) < 0.215  # standard deviation 0.0045


def test_small_masks_get_fewer_iterations():
    rng = np.random.default_rng(0)
    small, large = ball(3, (48, 48), (1, 1)), ball(12, (48, 48), (1, 1))
    for label, most in ((small, 1), (large, 4)):
        widest = ndimage.binary_dilation(label, iterations=most)
        narrowest = ndimage.binary_erosion(label, iterations=most)
        for _ in range(50):
            pred = morphological_mistake(label, rng).astype(bool)
            assert (pred <= widest).all()
            assert (pred >= narrowest).all()


@pytest.mark.parametrize("axes", [2, 3])
def test_drawn_deformations_stay_within_their_limits(axes):
    rng = np.random.default_rng(0)
    for _ in range(50):
        step = draw_deformation(axes, rng, strength=0.5, pixel=2.0)
        assert max(map(abs, step.rotation_deg)) <= 10
        assert max(abs(scale - 1) for scale in step.scale) <= 0.15
        assert max(map(abs, step.shift)) <= 3.5
        assert 0 <= step.elastic <= 5
