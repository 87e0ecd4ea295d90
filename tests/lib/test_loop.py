import gc
import multiprocessing
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clickseg.config import FitConfig
from clickseg.training.loop import Run, fit, seconds_in

FIT = FitConfig(
    epochs=4, steps_per_epoch=5, batch=3, optimizer="adam", rate=0.01,
    schedule="poly", bfloat16=False, average=0.0,
)  # fmt: skip


def network():
    torch.manual_seed(0)
    return torch.nn.Linear(2, 1)


def draw(rng):
    return torch.from_numpy(rng.normal(size=(3, 2))).float()


def loss_of(net, x):
    return ((net(x) - x.sum(1, keepdim=True)) ** 2).mean()


def train(folder, config=FIT, validate=None, seed=1):
    return fit(network(), config, Run(folder, "test", seed), draw, loss_of, validate)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("schedule", ["poly", "plateau"])
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(tmp_path, average, schedule):
    config = replace(FIT, average=average, schedule=schedule)
    whole = train(tmp_path / "whole", config)
    epochs = []

    def die_in_the_third_epoch(_net):
        epochs.append(1)
        if len(epochs) == 3:
            raise KilledError
        return 1.0

    def validate(_net):
        return 1.0

    # the plateau schedule watches the validation value, so it must be the same in both runs
    whole = train(tmp_path / "watched", config, validate)
    with pytest.raises(KilledError):
        train(tmp_path / "killed", config, die_in_the_third_epoch)
    resumed = train(tmp_path / "killed", config, validate)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_same_seed_gives_the_same_network(tmp_path):
    first, second = train(tmp_path / "a"), train(tmp_path / "b")
    other = train(tmp_path / "c", seed=2)
    assert torch.equal(first.weight, second.weight)
    assert not torch.equal(first.weight, other.weight)


@pytest.mark.parametrize("supported", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_it_computes_in_bfloat16_where_the_device_does(tmp_path, monkeypatch, supported, wanted):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    seen = set()

    def watched_loss(net, x):
        seen.add(net(x).dtype)
        return loss_of(net, x)

    config = replace(FIT, epochs=1, bfloat16=wanted)
    fit(network(), config, Run(tmp_path, "test", 1), draw, watched_loss)
    assert seen == {torch.bfloat16 if supported and wanted else torch.float32}


def test_it_learns(tmp_path):
    net = train(tmp_path, replace(FIT, epochs=30, steps_per_epoch=20, rate=0.05))
    np.testing.assert_allclose(net.weight.detach(), [[1, 1]], atol=0.02)


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = train(tmp_path)

    def never(_net):
        raise AssertionError

    assert torch.equal(first.weight, train(tmp_path, validate=never).weight)


def test_time_is_summed_over_a_resumed_run(tmp_path):
    run = Run(tmp_path, "test", 1)
    fit(network(), replace(FIT, epochs=2), run, draw, loss_of)
    before = run.seconds["test"]
    assert before > 0
    assert seconds_in(tmp_path / "test.checkpoint.pt") == before
    resumed = Run(tmp_path, "test", 1)
    fit(network(), FIT, resumed, draw, loss_of)
    assert resumed.seconds["test"] > before
    again = Run(tmp_path, "test", 1)
    fit(network(), FIT, again, draw, loss_of)
    assert again.seconds == resumed.seconds  # nothing was left to train
    assert seconds_in(tmp_path / "other.checkpoint.pt") == 0


def test_a_tensorboard_log_is_written(tmp_path):
    train(tmp_path)
    assert list((tmp_path / "log" / "test").glob("events.out.tfevents.*"))


@pytest.mark.parametrize("stopped", [False, True])
def test_batches_drawn_ahead_are_those_drawn_when_asked_for(tmp_path, stopped):
    def loss_with_a_draw_of_its_own(net, x):
        return loss_of(net, x) * (1 + torch.rand(1)).mean()

    def run(name, workers, epochs):
        there = Run(tmp_path / name, "test", 1, workers=workers)
        config = replace(FIT, schedule="plateau", epochs=epochs)
        return fit(network(), config, there, draw, loss_with_a_draw_of_its_own)

    if stopped:
        run("ahead", 2, 2)
    ahead, alone = run("ahead", 2, 4), run("alone", 0, 4)
    assert torch.equal(ahead.weight, alone.weight)


def test_an_error_of_a_process_that_draws_ahead_is_told(tmp_path):
    def broken(_rng):
        raise ValueError("no such case")

    with pytest.raises(ValueError, match="no such case"):
        fit(network(), FIT, Run(tmp_path, "test", 1, workers=1), broken, loss_of)


def test_no_process_is_left_that_drew_ahead(tmp_path):
    def broken_loss(_net, _batch):
        raise MemoryError

    def left():
        return {*multiprocessing.active_children()} - before

    before = {*multiprocessing.active_children()}
    gc.disable()  # nothing may wait for it
    try:
        fit(network(), FIT, Run(tmp_path / "whole", "test", 1, workers=2), draw, loss_of)
        assert not left()
        with pytest.raises(MemoryError):
            fit(network(), FIT, Run(tmp_path / "broken", "test", 1, workers=2), draw, broken_loss)
        assert not left()
    finally:
        gc.enable()


def test_processes_that_drew_ahead_end_with_the_training(tmp_path):
    """Also where what they drew, more than a pipe holds, is never asked for."""
    source = f"""
import os, pathlib, signal, time
import numpy as np
from clickseg.training.draws import Place, drawn

def draw(rng):
    pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()
    return rng.normal(size=100_000)

batches = drawn([Place(1, 1, step, 0) for step in range(99)], draw, 2)
next(batches)
time.sleep(2)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", source], check=False, timeout=120)
    numbers = [int(path.name) for path in tmp_path.iterdir()]
    assert len(numbers) == 2
    for _ in range(200):
        if not any(Path("/proc", str(number)).exists() for number in numbers):
            break
        time.sleep(0.1)
    else:
        pytest.fail("processes go on by themselves")
