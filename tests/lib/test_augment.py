import numpy as np
import pytest
import torch

from clickseg.training.augment import FAINT_RANGE, IMAGE, FaintSpotsd, augment, augmentation


@pytest.mark.parametrize("size", [(59, 53, 7), (30, 124, 13), (96, 96, 24)])
def test_spots_fade_the_t1ce_alone_and_within_limits(size):
    fade = FaintSpotsd((3, 5, 2))
    fade.set_random_state(3)
    image = torch.ones(2, *size)
    faded = [fade({IMAGE: image})[IMAGE] for _ in range(20)]
    changed = [one for one in faded if not torch.equal(one, image)]
    assert 4 <= len(changed) <= 16  # half of the time
    for one in changed:
        torch.testing.assert_close(one[1], image[1])
        assert FAINT_RANGE[0] <= one[0].min() < one[0].max() <= FAINT_RANGE[1]
        assert one[0].diff(dim=0).abs().max() < 0.2  # smooth
    assert image.min() == 1  # left alone


def test_the_same_generator_gives_the_same_item():
    rng = np.random.default_rng(1)
    image = torch.from_numpy(rng.normal(size=(2, 61, 47, 13)).astype(np.float32))
    label = torch.zeros(1, 61, 47, 13, dtype=torch.uint8)
    label[0, 20:40, 20:30, 4:9] = 1
    transform = augmentation((32, 32, 8), (4, 4, 2), (14, 14, 5))
    one, same, other = (
        augment(transform, image, label, np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    torch.testing.assert_close(one, same, rtol=0, atol=0)
    assert not torch.equal(one[0], other[0])
    assert one[0].shape == (2, 32, 32, 8)
    assert set(one[1].unique().tolist()) <= {0.0, 1.0}
