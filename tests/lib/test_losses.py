import math

import pytest
import torch
from monai.losses import TverskyLoss

from clickseg.losses import (
    LOSSES,
    CorrectionLoss,
    DepthCorrectionLoss,
    FocalTverskyLoss,
    build_loss,
    center_weights,
)

SURE = 40.0  # the sigmoid is 1 in float32


def logit(*probs):
    return torch.logit(torch.tensor(probs)).reshape(1, 1, 1, -1)


def label(*values):
    return torch.tensor([float(value) for value in values]).reshape(1, 1, 1, -1)


def ball(shape=(2, 1, 13, 11, 8)):
    half = [size / 2 for size in shape[2:]]
    axes = torch.meshgrid(*(torch.arange(size) for size in shape[2:]), indexing="ij")
    distance = sum((axis - middle) ** 2 for axis, middle in zip(axes, half, strict=True))
    return (distance < 12).float().expand(shape).clone()


CASES = {
    "perfect": (SURE * (2 * ball() - 1), ball()),
    "perfect on nothing": (torch.full((2, 1, 13, 11, 8), -SURE), torch.zeros(2, 1, 13, 11, 8)),
    "all wrong": (SURE * (1 - 2 * ball()), ball()),
    "all of an empty one": (torch.full((2, 1, 13, 11, 8), SURE), torch.zeros(2, 1, 13, 11, 8)),
    "nothing of a ball": (torch.full((2, 1, 13, 11, 8), -SURE), ball()),
    "undecided": (torch.zeros(2, 1, 13, 11, 8), ball()),
    "undecided on nothing": (torch.zeros(2, 1, 13, 11, 8), torch.zeros(2, 1, 13, 11, 8)),
    "infinitely sure": (torch.full((2, 1, 13, 11, 8), 1e4), ball()),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_are_finite(name, case):
    logits, reference = CASES[case]
    logits = logits.clone().requires_grad_()
    loss = build_loss(name)(logits, reference)
    loss.backward()
    assert loss.shape == ()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_right_is_better_than_undecided_is_better_than_wrong(name):
    loss = build_loss(name)
    right, half, wrong = (
        loss(*CASES[case]).item() for case in ("perfect", "undecided", "all wrong")
    )
    assert 0 <= right < 1e-4
    assert right < half < wrong


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_along_the_gradient_helps(name):
    logits = torch.zeros(2, 1, 13, 11, 8, requires_grad=True)
    loss = build_loss(name)
    before = loss(logits, ball())
    before.backward()
    assert loss(logits - 5 * logits.grad / logits.grad.abs().max(), ball()) < before


def test_focal_tversky_by_hand():
    # hit 0.5 + 0.25 = 0.75, missed 1.25, spurious 0.75 + 0.25 = 1;
    # wrong 0.7 * 1.25 + 0.3 * 1 = 1.175, 1 - index = 1.175 / 1.925 = 0.610390
    loss = FocalTverskyLoss(fn_weight=0.7, exponent=0.75)
    value = loss(logit(0.5, 0.25, 0.75, 0.25), label(1, 1, 0, 0))
    assert value.item() == pytest.approx(0.610390**0.75, abs=1e-5)


def test_focal_tversky_with_exponent_1_is_monais_tversky():
    logits, reference = torch.randn(3, 1, 7, 5, 3), (torch.rand(3, 1, 7, 5, 3) > 0.6).float()
    ours = FocalTverskyLoss(fn_weight=0.7, exponent=1.0)(logits, reference)
    theirs = TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7, smooth_nr=0, smooth_dr=0)
    assert ours.item() == pytest.approx(theirs(logits, reference).item(), abs=1e-6)


@pytest.mark.parametrize("name", ["tversky", "focal_tversky"])
def test_missed_tumor_costs_more_than_spurious(name):
    loss = build_loss(name, {"fn_weight": 0.7})
    missed = loss(logit(0.999, 0.001, 0.001), label(1, 1, 0))
    spurious = loss(logit(0.999, 0.999, 0.001), label(1, 0, 0))
    assert missed > spurious


def test_dice_and_weighted_bce_by_hand():
    # 2 (0.5 + 0.25) / (1.75 + 2) = 0.4
    probs, reference = logit(0.5, 0.25, 0.75, 0.25), label(1, 1, 0, 0)
    assert build_loss("dice")(probs, reference).item() == pytest.approx(0.6, abs=1e-4)
    # foreground 3 (ln 2 + ln 4), background ln 4 + ln 4/3, mean of four
    expected = (3 * (math.log(2) + math.log(4)) + math.log(4) + math.log(4 / 3)) / 4
    weighted = build_loss("weighted_bce", {"foreground_weight": 3})
    assert weighted(probs, reference).item() == pytest.approx(expected, abs=1e-5)
    plain = (math.log(2) + 2 * math.log(4) + math.log(4 / 3)) / 4
    both = build_loss("dice_bce")
    assert both(probs, reference).item() == pytest.approx(0.6 + plain, abs=1e-4)


