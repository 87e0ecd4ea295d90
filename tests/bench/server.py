"""A MONAI Label server of one app as a process of its own: started, watched, ended."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil
import requests

START_S = 180.0
MADE_BY_SERVERS = shutil.ignore_patterns("model", "lib", "logs", "bin", "__pycache__")


class ServerError(RuntimeError):
    """The server did not start, or ended; the text has the end of its log."""


class Server:
    """A running server; use it in a ``with`` statement.

    Args:
        name: names its folder in ``work``.
        sources: folders whose content makes up the app's folder; the server writes into that, so
            they are copied.
        studies: the studies folder.
        work: an empty or new folder for everything that the server writes besides.
        conf: settings of the app.
    """

    def __init__(
        self,
        name: str,
        sources: Sequence[Path],
        studies: Path,
        work: Path,
        conf: Mapping[str, str],
    ) -> None:
        self.folder = work / name
        app = self.folder / "app"
        for source in sources:
            shutil.copytree(source, app, ignore=MADE_BY_SERVERS, dirs_exist_ok=True)
        for part in ("home", "tmp", "sessions"):
            (self.folder / part).mkdir()
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [
            sys.executable, "-m", "monailabel.main", "start_server",
            "--app", str(app), "--studies", str(studies),
            "--host", "127.0.0.1", "--port", str(self.port),
        ]  # fmt: skip
        for key, value in conf.items():
            self._command += ["--conf", key, value]
        self._process: psutil.Popen | None = None

    def __enter__(self) -> Server:
        """Start it; return when it answers.

        Raises:
            ServerError: if it does not.
        """
        started_s = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = psutil.Popen(
                self._command,
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait(started_s)
        except BaseException:
            self._end()
            raise
        self.start_s = time.perf_counter() - started_s
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """End it and every process that it started."""
        self._end()

    @property
    def log_tail(self) -> str:
        """The last lines that it wrote."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-25:])

    def resident_bytes(self) -> int:
        """Return the memory that it holds now, with that of its children."""
        return sum(process.memory_info().rss for process in self._tree())

    def highest_resident_bytes(self) -> int | None:
        """Return the most that the server itself has held, where the system tells."""
        assert self._process is not None
        try:
            lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        except OSError:
            return None
        peaks = [int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")]
        return peaks[0] if peaks else None

    @property
    def _log(self) -> Path:
        return self.folder / "log.txt"

    def _environment(self) -> dict[str, str]:
        binaries = str(Path(sys.executable).parent)
        return os.environ | {
            # The server's own subprocesses call a bare `python`.
            "PATH": os.pathsep.join([binaries, os.environ.get("PATH", "")]),
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "MONAI_LABEL_SESSION_PATH": str(self.folder / "sessions"),
            "MONAI_LABEL_TRACKING_ENABLED": "false",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def _wait(self, started_s: float) -> None:
        assert self._process is not None
        with requests.Session() as session:
            session.trust_env = False  # a proxy of the environment is not for this machine
            while time.perf_counter() - started_s < START_S:
                if self._process.poll() is not None:
                    raise ServerError(f"the server ended at its start:\n{self.log_tail}")
                try:
                    if session.get(f"{self.url}/info/", timeout=30).ok:
                        return
                except requests.RequestException:
                    time.sleep(0.1)
        raise ServerError(f"no answer within {START_S:.0f} s:\n{self.log_tail}")

    def _tree(self) -> list[psutil.Process]:
        assert self._process is not None
        try:
            return [*self._process.children(recursive=True), self._process]
        except psutil.NoSuchProcess:
            return []

    def _end(self) -> None:
        if self._process is None:
            return
        tree = self._tree()
        for process in tree:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(tree, timeout=5)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=5)
        self._process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
