import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clickseg.cuts import Box, shrink

SHAPE = (37, 31, 23)


@pytest.fixture
def image():
    i, j, k = (torch.arange(n, dtype=torch.float32) for n in SHAPE)
    return (i[:, None, None] * 10000 + j[:, None] * 100 + k)[None]


def test_voxels_of_the_image_are_taken_as_they_are(image):
    # size 4: voxel 2 is at the center, so the box starts two before it; size 3: one before it.
    cut = Box((18.0, 15.0, 11.0), (1.0, 1.0, 1.0), (4, 3, 5)).take(image)
    assert torch.equal(cut, image[:, 16:20, 14:17, 9:14])


def test_beyond_the_edge_the_edge_goes_on(image):
    cut = Box((0.0, 15.0, 22.0), (1.0, 1.0, 1.0), (3, 1, 3)).take(image)
    assert cut[0, :, 0, :].tolist() == [
        [1521.0, 1522.0, 1522.0],
        [1521.0, 1522.0, 1522.0],
        [11521.0, 11522.0, 11522.0],
    ]


def test_a_step_of_half_a_voxel_interpolates(image):
    cut = Box((18.0, 15.0, 11.0), (0.5, 1.0, 1.0), (3, 1, 1)).take(image)
    np.testing.assert_allclose(cut.flatten(), [176511, 181511, 186511])


@given(
    center=st.tuples(*(st.floats(0, n - 1) for n in SHAPE)),
    step=st.tuples(*[st.floats(0.3, 2.5)] * 3),
)
def test_what_is_put_back_lies_where_it_was_taken(center, step):
    """A linear ramp survives both interpolations, where no edge is near."""
    margin = 20
    i, j, k = (torch.arange(n + 2 * margin, dtype=torch.float32) for n in SHAPE)
    ramp = (i[:, None, None] + 2 * j[:, None] + 3 * k)[None]
    box = Box(tuple(c + margin for c in center), step, (8, 7, 5))
    slices, values = box.put_back(box.take(ramp), tuple(ramp.shape[1:]))
    torch.testing.assert_close(values, ramp[(slice(None), *slices)], atol=0.01, rtol=0)


def test_a_box_outside_puts_nothing_back(image):
    box = Box((100.0, 15.0, 11.0), (1.0, 1.0, 1.0), (3, 3, 3))
    slices, values = box.put_back(box.take(image), SHAPE)
    assert values.numel() == 0
    assert slices[0].stop - slices[0].start == 0


def test_equal_spacing_up_to_rounding_costs_no_interpolation():
    box = Box.around([3, 3, 3], [0.50000012, 0.5, 1.5], (0.5, 0.5, 1.5), (3, 3, 3))
    assert box.step == (1.0, 1.0, 1.0)


def test_shrinking_keeps_the_mean():
    image = torch.rand(2, 12, 8, 6)
    small = shrink(image, (0.5, 0.5, 1.5), (1.0, 2.0, 3.0))
    assert small.shape == (2, 6, 2, 3)
    torch.testing.assert_close(small.mean((1, 2, 3)), image.mean((1, 2, 3)))
