"""Trainings that end early on a real server: stopped, out of memory; and one in two parts."""

import resource
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import requests
from serving import save, until
from test_training import AFFINE, FIT, UPDATE, ball, hashes, start, stats_of, studies, wait_for

from clickseg_app.train import _goes_on, _Status

__all__ = ["studies"]

LOCATE, SEGMENT, CORRECTION = (
    FIT.format(30, 2, 1e-9),
    FIT.format(2, 1, 1e-9),
    FIT.format(2, 2, 1e-9),
)


def test_a_status_that_cannot_be_written_is_logged(tmp_path, caplog):
    (tmp_path / "full").touch()  # a file where a folder is wanted
    _Status(tmp_path / "full" / "training.json", "initial", 0.0).end(reason="it is over")
    assert "how it ended cannot be written" in caplog.text


def settings(path):
    # The first network is small and takes long, the second wants more than a gigabyte.
    large = SEGMENT.replace("batch: 1", "batch: 40")
    fits = {"locate": LOCATE, "segment": large, "correction": CORRECTION}
    path.write_text(UPDATE + "".join(f"{name}: {fit}\n" for name, fit in fits.items()))
    return path


def training(server):
    """The process that trains."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    return next(one for one in children if "train" in one.cmdline())


def test_a_training_goes_on_as_long_as_its_process():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
        stats = {"pid": child.pid, "start_ts": int(time.time())}
        assert _goes_on(stats)
        assert not _goes_on(stats | {"start_ts": 0})  # the number was given again
        child.kill()
        until(lambda: not _goes_on(stats))  # before anybody asks how it ended
        child.wait()
    assert not _goes_on(stats)
    assert not _goes_on({})


def begin(server, epoch):
    """Start to train the initial model, and wait for an epoch."""
    requests.post(f"{server.url}/train/initial", json={}, timeout=30).raise_for_status()
    until(lambda: stats_of(server, "initial").get("epoch", 0) >= epoch)


@pytest.mark.slow
def test_a_training_that_ends_early_harms_nothing(tmp_path, weights, studies):
    for number in range(1, 7):
        label = ball(4.0).astype(np.uint8)
        save(studies / "labels/final" / f"VS-{number:02d}.nii.gz", label, AFFINE)
    server = start(tmp_path, weights, studies, settings(tmp_path / "update.yaml"))
    try:
        before = hashes(server)
        _stopped_by_a_viewer(server)
        _out_of_memory(server)
        assert hashes(server) == before
        assert not list((server.app / "model").rglob(".part-*"))
        _in_two_processes(server)
        after = hashes(server)
        assert after["initial"] == before["initial"]
        assert after["correction"] != before["correction"]
    finally:
        server.stop()


def _stopped_by_a_viewer(server):
    begin(server, 3)
    process = training(server)
    stopped = requests.delete(f"{server.url}/train/", timeout=30)
    assert stopped.json()["status"] == "STOPPED"
    process.wait(20)
    stats = stats_of(server, "initial")
    assert not stats["is_running"]
    assert 3 <= stats["epoch"] < stats["total_epochs"] == 32
    assert "stopped before its end" in stats["reason"]
    assert stats["total_time"] > 0


def _out_of_memory(server):
    """Take away what the large network will want, while the small one trains."""
    begin(server, 6)
    process = training(server)
    room = process.memory_info().vms + (64 << 20)
    resource.prlimit(process.pid, resource.RLIMIT_AS, (room, room))
    status = wait_for(server)
    assert "goes on after epoch" in server.output.read_text()
    assert status["status"] == "ERROR"
    assert any("memory is not enough" in line for line in status["details"]), status["details"]
    stats = stats_of(server, "initial")
    assert not stats["is_running"]
    assert stats["reason"].startswith("initial is not trained, memory is not enough")


def _in_two_processes(server):
    asked = {"multi_gpu": True, "gpus": "0,1"}
    requests.post(f"{server.url}/train/click", json=asked, timeout=30).raise_for_status()
    parts = []
    while len(parts) < 2:
        status = requests.get(f"{server.url}/train/", timeout=30).json()
        assert status["status"] in ("SUBMITTED", "RUNNING"), status["details"]
        children = psutil.Process(server.process.pid).children(recursive=True)
        parts = [one for one in children if any("spawn_main" in word for word in one.cmdline())]
        time.sleep(0.1)
    status = wait_for(server)
    assert status["status"] == "DONE", status["details"]
    stats = stats_of(server, "click")
    assert stats["is_published"], stats["reason"]
    assert stats["epoch"] == stats["total_epochs"] == 2
