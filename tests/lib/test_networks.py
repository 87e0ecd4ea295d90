import pytest
import torch
from monai.networks.nets import DynUNet

from clickseg.networks import NETWORKS, AttentionGate, SliceTiling, UNet, build_network

SMALL = {"features": [3, 5, 7, 11]}
INPUTS = {
    "unet3d": (1, 2, 8, 16, 24),
    "attention_unet": (2, 3, 24, 16),
    "multi_encoder_unet": (2, 3, 24, 16),
    "multi_encoder_unet_3d": (1, 3, 24, 16, 8),
    "multi_encoder_unet_tiled": (1, 3, 16, 8, 9),
}


def conv_pair_count(before, after, taps):
    # two convolutions with bias, two batch norms
    return (before * taps + 1) * after + (after * taps + 1) * after + 4 * after


@pytest.mark.parametrize("name", INPUTS)
def test_logits_have_the_size_of_the_input(name):
    image = torch.randn(INPUTS[name], generator=torch.Generator().manual_seed(0))
    logits = build_network(name, SMALL)(image)
    size = image.shape[2:4] if name.endswith("tiled") else image.shape[2:]
    assert logits.shape == (image.shape[0], 1, *size)
    assert (logits.min() < 0) or (logits.max() > 1)  # no sigmoid inside


@pytest.mark.parametrize("name", INPUTS)
def test_every_parameter_gets_a_finite_gradient(name):
    network = build_network(name, SMALL)
    image = torch.randn(INPUTS[name], generator=torch.Generator().manual_seed(0))
    network(image).square().mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


def test_the_initial_network_has_the_published_stages():
    network = build_network("unet3d", {})
    pairs = [(2, 32), (32, 64), (64, 128), (128, 256), (256, 128), (128, 64), (64, 32)]
    expected = sum(conv_pair_count(before, after, 27) for before, after in pairs)
    expected += sum((8 * before + 1) * after for before, after in [(256, 128), (128, 64), (64, 32)])
    expected += 32 + 1
    assert sum(parameter.numel() for parameter in network.parameters()) == expected
    assert expected == 5_603_393
    assert not any(isinstance(module, torch.nn.Dropout) for module in network.modules())


def test_the_correction_network_drops_out_after_each_relu():
    network = build_network("attention_unet", {})
    orders = [
        [type(part).__name__ for part in module]
        for module in network.modules()
        if type(module).__name__ == "ADN"
    ]
    assert orders == [["BatchNorm2d", "ReLU", "Dropout"]] * 14  # 7 stages of two
    assert {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)} == {
        0.4
    }


def test_attention_can_be_switched_off():
    def gates(network):
        return [module for module in network.modules() if isinstance(module, AttentionGate)]

    assert len(gates(build_network("attention_unet", SMALL))) == 3
    assert not gates(build_network("attention_unet", {**SMALL, "attention": False}))
    assert len(gates(build_network("multi_encoder_unet", SMALL))) == 6  # one a stage and encoder


FOLDED = {
    "in_channels": 3,
    "out_channels": 2,
    "kernel_size": [[3, 3, 1], 3, 3],
    "strides": [1, [2, 2, 1], [2, 2, 1]],
    "upsample_kernel_size": [[2, 2, 1], [2, 2, 1]],
    "filters": [3, 5, 7],
    "norm_name": "instance",
}


def test_folded_pixels_come_back_to_their_places():
    network = build_network("folded_dynunet", FOLDED)
    assert network(torch.randn(1, 3, 16, 8, 5)).shape == (1, 2, 16, 8, 5)
    image = torch.arange(2 * 3 * 6 * 4 * 5, dtype=torch.float32).reshape(2, 3, 6, 4, 5)
    seen = []
    network.body.forward = lambda folded: seen.append(folded) or folded
    assert torch.equal(network(image), image)
    (folded,) = seen
    assert folded.shape == (2, 12, 3, 2, 5)
    # the four channels of channel 1 at (2, 1) hold the pixels (4, 2), (4, 3), (5, 2), (5, 3)
    assert torch.equal(folded[1, 4:8, 2, 1], image[1, 1, 4:6, 2:4].flatten(0, 1))


def test_layers_of_a_folded_network_have_the_names_of_a_dynunet():
    network = build_network("folded_dynunet", FOLDED)
    for name in ("bottleneck", "upsamples", "output_block"):
        assert getattr(network, name) is getattr(network.body, name)


def test_an_odd_side_is_not_folded():
    with pytest.raises(ValueError, match="want even sides, got 16 x 7"):
        build_network("folded_dynunet", FOLDED)(torch.zeros(1, 3, 16, 7, 5))


def test_coarser_levels_of_folded_pixels_answer_in_training_alone():
    deep = {**FOLDED, "deep_supervision": True, "deep_supr_num": 1}
    network, image = build_network("folded_dynunet", deep), torch.randn(2, 3, 16, 8, 5)
    heads = network.train()(image)
    assert heads.shape == (2, 2, 2, 16, 8, 5)
    finest = network.eval()(image)  # instance norm is the same in both
    torch.testing.assert_close(heads[:, 0], finest)
    # The coarser head knows every second folded pixel: squares of two by two come again.
    folded = heads[:, 1].unflatten(2, (8, 2)).unflatten(4, (4, 2))
    again = folded.unflatten(2, (4, 2)).unflatten(5, (2, 2))
    torch.testing.assert_close(again[:, :, :, 0], again[:, :, :, 1])
    torch.testing.assert_close(again[..., 0, :, :], again[..., 1, :, :])


