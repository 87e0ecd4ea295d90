"""Planar convolutions answer and learn as torch's own, and step in where torch takes its loops."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.nets import DynUNet
from torch import nn

from clickseg.networks import NETWORKS, build_network
from clickseg.networks.planar_conv import ENOUGH, PlanarConv3d, by_planes

SIDES = st.tuples(*[st.sampled_from([3, 5, 7, 11])] * 3)
KERNELS = st.tuples(*[st.sampled_from([3, 5])] * 2, st.sampled_from([1, 2, 3]))
STEPS = st.tuples(*[st.integers(1, 3)] * 3)
BORDERS = st.tuples(*[st.integers(0, 2)] * 3)
ARGUMENTS = {
    "in_channels": 2,
    "out_channels": 1,
    "kernel_size": [[3, 3, 1], 3, 3],
    "strides": [1, [2, 2, 1], 1],
    "upsample_kernel_size": [[2, 2, 1], 1],
    "filters": [4, 8, 8],
    "norm_name": "instance",
}


def _learned(layer: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """Return an answer, and the gradients of its squares by the image and each parameter."""
    image = image.clone().requires_grad_()
    answer = layer(image)
    answer.square().sum().backward()
    return [answer, image.grad, *(one.grad for one in layer.parameters())]


@given(SIDES, KERNELS, STEPS, BORDERS, st.booleans(), st.integers(1, 3))
def test_answers_and_gradients_are_those_of_torch(sides, kernel, step, border, has_bias, channels):
    kernel = tuple(min(a, b + 2 * c) for a, b, c in zip(kernel, sides, border, strict=True))
    plain = nn.Conv3d(channels, 5, kernel, step, border, bias=has_bias)
    planar = by_planes(nn.Sequential(copy.deepcopy(plain)))
    assert type(planar[0]) is PlanarConv3d
    image = torch.randn(1, channels, *sides)
    for mine, theirs in zip(_learned(planar, image), _learned(plain, image), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "is_planar"),
    [
        ((1, 20, 32, 32, 5), True),  # 20 x 32 x 32 are 20480
        ((1, 20, 32, 33, 5), False),
        ((2, 20, 32, 32, 5), False),
    ],
)
def test_planes_are_for_what_torch_leaves_to_its_loops(monkeypatch, shape, is_planar):
    made = []
    convolve = nn.functional.conv2d
    monkeypatch.setattr(nn.functional, "conv2d", lambda *a: made.append(1) or convolve(*a))
    by_planes(nn.Sequential(nn.Conv3d(20, 3, 3)))(torch.zeros(shape))
    assert bool(made) == is_planar


@pytest.mark.skipif(
    not hasattr(torch._C, "_select_conv_backend") or not torch.backends.mkldnn.is_available(),
    reason="torch does not say here how it convolves",
)
def test_the_bound_is_that_of_torch():
    def chosen(sides: tuple[int, int, int]) -> str:
        image, weight = torch.zeros(1, 20, *sides), torch.zeros(3, 20, 3, 3, 3)
        three = [1, 1, 1], [1, 1, 1], [1, 1, 1]
        return torch._C._select_conv_backend(
            image, weight, None, *three, False, [0, 0, 0], 1, None
        ).name

    assert ENOUGH == 20 * 32 * 32
    assert chosen((32, 32, 5)) == "Slow3d"
    assert chosen((32, 33, 5)) == "Mkldnn"


def test_a_network_keeps_its_names_and_its_draw():
    torch.manual_seed(5)
    plain = DynUNet(spatial_dims=3, **ARGUMENTS)
    after_plain = torch.rand(1)
    torch.manual_seed(5)
    planar = build_network("dynunet", {"spatial_dims": 3, **ARGUMENTS})
    assert torch.equal(torch.rand(1), after_plain)
    assert any(isinstance(layer, PlanarConv3d) for layer in planar.modules())
    mine, theirs = planar.state_dict(), plain.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    image = torch.randn(1, 2, 12, 12, 5)
    torch.testing.assert_close(planar.eval()(image), plain.eval()(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv3d(4, 4, 3, groups=2),
        nn.Conv3d(4, 4, 3, dilation=2),
        nn.Conv3d(4, 4, 3, padding="same"),
        nn.Conv3d(4, 4, 1),
        nn.Conv3d(4, 4, 2, stride=2),
        nn.Conv3d(4, 4, 5),  # torch takes oneDNN
        nn.Conv3d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose3d(4, 4, 2),
        nn.Conv2d(4, 4, 3),
    ],
)
def test_other_convolutions_are_left_as_they_are(layer):
    assert by_planes(nn.Sequential(layer))[0] is layer


def test_a_volume_smaller_than_the_kernel_is_refused_by_torch():
    layer = by_planes(nn.Sequential(nn.Conv3d(2, 3, 3)))
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        layer(torch.zeros(1, 2, 9, 7, 2))


def test_hooks_stay():
    network, heard = nn.Sequential(nn.Conv3d(2, 3, 3)), []
    network[0].register_forward_hook(lambda *_: heard.append(1))
    by_planes(network)(torch.zeros(1, 2, 5, 5, 5))
    assert heard == [1]


def test_short_precision_is_left_to_torch(monkeypatch):
    monkeypatch.setattr(nn.functional, "conv2d", lambda *_: pytest.fail("planes were taken"))
    layer = by_planes(nn.Sequential(nn.Conv3d(2, 3, 3)))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.zeros(1, 2, 5, 5, 5)).dtype == torch.bfloat16


def test_every_network_is_built_by_planes():
    wanted = {"unet3d": {}, "multi_encoder_unet_3d": {}, "folded_dynunet": ARGUMENTS}
    assert wanted.keys() <= NETWORKS.keys()
    for name, arguments in wanted.items():
        layers = list(build_network(name, arguments).modules())
        assert any(isinstance(layer, PlanarConv3d) for layer in layers)
        assert all(max(one.kernel_size) < 3 for one in layers if type(one) is nn.Conv3d)
