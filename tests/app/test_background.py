"""Scores in the background: when a process is run, how it ends, and that requests see them."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from serving import until

from clickseg.choosing.cached import HeldScores, hashes_of
from clickseg.dicom.web import UnreachableError
from clickseg_app import background
from clickseg_app.background import FOLDER, BackgroundScores


@pytest.fixture
def few(tmp_path, studies):
    """Two small studies and one that is no image, by links: nothing is copied."""
    folder = tmp_path / "few"
    (folder / "t2").mkdir(parents=True)
    for name in ("ras.nii.gz", "lps.nii.gz", "corrupt.nii.gz", "t2/ras.nii.gz"):
        (folder / name).symlink_to(studies / name)
    return folder


class Recorded:
    """In the place of subprocess.Popen: notes the commands; each process runs until it is told."""

    def __init__(self, monkeypatch, code="import sys; sys.stdin.read()"):
        self.commands, self.processes, self.code = [], [], code
        self.real = subprocess.Popen
        monkeypatch.setattr(background.subprocess, "Popen", self.start)
        monkeypatch.setattr(background, "LOOK_EVERY_S", 0.02)

    def start(self, command, **kwargs):
        self.commands.append(command)
        self.processes.append(self.real([sys.executable, "-c", self.code], **kwargs))
        return self.processes[-1]

    def running(self):
        return sum(process.poll() is None for process in self.processes)


@pytest.fixture
def scores(few, weights):
    made = BackgroundScores(few, lambda: (weights, weights))
    yield made
    made.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "scores"]


def test_the_studies_are_scored_by_a_process_of_low_priority(
    scores, few, weights, caplog, monkeypatch
):
    caplog.set_level("INFO", "clickseg_app.background")
    started = []
    real = subprocess.Popen

    def start(*args, **kwargs):
        started.append(real(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(background.subprocess, "Popen", start)
    scores.start()
    until(lambda: started)
    until(lambda: os.getpriority(os.PRIO_PROCESS, started[0].pid) == 19)
    until(lambda: {"ras", "lps"} <= scores.known().keys())
    assert scores.known().keys() == {"ras", "lps"}
    assert HeldScores(few / FOLDER).by(hashes_of(weights, weights)) == scores.known()
    until(lambda: "corrupt is skipped" in caplog.text)
    assert "exit status" not in caplog.text
    assert "scored 2 studies, 0 were there already, 1 were skipped" in caplog.text
    assert {path.name for path in few.iterdir()} == {
        ".clickseg", "t2", "ras.nii.gz", "lps.nii.gz", "corrupt.nii.gz"
    }  # fmt: skip


def test_what_lies_elsewhere_is_brought_first(few, weights, studies, monkeypatch):
    recorded, elsewhere = Recorded(monkeypatch), ["no-t2.nii.gz", "undo.nii.gz"]

    def bring():
        if elsewhere:
            assert not recorded.commands
            shutil.copy(studies / elsewhere[0], few / elsewhere.pop(0))
            return True
        return False

    scores = BackgroundScores(few, lambda: (weights, weights), bring)
    scores.start()
    until(lambda: recorded.running() == 1)
    scores.stop()
    assert {"no-t2.nii.gz", "undo.nii.gz"} <= {path.name for path in few.iterdir()}


def test_what_is_here_is_scored_though_the_pacs_is_down(few, weights, monkeypatch, caplog):
    recorded = Recorded(monkeypatch)

    def bring():
        raise UnreachableError("no answer")

    scores = BackgroundScores(few, lambda: (weights, weights), bring)
    scores.start()
    until(lambda: recorded.running() == 1)
    scores.stop()
    assert "no more studies are fetched now: no answer" in caplog.text


def test_an_error_that_nobody_thought_of_ends_no_fetching_and_no_scoring(
    few, weights, monkeypatch, caplog
):
    recorded, tries = Recorded(monkeypatch), []

    def bring():
        tries.append(1)
        raise MemoryError("a large series")

    scores = BackgroundScores(few, lambda: (weights, weights), bring)
    scores.start()
    until(lambda: recorded.running() == 1)
    recorded.processes[0].stdin.close()
    until(lambda: len(tries) > 1)
    scores.stop()
    assert "no more studies are fetched now: a large series" in caplog.text


def test_one_process_runs_and_another_only_if_something_is_new(scores, few, monkeypatch):
    recorded = Recorded(monkeypatch)
    scores.start()
    scores.start()
    until(lambda: recorded.running() == 1)
    shutil.copy(few / "ras.nii.gz", few / "new.nii.gz")
    time.sleep(0.2)
    assert len(recorded.processes) == 1  # never two at once
    recorded.processes[0].stdin.close()
    until(lambda: len(recorded.processes) == 2)
    assert recorded.running() == 1
    recorded.processes[1].stdin.close()
    until(lambda: recorded.running() == 0)
    time.sleep(0.2)
    assert len(recorded.processes) == 2  # nothing is new
    assert recorded.commands[0] == recorded.commands[1]
    shutil.copy(few / "ras.nii.gz", few / "t2" / "new.nii.gz")
    until(lambda: len(recorded.processes) == 3)


@pytest.fixture
def other(tmp_path, weights):
    """Models of another hash."""
    folder = tmp_path / "other"
    shutil.copytree(weights, folder)
    manifest = folder / "correction.json"
    manifest.write_text(manifest.read_text().replace('"sha256": "', '"sha256": "0'))
    return folder


def test_a_new_model_is_something_new(few, weights, other, monkeypatch):
    now = [weights, weights]
    scores = BackgroundScores(few, lambda: tuple(now))
    recorded = Recorded(monkeypatch, "pass")
    scores.start()
    try:
        until(lambda: len(recorded.processes) == 1)
        now[1] = other
        until(lambda: len(recorded.processes) == 2)
    finally:
        scores.stop()
    assert recorded.commands[1][recorded.commands[1].index("--correction") + 1] == str(other)


@pytest.mark.parametrize("code", ["import sys; sys.stdin.read()", "import time; time.sleep(600)"])
def test_a_process_whose_models_no_longer_count_is_ended(few, weights, other, monkeypatch, code):
    now = [weights, weights]
    scores = BackgroundScores(few, lambda: tuple(now))
    recorded = Recorded(monkeypatch, code)
    monkeypatch.setattr(background, "END_WITHIN_S", 0.1)
    scores.start()
    try:
        until(lambda: recorded.running() == 1)
        now[1] = other
        until(lambda: len(recorded.processes) == 2)
        assert recorded.processes[0].poll() is not None  # never two at once
        now[1] = weights  # what was not brought to its end counts as new
        until(lambda: len(recorded.processes) == 3)
    finally:
        scores.stop()
    used = [command[command.index("--correction") + 1] for command in recorded.commands]
    assert used == [str(weights), str(other), str(weights)]
    assert recorded.running() == 0


def test_models_that_are_just_being_replaced_end_nothing(few, weights, monkeypatch, tmp_path):
    asked, now = [], [weights]

    def models():
        asked.append(now[0])
        return now[0], now[0]

    scores = BackgroundScores(few, models)
    recorded = Recorded(monkeypatch)
    scores.start()
    until(lambda: recorded.running() == 1)
    now[0] = tmp_path / "none"
    until(lambda: asked.count(now[0]) > 3)
    assert recorded.running() == 1
    scores.stop()


def test_a_link_to_nothing_costs_the_others_nothing(scores, few, monkeypatch, caplog):
    for folder in (few, few / "t2"):
        (folder / "gone.nii.gz").symlink_to(folder / "nowhere.nii.gz")
    recorded = Recorded(monkeypatch)
    scores.start()
    until(lambda: recorded.running() == 1)
    assert caplog.text == ""


def test_an_error_that_nobody_thought_of_is_logged_and_the_thread_goes_on(
    few, weights, monkeypatch, caplog
):
    def models():
        if not recorded.commands and "a mistake" not in caplog.text:
            raise TypeError("a mistake")
        return weights, weights

    recorded = Recorded(monkeypatch)
    scores = BackgroundScores(few, models)
    scores.start()
    until(lambda: recorded.running() == 1)
    scores.stop()
    assert "studies are not scored: a mistake" in caplog.text
    assert "Traceback" in caplog.text  # else nobody could tell where


def test_no_process_is_left_by_an_error_while_it_runs(few, weights, monkeypatch, caplog):
    recorded = Recorded(monkeypatch)

    def models():
        if recorded.running() and "a mistake" not in caplog.text:
            raise TypeError("a mistake")
        return weights, weights

    scores = BackgroundScores(few, models)
    scores.start()
    until(lambda: len(recorded.processes) == 2)
    assert recorded.processes[0].poll() is not None
    scores.stop()
    assert "a mistake" in caplog.text


def test_a_failure_is_logged_and_not_tried_again_at_once(scores, monkeypatch, caplog):
    recorded = Recorded(monkeypatch, "import sys; sys.exit('no room on the disk')")
    scores.start()
    until(lambda: "no room on the disk" in caplog.text)
    assert "studies are not scored (exit status 1)" in caplog.text
    time.sleep(0.2)
    assert len(recorded.processes) == 1


def test_without_models_nothing_is_known_and_nothing_run(few, tmp_path, monkeypatch, caplog):
    recorded = Recorded(monkeypatch)
    scores = BackgroundScores(few, lambda: (tmp_path, tmp_path))
    scores.start()
    until(lambda: "studies are not scored: no model 'initial'" in caplog.text)
    assert scores.known() == {}
    scores.stop()
    assert recorded.processes == []


def test_the_process_is_ended_with_the_server(scores, monkeypatch):
    recorded = Recorded(monkeypatch)
    scores.start()
    until(lambda: recorded.running() == 1)
    child = recorded.processes[0].pid
    until(lambda: os.getpriority(os.PRIO_PROCESS, child) == 19)
    scores.stop()
    assert recorded.running() == 0


def test_a_process_that_does_not_listen_is_killed(scores, monkeypatch):
    recorded = Recorded(monkeypatch, "import time; time.sleep(600)")
    monkeypatch.setattr(background, "END_WITHIN_S", 0.1)
    scores.start()
    until(lambda: recorded.running() == 1)
    scores.stop()
    until(lambda: recorded.running() == 0)


def test_a_server_scores_its_studies_and_ends_the_process_with_itself(another_server, few, weights):
    server = another_server(few, ("skip_scoring", "false"), ("preload", "false")).wait()
    held, models = HeldScores(few / FOLDER), hashes_of(weights, weights)
    until(lambda: held.by(models))
    server.stop()
    assert not [
        line
        for line in Path("/proc").glob("[0-9]*/cmdline")
        if str(few).encode() in _content(line) and b"clickseg_app.child" in _content(line)
    ]


def _content(path):
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""
