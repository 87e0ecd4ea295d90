import numpy as np
import pytest
import torch

from clickseg.config import DropConfig
from clickseg.training.augment import (
    FAINT_RANGE,
    IMAGE,
    FaintSpotsd,
    augment,
    augmentation,
    drop_sequences,
)


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


def test_image_and_label_move_together():
    i, j, k = np.indices((61, 47, 13))
    # Off the middle, so that a flip or a turn of one of them alone parts them.
    ball = np.hypot(np.hypot((i - 22) / 8, (j - 17) / 6), (k - 5) / 4) <= 1
    image = torch.from_numpy(np.stack([10.0 * ball, 10.0 * ball])).float()
    transform = augmentation((56, 44, 11), (4, 4, 2), (14, 14, 5))
    for seed in range(12):
        moved, label = augment(
            transform, image, torch.from_numpy(ball[None]), np.random.default_rng(seed)
        )
        t2 = moved[1]  # whose contrast does not fade in places
        seen, truth = t2 > (t2.min() + t2.max()) / 2, label[0] > 0
        assert truth.sum() > 200
        both = 2 * (seen & truth).sum() / (seen.sum() + truth.sum())
        assert both > 0.85, seed


def test_a_sequence_that_a_study_lacks_stays_zeros_and_the_other_is_never_blanked():
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(2, 61, 47, 13))).float()
    image[1] = 0
    transform = augmentation((32, 32, 8), (4, 4, 2), (14, 14, 5))
    often = DropConfig(t1ce=0.5, t2=0.5)
    for _ in range(20):
        moved, _ = augment(transform, image, torch.zeros(1, 61, 47, 13), rng)
        moved = drop_sequences(moved, often, rng)
        assert not moved[1].any()
        assert moved[0].any()
    both = [drop_sequences(torch.ones(2, 3, 5, 7), often, rng).sum() for _ in range(20)]
    assert set(map(float, both)) == {105.0}