def test_correction_loss_by_hand():
    # A cut of 1 x 2, sigma 0.5: the weights at gaps -1 and 0 are exp(-0.5) = 0.60653 and 1; along
    # the axis of one voxel the weight is 1. Only the second is tumor.
    # 1 - 2 * 0.5 / ((0.5 * 0.60653) + (0.5 + 1)) = 1 - 1 / 1.80327 = 0.44545
    loss = CorrectionLoss(sigma=0.5)
    assert loss(logit(0.5, 0.5), label(0, 1)).item() == pytest.approx(0.44545, abs=1e-4)


def test_correction_loss_with_even_weights_is_dice():
    logits, reference = torch.randn(3, 1, 17, 13), (torch.rand(3, 1, 17, 13) > 0.6).float()
    wide = CorrectionLoss(sigma=1e4)(logits, reference)
    assert wide.item() == pytest.approx(build_loss("dice")(logits, reference).item(), abs=1e-5)


def test_an_error_at_the_click_costs_more_than_one_at_the_rim():
    reference = torch.ones(1, 1, 48, 48)
    center, rim = torch.full((1, 1, 48, 48), SURE), torch.full((1, 1, 48, 48), SURE)
    center[..., 22:26, 22:26] = -SURE
    rim[..., :4, :4] = -SURE
    loss = CorrectionLoss()
    assert loss(center, reference) > 10 * loss(rim, reference)


@pytest.mark.parametrize("shape", [(48, 48), (48, 48, 8), (17, 13)])
def test_weights_are_largest_at_the_click(shape):
    weight = center_weights(shape)
    assert weight.shape == shape
    assert weight[tuple(size // 2 for size in shape)] == 1
    assert (weight == 1).sum() == 1
    if shape == (48, 48):  # 24 voxels are two sigmas along both axes
        assert weight[0, 0].item() == pytest.approx(math.exp(-4), rel=1e-5)
        assert weight[24, 36].item() == pytest.approx(math.exp(-0.5), rel=1e-5)


def test_depth_loss_is_the_middle_slice_and_three_quarters_of_all():
    logits, reference = torch.randn(2, 1, 11, 13, 8), ball((2, 1, 11, 13, 8))
    middle = CorrectionLoss()(logits[..., 4], reference[..., 4])
    whole = build_loss("dice")(logits, reference)
    value = DepthCorrectionLoss()(logits, reference)
    assert value.item() == pytest.approx((middle + 0.75 * whole).item(), abs=1e-6)


def test_each_case_of_a_batch_counts_the_same():
    small, large = torch.zeros(1, 1, 17, 13), torch.ones(1, 1, 17, 13)
    small[..., 8, 6] = 1
    logits = torch.randn(2, 1, 17, 13)
    for name in ("focal_tversky", "correction", "dice", "tversky"):
        loss = build_loss(name)
        apart = (loss(logits[:1], small) + loss(logits[1:], large)) / 2
        assert loss(logits, torch.cat([small, large])).item() == pytest.approx(
            apart.item(), abs=1e-5
        )


def test_half_precision_logits_do_not_overflow():
    logits = torch.full((1, 1, 320, 320), 2.0, dtype=torch.float16)  # 102400 voxels > 65504
    reference = torch.ones(1, 1, 320, 320)
    for name in ("focal_tversky", "correction"):
        assert 0 < build_loss(name)(logits, reference) < 0.5


@pytest.mark.parametrize("name", ["weighted_bce", "focal_tversky", "correction", "correction_3d"])
def test_unequal_shapes_are_refused(name):
    with pytest.raises(ValueError, match=r"\(1, 1, 5, 4\) and \(1, 1, 4, 5\)"):
        build_loss(name)(torch.zeros(1, 1, 5, 4), torch.zeros(1, 1, 4, 5))


def test_an_unknown_loss_or_argument_names_the_right_ones():
    with pytest.raises(ValueError, match=r"correction, correction_3d, dice, .* not 'jaccard'"):
        build_loss("jaccard")
    with pytest.raises(ValueError, match="tversky takes fn_weight, not alpha"):
        build_loss("tversky", {"alpha": 0.3})
    with pytest.raises(ValueError, match="dice takes nothing, not eps"):
        build_loss("dice", {"eps": 1})
