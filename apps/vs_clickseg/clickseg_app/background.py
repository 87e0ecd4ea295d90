"""Scores of studies, computed beside the server and never in the way of a click.

One thread looks at the studies folder every few seconds. Where an image or a model is new, it
runs ``clickseg score`` as a process of its own (``clickseg_app.child``): one at a time, on one
thread of the CPU, at the lowest priority. The scores go to a hidden folder of the studies.
Requests only ever read what is there; a failure is logged, and tried again when something is new.
A process whose models no longer count is ended, and another begins with those that do. Studies that
lie elsewhere are brought here first: what was never seen could not be scored.

The process ends with the server, however that ends: it ends when its standard input does, whose
other end the server alone holds.
"""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from pathlib import Path

import clickseg
from clickseg.choosing.cached import HeldScores, hashes_of
from clickseg.choosing.scores import StudyScores
from clickseg.dicom.web import PacsError
from clickseg.modelfile import ModelError
from clickseg.study import PRIVATE_FOLDER, T2_FOLDER
from clickseg.volume import EXTENSIONS

logger = logging.getLogger(__name__)

FOLDER = Path(PRIVATE_FOLDER, "scores")
"""Where scores are, in the studies folder."""

LOOK_EVERY_S = 10.0
END_WITHIN_S = 5.0
LOWEST_PRIORITY = 19
TOLD_CHARACTERS = 2000

ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)

ModelFolders = Callable[[], tuple[Path, Path]]


class BackgroundScores:
    """What is known about the studies of a server.

    Args:
        studies: the studies folder.
        models: returns the folders of the initial and of the correction model that count now.
        bring: brings one more study into the folder, if one is wanted; tells whether it did.
    """

    def __init__(
        self, studies: Path, models: ModelFolders, bring: Callable[[], bool] = lambda: False
    ) -> None:
        self._studies = studies
        self._models = models
        self._bring = bring
        self._held = HeldScores(studies / FOLDER)
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def known(self) -> dict[str, StudyScores]:
        """Return the scores that are there, by image id.

        They are of the models that count now, or of those before where those scored more.
        """
        try:
            return self._held.to_choose_by(hashes_of(*self._models()))
        except ModelError:
            return {}

    def start(self) -> None:
        """Begin to look for what is new; a second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._watch, args=(self._studies,), name="scores", daemon=True
            )
            atexit.register(self.stop)
            self._thread.start()

    def stop(self) -> None:
        """End the thread and the process, now; nothing half written stays.

        Of a study that is just being fetched half a file may stay, which is swept later.
        """
        self._ending.set()
        with self._lock:
            process = self._process
            if process is not None:
                _close_input(process)
        if process is not None:
            _end(process)
        if self._thread is not None:
            self._thread.join(END_WITHIN_S)
        atexit.unregister(self.stop)

    def _watch(self, studies: Path) -> None:
        done: Hashable = None
        wait_s = 0.0
        while not self._ending.wait(wait_s):
            wait_s = LOOK_EVERY_S
            try:
                while not self._ending.is_set() and self._bring():
                    pass
            except Exception as error:
                # Nothing would ever be fetched or scored again, and nobody told, if the thread
                # ended, here or below.
                expected = isinstance(error, PacsError | OSError)
                logger.warning("no more studies are fetched now: %s", error, exc_info=not expected)
                wait_s = 6 * LOOK_EVERY_S
            try:
                state = self._state(studies)
                if state != done:
                    done = state if self._score(studies) else None
            except Exception as error:
                expected = isinstance(error, ModelError | OSError)
                logger.warning("studies are not scored: %s", error, exc_info=not expected)
                done = None
                wait_s = 6 * LOOK_EVERY_S

    def _wait_for(self, process: subprocess.Popen[bytes], models: Mapping[str, str]) -> int | None:
        """Return the exit status of a process, None if other models count before it ends.

        Meanwhile what it writes is read.
        """
        while True:
            try:
                return process.wait(LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                self.known()  # so that no request finds many new scores at once
                with suppress(ModelError, OSError):  # they are just being replaced
                    if hashes_of(*self._models()) != models:
                        return None

    def _state(self, studies: Path) -> Hashable:
        """Return what changes whenever an image or a model is new.

        A file that is just going away, or a link to none, counts as none.

        Raises:
            ModelError: if there is no model.
            OSError: if the folder cannot be read.
        """
        files = []
        for folder in (studies, studies / T2_FOLDER):
            if folder.is_dir():
                for entry in os.scandir(folder):
                    if entry.name.endswith(EXTENSIONS) and not entry.name.startswith("."):
                        with suppress(OSError):
                            status = entry.stat()
                            files.append((entry.path, status.st_size, status.st_mtime_ns))
        return (*sorted(files), *hashes_of(*self._models()).values())

    def _score(self, studies: Path) -> bool:
        """Run the process; tell whether it came to its end before other models counted.

        Raises:
            ModelError: if there is no model.
            OSError: if it cannot be started.
        """
        initial, correction = self._models()
        models = hashes_of(initial, correction)
        command = [sys.executable, "-m", "clickseg_app.child", "--studies", str(studies)]
        command += ["--models", str(initial), "--correction", str(correction)]
        command += ["--out", str(studies / FOLDER)]
        with tempfile.TemporaryFile() as output:
            with self._lock:
                if self._ending.is_set():
                    return False
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=_environment()
                )
                self._process = process
            try:
                with suppress(OSError):  # it has ended already
                    os.setpriority(os.PRIO_PROCESS, process.pid, LOWEST_PRIORITY)
                status = self._wait_for(process, models)
            finally:
                with self._lock:
                    _close_input(process)
                _end(process)
                with self._lock:
                    self._process = None
            output.seek(0)
            told = output.read().decode(errors="replace").strip()[-TOLD_CHARACTERS:]
        if self._ending.is_set():
            return False
        if status is None:
            logger.info("the models changed: scoring begins anew")
        elif status:
            logger.warning("studies are not scored (exit status %d): %s", status, told)
        else:
            logger.info("%s", told)
        return status is not None


def _environment() -> dict[str, str]:
    """Return the environment of the process: our folders to import from, one thread, no GPU."""
    paths = [str(Path(__file__).parents[1]), str(Path(clickseg.__file__).parents[1])]
    paths += [path for path in [os.environ.get("PYTHONPATH")] if path]
    environment = os.environ | dict.fromkeys(ONE_THREAD, "1")
    return environment | {"PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": ""}


def _close_input(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, in the only way it listens to."""
    if process.stdin is not None:
        process.stdin.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that was asked to end; kill one that does not listen."""
    try:
        process.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
