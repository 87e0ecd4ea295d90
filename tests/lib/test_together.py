"""An update in two processes: the same as in one with the doubled batch, and one publication."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import short

from clickseg.learning import tuning
from clickseg.learning.store import BASE, ModelStore
from clickseg.learning.together import update_together
from clickseg.learning.update import UpdateError, update_model
from clickseg.training.loop import Run

UPDATE = """
holdout: 0.2
smallest: 3
replay: 0
accepted: 0.5
clicks: 1
recorded: 0.5
refined: {studies: 0, share: 0.1, sure: 0.85}
steps_for: 6
"""


def settings(path):
    """The settings of ``short``, as a file."""
    fits = {name: getattr(short(), name) for name in ("locate", "segment", "correction")}
    lines = [f"{name}: {json.dumps(vars(fit))}\n" for name, fit in fits.items()]
    path.write_text(UPDATE + "".join(lines))
    return path


def losses(store, network):
    """The loss of each epoch, and the weights after the last."""
    folder = next((store / "rounds").glob("*/*/log")).parent
    log = EventAccumulator(str(folder / "log" / network)).Reload()
    saved = torch.load(folder / f"{network}.checkpoint.pt", weights_only=True)
    return [one.value for one in log.Scalars(f"{network}/loss")], saved["network"]


def assert_same(first, second):
    assert len(first[0]) == len(second[0]) == 2
    np.testing.assert_allclose(first[0], second[0], rtol=1e-4)
    for key, value in first[1].items():
        np.testing.assert_allclose(value, second[1][key], rtol=1e-2, atol=2e-4)


@pytest.mark.slow
def test_torchrun_and_a_server_update_as_one_process_with_the_doubled_batch(
    small_studies, base, tmp_path, monkeypatch
):
    words = ["--studies", small_studies, "--base", base, "--store", tmp_path / "torchrun"]
    words += ["--update", settings(tmp_path / "update.yaml")]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = ["--standalone", "--nproc-per-node", "2", "--no-python", "clickseg", "train", "click"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *given, *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PATH": path},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count(" counts") == 1  # one process judges and tells

    config, told = replace(short(), clicks=1), []
    arguments = ("correction", small_studies)
    store = ModelStore(tmp_path / "server", base)
    outcome = update_together(2, *arguments, store, config, "cpu", None, told.append)
    assert [(one.epoch, one.epochs) for one in told] == [(1, 2), (2, 2)]
    assert store.current()["correction"] == outcome.version
    versions = store.versions("correction")
    assert len(versions) == 1 + outcome.is_published

    alone = ModelStore(tmp_path / "alone", base)
    with monkeypatch.context() as patched:
        patched.setattr(tuning, "Run", partial(Run, parts=2))
        update_model(*arguments, alone, config)
    wanted = losses(tmp_path / "alone", "correction")
    assert_same(losses(tmp_path / "torchrun", "correction"), wanted)
    assert_same(losses(tmp_path / "server", "correction"), wanted)
    half = ModelStore(tmp_path / "half", base)
    update_model(*arguments, half, config)
    assert not np.allclose(losses(tmp_path / "half", "correction")[0], wanted[0])


def parts():
    children = psutil.Process().children()
    return [one for one in children if any("spawn_main" in word for word in one.cmdline())]


def kill_one(_progress):
    max(parts(), key=lambda one: one.pid).kill()


def fill_the_disk(_progress):
    raise OSError(28, "No space left on device")


@pytest.mark.slow
@pytest.mark.parametrize("harm", [kill_one, fill_the_disk])
def test_what_goes_wrong_in_one_process_ends_all(small_studies, base, tmp_path, harm):
    store = ModelStore(tmp_path / "store", base)
    arguments = ("initial", small_studies, store, short(), "cpu", None)
    with pytest.raises(UpdateError, match="initial is not trained"):
        update_together(2, *arguments, harm)
    assert parts() == []
    assert store.current()["initial"] == BASE
    assert not store.is_training("initial")
    assert not list((tmp_path / "store").rglob(".part-*"))
