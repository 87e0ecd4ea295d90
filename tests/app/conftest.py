"""A server as users start it, on studies and models that the tests make.

The networks are real ones with weights set by hand: the initial outline is what is bright on
T1ce, and a correction draws each click's own ball. So a whole chain, from a viewer's request to
the file it gets back, can be checked voxel by voxel.
"""

import uuid
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import requests
import torch
from dicomweb import SmallPacs, images
from serving import AFFINES, ROOT, SHAPE, Server, centered, save, tumor_image

from clickseg.config import NetworkConfig, as_values, load_config
from clickseg.initial.two_stage import TwoStageNetwork
from clickseg.modelfile import Manifest, save_model
from clickseg.networks import build_network
from clickseg_app import pacs_index


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    small = {
        "spatial_dims": 3,
        "out_channels": 1,
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [3, 3, 3],
        "norm_name": "instance",
    }
    recipe = load_config(ROOT / "configs" / "default.yaml")
    first = NetworkConfig(name="dynunet", arguments=small | {"in_channels": 2})
    initial = replace(
        recipe.initial,
        locate=replace(recipe.initial.locate, network=first, patch=(32, 32, 16)),
        segment=replace(recipe.initial.segment, network=first, patch=(64, 64, 32), small=None),
        mirror=False,
        edges=None,
        border=None,
    )
    second = NetworkConfig(name="dynunet", arguments=small | {"in_channels": 5})
    correction = replace(
        recipe.correction,
        network=second,
        cut=(24, 24, 12),
        spacing_mm=(0.5, 0.5, 1.5),
        reach_mm=6.0,
        visible_mm=3.0,
        guidance_mm=1.0,
        merge="component",
        border=None,
    )
    recipe = replace(recipe, name="echo", initial=initial, correction=correction)
    pair = TwoStageNetwork(initial)
    for network, bias in ((pair.locate, -0.5), (pair.segment, -2.0)):
        pass_through(network, [0, 1, 1], [1.0, 0.0, 0.0], bias)
    clicks = build_network(second.name, second.arguments)
    pass_through(clicks, [2, 3, 4], [1.0, 100.0, -100.0], -0.3)
    for name, network in (("initial", pair), ("correction", clicks)):
        save_model(folder, network, Manifest(name, as_values(recipe), {"made of": "hand"}, {}))
    return folder


@torch.no_grad()
def pass_through(network, channels, weights, bias):
    """Make a DynUNet hand three input channels on to its output, each normalized, and add them."""
    for parameter in network.parameters():
        parameter.zero_()
    last = network.upsamples[-1].conv_block
    first = network.input_block
    for out, (channel, weight) in enumerate(zip(channels, weights, strict=True)):
        first.conv1.conv.weight[out, channel, 1, 1, 1] = 1
        first.conv2.conv.weight[out, out, 1, 1, 1] = 1
        last.conv1.conv.weight[out, 3 + out, 1, 1, 1] = 1  # behind the upsampled channels
        last.conv2.conv.weight[out, out, 1, 1, 1] = 1
        network.output_block.conv.conv.weight[0, out] = weight
    network.output_block.conv.conv.bias.fill_(bias)


