import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from clickseg.config import EdgesConfig
from clickseg.edges import SURE_LOGIT, follow_edges
from clickseg.metrics import dice

SPACING = np.array([0.5, 0.7, 1.5])
SHAPE = (29, 23, 11)
STRONG = EdgesConfig(weight=20.0, sigma=0.3, steps=30)


def row(*values):
    return np.array(values, np.float32).reshape(-1, 1, 1)


def image(t1ce, t2=None):
    return np.stack([t1ce, np.zeros_like(t1ce) if t2 is None else t2])


def ball(radius_mm):
    offsets = (np.indices(SHAPE).reshape(3, -1).T - (14, 11, 5)) * SPACING
    return (np.linalg.norm(offsets, axis=1) <= radius_mm).reshape(SHAPE)


def test_one_step_is_the_mean_of_a_voxel_and_its_like_neighbors():
    config = EdgesConfig(weight=2.0, sigma=1.0, steps=1)
    even = follow_edges(row(1, -2, 3), image(row(1, 1, 1)), np.ones(3), config)
    # (1 + 2 * -2) / 3, (-2 + 2 * (1 + 3)) / 5, (3 + 2 * -2) / 3
    np.testing.assert_allclose(even, row(-1, 1.2, -1 / 3), rtol=1e-6)


def test_unlike_neighbors_count_by_the_gaussian_of_their_difference():
    config = EdgesConfig(weight=1.0, sigma=2.0, steps=1)
    alike = np.exp(-(2.0**2) / (2 * 2.0**2))
    even = follow_edges(row(2, -1), image(row(5, 3)), np.ones(3), config)
    expected = row((2 - alike) / (1 + alike), (-1 + 2 * alike) / (1 + alike))
    np.testing.assert_allclose(even, expected, rtol=1e-6)


def test_across_a_coarse_axis_neighbors_count_less():
    config = EdgesConfig(weight=1.0, sigma=1.0, steps=1)
    arguments = row(1, -1), image(row(7, 7))
    fine = follow_edges(*arguments, np.array([1.0, 1.0, 1.0]), config)
    coarse = follow_edges(*arguments, np.array([4.0, 1.0, 1.0]), config)
    np.testing.assert_allclose(fine, row(0, 0), atol=1e-7)
    np.testing.assert_allclose(coarse, row(0.6, -0.6), rtol=1e-6)  # (1 - 1/4) / (1 + 1/4)


def test_the_outline_moves_to_the_edge():
    t1ce = row(3, 3, 3, 3, 0, 0, 0, 0)
    short, long = row(3, 3, 0.4, -0.4, -1, -3, -3, -3), row(3, 3, 3, 3, 0.6, 0.3, -3, -3)
    for logits in (short, long):
        assert (follow_edges(logits, image(t1ce), np.ones(3), STRONG) > 0).ravel().sum() == 4


@settings(max_examples=10)
@given(st.integers(0, 2**31))
def test_a_wavering_outline_becomes_that_of_the_image(seed):
    tumor, rng = ball(4.5), np.random.default_rng(seed)
    logits = np.where(tumor, 3.0, -3.0) + np.where(
        ball(5.5) & ~ball(3.5), rng.normal(0, 5, SHAPE), 0
    )
    noisy = np.where(tumor, 3.0, 0.0) + rng.normal(0, 0.1, SHAPE)
    even = follow_edges(logits.astype(np.float32), image(noisy.astype(np.float32)), SPACING, STRONG)
    assert dice(logits > 0, tumor) < 0.9
    assert dice(even > 0, tumor) > 0.97


@settings(max_examples=30)
@given(
    npst.arrays(np.float32, (4, 3, 2), elements=st.floats(-9, 9, width=32)),
    npst.arrays(np.float32, (2, 4, 3, 2), elements=st.floats(-5, 5, width=32)),
    st.integers(1, 9),
)
def test_no_logit_leaves_the_range_of_those_that_came(logits, shown, steps):
    config = EdgesConfig(weight=3.0, sigma=0.4, steps=steps)
    before = logits.copy()
    even = follow_edges(logits, shown, SPACING, config)
    limited = np.clip(before, -SURE_LOGIT, SURE_LOGIT)
    assert even.shape == logits.shape
    assert even.dtype == np.float32
    assert (even <= limited.max() + 1e-5).all()
    assert (even >= limited.min() - 1e-5).all()
    np.testing.assert_array_equal(logits, before)


def test_axes_in_another_order_give_the_same():
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, SHAPE).astype(np.float32)
    shown = rng.normal(0, 1, (2, *SHAPE)).astype(np.float32)
    config = EdgesConfig(weight=5.0, sigma=0.3, steps=10)
    even = follow_edges(logits, shown, SPACING, config)
    order = (2, 0, 1)
    turned = follow_edges(
        logits.transpose(order), shown.transpose(0, 3, 1, 2), SPACING[list(order)], config
    )
    np.testing.assert_allclose(turned, even.transpose(order), atol=1e-5)


def test_without_a_t1ce_the_t2_counts_and_without_both_nothing_moves():
    logits, shown, none = row(1, -1, 1), row(1, 1, 4), row(0, 0, 0)
    config = EdgesConfig(weight=1.0, sigma=0.3, steps=4)
    by_t2 = follow_edges(logits, image(none, shown), np.ones(3), config)
    np.testing.assert_array_equal(by_t2, follow_edges(logits, image(shown), np.ones(3), config))
    np.testing.assert_array_equal(follow_edges(9 * logits, image(none), np.ones(3), config),
                                  row(SURE_LOGIT, -SURE_LOGIT, SURE_LOGIT))  # fmt: skip


@pytest.mark.parametrize("shape", [(0, 3, 2), (1, 1, 1)])
def test_empty_and_single_boxes_pass(shape):
    logits = np.ones(shape, np.float32)
    even = follow_edges(logits, np.ones((2, *shape), np.float32), np.ones(3), STRONG)
    np.testing.assert_array_equal(even, logits)