@pytest.mark.parametrize("size", [(12, 10), (12, 10, 8)])
def test_a_gate_opens_closes_and_follows_its_signal(size):
    gate = AttentionGate(len(size), 4, 6)
    skip, signal = torch.randn(2, 4, *size), torch.zeros(2, 6, *(n // 2 for n in size))
    for parameter in gate.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(gate(skip, signal), 0.5 * skip)  # sigmoid(0)
    torch.nn.init.constant_(gate.to_weight.bias, -20)
    assert gate(skip, signal).abs().max() < 1e-6
    # Only where the signal is 1 does it outweigh the bias of -20: ReLU(1) * 40 - 20 = 20.
    gate.from_gate.weight.data[0, 0] = 1
    gate.to_weight.weight.data[0, 0] = 40
    signal[:, 0, :3] = 1
    weight = gate.weight(skip, signal)
    assert weight.shape == (2, 1, *size)
    assert weight[:, :, :5].min() > 0.99
    assert weight[:, :, 7:].max() < 0.01


def test_a_gate_looks_at_the_skip_too():
    gate = AttentionGate(2, 4, 6)
    signal = torch.randn(1, 6, 4, 4)
    one, other = (gate.weight(torch.randn(1, 4, 8, 8), signal) for _ in range(2))
    assert not torch.equal(one, other)


def test_each_encoder_sees_its_own_channels():
    network = build_network("multi_encoder_unet", SMALL)
    images, mask = network.encoders
    assert images.stages[0][0].conv.in_channels == 2
    assert mask.stages[0][0].conv.in_channels == 1
    seen = []
    mask.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.randn(1, 3, 16, 16)
    network(image)
    torch.testing.assert_close(seen[0], image[:, 2:])


def test_the_3d_form_is_the_2d_form_with_one_more_axis():
    flat = build_network("multi_encoder_unet", SMALL).state_dict()
    deep = build_network("multi_encoder_unet_3d", SMALL).state_dict()
    assert flat.keys() == deep.keys()
    key = "encoders.0.stages.0.0.conv.weight"
    assert tuple(flat[key].shape) == (3, 2, 3, 3)
    assert tuple(deep[key].shape) == (3, 2, 3, 3, 3)


def test_slices_are_tiled_in_reading_order():
    image = torch.arange(9.0).expand(1, 1, 2, 5, 9)
    seen = []

    class Echo(torch.nn.Module):
        def forward(self, tiled):
            seen.append(tiled)
            return tiled

    middle = SliceTiling(Echo())(image)
    torch.testing.assert_close(middle, torch.full((1, 1, 2, 5), 4.0))
    assert seen[0].shape == (1, 1, 6, 15)
    assert seen[0][0, 0, ::2, ::5].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_slice_tiling_keeps_height_and_width_apart():
    image = torch.randn(2, 3, 4, 6, 9)
    torch.testing.assert_close(SliceTiling(torch.nn.Identity())(image), image[..., 4])


def test_wrong_input_is_refused_with_its_shape():
    network = build_network("unet3d", SMALL)
    with pytest.raises(ValueError, match=r"multiples of 8, got \(1, 2, 8, 12, 16\)"):
        network(torch.zeros(1, 2, 8, 12, 16))
    with pytest.raises(ValueError, match="takes 2 channels"):
        network(torch.zeros(1, 3, 8, 8, 8))
    with pytest.raises(ValueError, match="takes 9 slices"):
        build_network("multi_encoder_unet_tiled", SMALL)(torch.zeros(1, 3, 8, 8, 8))
    with pytest.raises(ValueError, match="2 or 3 axes, not 1"):
        UNet(1, [2])
    with pytest.raises(ValueError, match="a stage and the bottleneck"):
        UNet(2, [2], features=[8])


def test_dynunet_is_built_from_plain_values():
    network = build_network(
        "dynunet",
        {
            "spatial_dims": 3,
            "in_channels": 5,
            "out_channels": 1,
            "kernel_size": [[3, 3, 1], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 1]],
            "upsample_kernel_size": [[2, 2, 1], [2, 2, 1]],
            "filters": [4, 8, 8],
        },
    )
    assert isinstance(network, DynUNet)
    assert network(torch.randn(1, 5, 16, 12, 7)).shape == (1, 1, 16, 12, 7)


def test_an_unknown_network_or_argument_names_the_right_ones():
    with pytest.raises(ValueError, match=r"attention_unet, dynunet, .*, unet3d, not 'unet'"):
        build_network("unet", {})
    with pytest.raises(ValueError, match="unet3d takes in_channels, features, not chanels, width"):
        build_network("unet3d", {"width": 3, "chanels": 2})


def test_the_table_is_complete():
    assert sorted(NETWORKS) == sorted([*INPUTS, "dynunet", "folded_dynunet"])