@pytest.fixture(scope="session")
def studies(tmp_path_factory):
    """Studies of every kind; a test that changes one has its own."""
    folder = tmp_path_factory.mktemp("studies")
    rng = np.random.default_rng(0)
    for name, affine in AFFINES.items():
        save(folder / f"{name}.nii.gz", tumor_image(affine, rng), affine)
        save(folder / "t2" / f"{name}.nii.gz", tumor_image(affine, rng, contrast=-60), affine)
    ras = AFFINES["ras"]
    image = tumor_image(ras, rng)
    plain = ["no-t2", "undo", "accepted", "saved", "cached", "edit", "far-t2", "4d-t2", "nan-t2"]
    for name in [*plain, "empty-t2", "truncated-t2", "singular-t2"]:
        save(folder / f"{name}.nii.gz", image, ras)
    save(folder / "uncompressed.nii", image, ras)
    save(folder / "nrrd.nrrd", image, ras)

    t2 = folder / "t2"
    coarse = centered([[0, 0.9, 0], [-0.8, 0, 0], [0, 0, 2.0]])
    save(folder / "other-grid.nii.gz", image, ras)
    save(t2 / "other-grid.nii.gz", tumor_image(coarse, rng, (29, 23, 19), -60), coarse)
    far = ras.copy()
    far[:3, 3] += 500
    save(t2 / "far-t2.nii.gz", image, far)
    nib.save(nib.Nifti1Image(np.stack([image, image], -1), ras), t2 / "4d-t2.nii.gz")
    hole = image.copy()
    hole[3, 5, 7] = np.nan
    nib.save(nib.Nifti1Image(hole, ras), t2 / "nan-t2.nii.gz")
    (t2 / "empty-t2.nii.gz").touch()
    (t2 / "truncated-t2.nii.gz").write_bytes((folder / "ras.nii.gz").read_bytes()[:3000])
    header = "NRRD0004\ntype: float\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 2 2\n"
    header += "space directions: (1,0,0) (2,0,0) (0,0,1)\nkinds: domain domain domain\n"
    header += "endian: little\nencoding: raw\nspace origin: (0,0,0)\n\n"
    (t2 / "singular-t2.nrrd").write_bytes(header.encode() + np.zeros(8, "f4").tobytes())

    (folder / "corrupt.nii.gz").write_bytes(b"this is no image, and says so at some length")
    save(folder / "flat.nii.gz", np.full(SHAPE, 7, np.float32), ras)
    nib.save(nib.Nifti1Image(np.stack([image, image], -1), ras), folder / "4d.nii.gz")
    two = nib.Nifti1Image(image, None)
    two.set_sform(AFFINES["oblique"], 1)
    two.set_qform(AFFINES["lps"], 1)
    nib.save(two, folder / "two-forms.nii.gz")

    label = np.zeros(SHAPE, np.uint8)
    label[5:9, 5:9, 5:9] = 1
    save(folder / "labels/final/accepted.nii.gz", label, ras)
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory, studies, weights):
    server = Server(tmp_path_factory.mktemp("server"), studies, ("pretrained_path", weights))
    try:
        yield server.wait()
    finally:
        server.stop()


@pytest.fixture
def another_server(tmp_path, weights):
    """Start servers on other studies or settings; they are stopped after the test."""
    running = []

    def start(studies, *conf):
        folder = tmp_path / f"server-{len(running)}"
        folder.mkdir()
        running.append(Server(folder, studies, ("pretrained_path", weights), *conf))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture(scope="session")
def keeping(tmp_path_factory, weights):
    """A server whose studies tests add, each its own; what is kept of them stays apart."""
    folder = tmp_path_factory.mktemp("keeping")
    (folder / "studies").mkdir()
    server = Server(folder, folder / "studies", ("pretrained_path", weights))
    try:
        yield server.wait()
    finally:
        server.stop()


@pytest.fixture
def new_study(keeping, server):
    """Add a study of the test's own, and return its id."""

    def add(name="ras"):
        image_id = f"study-{uuid.uuid4().hex[:8]}"
        response = requests.put(
            f"{keeping.url}/datastore/image",
            params={"image": image_id},
            files={"file": ("a.nii.gz", (server.studies / f"{name}.nii.gz").read_bytes())},
            timeout=30,
        )
        assert response.status_code == 200
        return image_id

    return add


@pytest.fixture
def study(new_study):
    return new_study()


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A PACS that holds one study; it is looked at anew at each question."""
    monkeypatch.setattr(pacs_index, "LOOK_AGAIN_S", 0.0)
    with SmallPacs() as pacs:
        pacs.add_study(tmp_path / "made", "a", *images())
        yield pacs
