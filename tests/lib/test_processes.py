"""One training in two processes: the same as in one with the doubled batch."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import DEFAULT, tiny, write_case
from torch import nn

from clickseg.config import ConfigError, load_config, save_config
from clickseg.modelfile import read_manifest
from clickseg.training.loop import Run, fit
from clickseg.training.processes import join_processes, leave_processes, number
from clickseg.training.split import read_split

HERE = Path(__file__).parent


def train(folder, parts):
    """Fit a small network to noisy lines; return the loss of each epoch, and the weights."""
    torch.manual_seed(0)
    network, losses = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), []
    config = replace(
        load_config(DEFAULT).initial.segment.fit,
        epochs=3, steps_per_epoch=5, rate=0.05, bfloat16=False, average=0.5,
    )  # fmt: skip

    def draw(rng):
        x = torch.from_numpy(rng.normal(size=(2, 3))).float()
        return x, x.sum(1, keepdim=True)

    def loss_of(net, batch):
        return ((net(batch[0]) - batch[1]) ** 2).mean()

    run = Run(folder, "line", 7, watch=lambda epoch: losses.append(epoch.loss), parts=parts)
    fit(network, config, run, draw, loss_of)
    return losses, [value.tolist() for value in network.state_dict().values()]


def train_normed(folder):
    """Fit a network with batch norm by validation; return the rates and what it came to.

    Each process sees other numbers, and what it validates by says which process it is.
    """
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    validations = []
    config = replace(
        load_config(DEFAULT).initial.segment.fit,
        epochs=8, steps_per_epoch=2, rate=0.05, schedule="plateau", bfloat16=False, average=0.5,
    )  # fmt: skip

    def draw(rng):
        return torch.from_numpy(rng.normal(size=(5, 3)) * (1 + number())).float()

    def validate(net):
        validations.append(number() + float(net(torch.ones(2, 3)).sum().detach()))
        return number() * len(validations)  # of the second it never gets better

    run = Run(folder, "normed", 7, parts=2)
    fit(
        network,
        config,
        run,
        draw,
        lambda net, x: (net(x) - x.sum(1, True)).square().mean(),
        validate,
    )
    return len(validations), [value.tolist() for value in network.state_dict().values()]


def start(*command):
    """Run a command by torchrun in two processes on one machine."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = ["--standalone", "--nproc-per-node", "2", *map(str, command)]
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *given],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PATH": path},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_two_processes_have_the_loss_curve_of_one_with_the_doubled_batch(tmp_path):
    done = start(HERE / "test_processes.py", tmp_path / "two")
    assert done.returncode == 0, done.stderr[-2000:]
    losses, weights = json.loads((tmp_path / "two/result0.json").read_text())
    wanted_losses, wanted_weights = train(tmp_path / "one", parts=2)
    assert len(losses) == 3
    np.testing.assert_allclose(losses, wanted_losses, rtol=1e-5)
    for value, wanted in zip(weights, wanted_weights, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-6)
    other, _ = train(tmp_path / "half", parts=1)
    assert not np.allclose(losses, other)  # the second process had a say


def test_processes_stay_alike_with_batch_norm_and_a_rate_by_validation(tmp_path):
    done = start(HERE / "test_processes.py", tmp_path / "two", "normed")
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (json.loads((tmp_path / f"two/normed{n}.json").read_text()) for n in range(2))
    assert (first[0], second[0]) == (8, 0)  # one measures for both
    for one, other in zip(first[1], second[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_torchrun_trains_by_the_command(tmp_path):
    for index in range(1, 5):
        write_case(tmp_path / "studies", f"VS-{index}", (20 + 5 * index, 26, 9), 4.0)
    save_config(tiny(), tmp_path / "tiny.yaml")
    words = ["--studies", tmp_path / "studies", "--config", tmp_path / "tiny.yaml"]
    for part in ("initial", "correction"):
        done = start("--no-python", "clickseg", "train", part, *words, "--out", tmp_path / "run")
        assert done.returncode == 0, done.stderr[-2000:]
    assert len(read_split(tmp_path / "run/split.json").training) == 3
    assert read_manifest(tmp_path / "run", "correction").metrics


@pytest.mark.skipif("WORLD_SIZE" in os.environ, reason="started by torchrun")
def test_alone_there_is_nobody_to_join():
    assert join_processes("cpu") == "cpu"
    assert number() == 0
    leave_processes()


@pytest.mark.parametrize(
    ("gpus", "processes", "device", "backend"),
    [(4, 4, "cuda:3", "nccl"), (1, 4, "cuda:0", "gloo"), (2, 4, "cuda:1", "gloo")],
)
def test_processes_share_gpus_where_there_are_fewer(monkeypatch, gpus, processes, device, backend):
    seen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", seen.append)
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda name, **_: seen.append(name)
    )
    told = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "LOCAL_RANK": 3}
    for name, value in told.items():
        monkeypatch.setenv(name, str(value))
    assert join_processes("cuda") == device
    assert seen == [device, backend]


def test_a_gpu_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="no GPU is to be seen"):
        join_processes("cuda")


if __name__ == "__main__":
    out, *mode = Path(sys.argv[1]), *sys.argv[2:]
    join_processes("cpu")
    result = train_normed(out) if mode else train(out, parts=1)
    (out / f"{'normed' if mode else 'result'}{number()}.json").write_text(json.dumps(result))
    leave_processes()
