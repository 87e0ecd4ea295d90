import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clickseg.extent import Extent

SHAPE = (13, 11, 7)
BOXES = ((slice(0, 4), slice(2, 9), slice(1, 3)), (slice(6, 13), slice(0, 5), slice(4, 7)))


def test_the_extent_of_a_mask_by_hand():
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:5, 3:7, 1] = 1
    assert Extent.of(mask) == Extent(12, (slice(2, 5), slice(3, 7), slice(1, 2)))
    assert Extent.of(np.zeros(SHAPE, np.uint8)) == Extent(0, None)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.02, 0.5]))
def test_looking_at_what_changed_finds_what_looking_at_all_does(seed, share):
    rng = np.random.default_rng(seed)
    before = (rng.random(SHAPE) < share).astype(np.uint8)
    mask = before.copy()
    for box in BOXES:
        mask[box] = rng.random(mask[box].shape) < share / 2
    near, changed = Extent.of(before).after(before, mask, BOXES)
    everywhere, changed_anywhere = Extent.of(before).after(before, mask, None)
    assert near.voxels == everywhere.voxels == mask.sum()
    assert changed == changed_anywhere == (mask != before).sum()
    if near.box is None:
        assert not mask.any()
    else:
        assert mask[near.box].sum() == mask.sum()


def test_no_boxes_mean_no_change():
    mask = np.zeros(SHAPE, np.uint8)
    mask[2, 3, 5] = 1
    extent = Extent.of(mask)
    assert extent.after(mask, mask, ()) == (extent, 0)
    assert Extent(0, None).after(mask * 0, mask * 0, ()) == (Extent(0, None), 0)
