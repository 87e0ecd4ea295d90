import hashlib
import json
import pickle

import pytest
import torch

from clickseg import __version__
from clickseg.modelfile import Manifest, ModelError, load_weights, read_manifest, save_model

MANIFEST = Manifest("initial", {"name": "test"}, {"training": ["a"]}, {"validation_dice": 0.9})


def network(features=3):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv3d(2, features, 3), torch.nn.BatchNorm3d(features))


@pytest.fixture
def saved(tmp_path):
    save_model(tmp_path, network(), MANIFEST)
    return tmp_path


def test_weights_come_back_to_half_precision(saved):
    manifest, other = read_manifest(saved, "initial"), network()
    torch.nn.init.zeros_(other[0].weight)
    load_weights(saved, manifest, other)
    torch.testing.assert_close(other[0].weight, network()[0].weight.half().float())
    assert other[0].weight.dtype == torch.float32
    assert other[1].num_batches_tracked.dtype == torch.int64


def test_a_block_with_two_names_is_kept_once(tmp_path):
    once = torch.nn.Sequential(torch.nn.Conv3d(8, 64, 3))
    twice = torch.nn.ModuleDict({"a": once[0], "b": once[0]})
    save_model(tmp_path / "once", once, MANIFEST)
    save_model(tmp_path / "twice", twice, MANIFEST)
    sizes = [(tmp_path / name / "initial.pt").stat().st_size for name in ("once", "twice")]
    assert sizes[1] < 1.1 * sizes[0]
    load_weights(tmp_path / "twice", read_manifest(tmp_path / "twice", "initial"), twice)


def test_the_manifest_says_what_the_weights_are(saved):
    manifest = read_manifest(saved, "initial")
    assert manifest.metrics == {"validation_dice": 0.9}
    assert manifest.license == "Apache-2.0"
    assert len(manifest.short_hash) == 12
    version, _, source = manifest.code_version.partition("+")
    assert (version, len(source)) == (__version__, 8)  # and which state of that version


def test_a_damaged_file_is_refused(saved):
    path = saved / "initial.pt"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match=r"not the file that initial\.json describes"):
        load_weights(saved, read_manifest(saved, "initial"), network())


def test_weights_of_another_network_name_the_first_key_that_differs(saved):
    with pytest.raises(ModelError, match=r"0\.weight is \(3, 2, 3, 3, 3\), wanted \(5,"):
        load_weights(saved, read_manifest(saved, "initial"), network(5))


def test_code_in_a_weights_file_is_not_run(saved):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    content = pickle.dumps(Evil(), protocol=2)  # the protocol that torch writes
    (saved / "initial.pt").write_bytes(content)
    values = json.loads((saved / "initial.json").read_text())
    values["sha256"] = hashlib.sha256(content).hexdigest()
    (saved / "initial.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match="holds no weights"):
        load_weights(saved, read_manifest(saved, "initial"), network())


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ModelError, match="no model 'correction'"):
        read_manifest(tmp_path, "correction")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"name": "x"}', b'{"nonsense": 1}', b"\xff"])
def test_what_is_no_manifest_is_refused(tmp_path, content):
    (tmp_path / "initial.json").write_bytes(content)
    with pytest.raises(ModelError, match="no manifest"):
        read_manifest(tmp_path, "initial")


@pytest.mark.parametrize("key", ["recipe", "data", "metrics"])
@pytest.mark.parametrize("value", [[], None, "text"])
def test_a_part_of_a_manifest_of_the_wrong_kind_is_told(saved, key, value):
    path = saved / "initial.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ModelError, match=f"{key} must hold values by name"):
        read_manifest(saved, "initial")


def test_weights_for_other_intensities_are_refused(saved):
    values = json.loads((saved / "initial.json").read_text())
    for wrong in (
        values | {"intensity": "min-max"},
        {k: v for k, v in values.items() if k != "intensity"},
    ):
        (saved / "initial.json").write_text(json.dumps(wrong))
        with pytest.raises(ModelError, match="this version normalizes by 'tissue-z-1'"):
            read_manifest(saved, "initial")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_weights_of_a_training_that_diverged_are_not_written(saved, value):
    before = (saved / "initial.pt").read_bytes()
    wild = network()
    with torch.no_grad():
        wild[0].weight[0, 0, 0, 0, 0] = value
    with pytest.raises(ModelError, match=r"0\.weight .* diverged"):
        save_model(saved, wild, MANIFEST)
    assert (saved / "initial.pt").read_bytes() == before
