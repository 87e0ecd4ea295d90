"""An Orthanc of one's own: a PACS for trying out and for tests, on this machine alone."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import requests

from clickseg.atomic import write_text

PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")

START_S, STOP_S = 30.0, 10.0


class OrthancError(RuntimeError):
    """Orthanc is not there or does not start; the text says why."""


class Orthanc:
    """A running Orthanc with DICOMweb, and without any other door: used in a ``with``.

    Args:
        folder: where it keeps its images, its settings and its log.
        port: of HTTP; if it is None the one it had before, so that its URL stays, or a free one.

    Raises:
        OrthancError: if it is not installed, or does not start.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        missing = missing_part()
        if missing:
            raise OrthancError(missing)
        settings = folder / "orthanc.json"
        self.port = port or _port_before(settings) or free_port()
        self.url = f"http://127.0.0.1:{self.port}/dicom-web"
        folder.mkdir(parents=True, exist_ok=True)
        write_text(settings, json.dumps(_settings(folder.resolve(), self.port), indent=1))
        self._log = folder / "orthanc.log"
        with self._log.open("wb") as log:
            # A group of its own: Ctrl-C is for the server first, which may be storing a label.
            self._process = subprocess.Popen(
                [str(PROGRAM), str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it; what it stored stays."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def __enter__(self) -> Orthanc:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait(self) -> None:
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            try:
                requests.get(
                    f"{self.url}/studies", params={"limit": 1}, timeout=5
                ).raise_for_status()
            except requests.RequestException:
                time.sleep(0.1)
            else:
                return
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        raise OrthancError(f"Orthanc does not start; the last it said is: {''.join(last)}")


def missing_part() -> str | None:
    """Say what of Orthanc is not installed, None if all is there."""
    if PROGRAM is None:
        return "the program Orthanc is not installed (Debian: orthanc, orthanc-dicomweb)"
    if not PLUGIN.is_file():
        return f"the DICOMweb plugin {PLUGIN.name} is not installed (Debian: orthanc-dicomweb)"
    return None


def free_port() -> int:
    """Return a port of this machine that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _port_before(settings: Path) -> int | None:
    """Return the port in settings that were written before; None without, or if it is in use."""
    with suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
        port = int(json.loads(settings.read_text(encoding="utf-8"))["HttpPort"])
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # it has just ended
            probe.bind(("127.0.0.1", port))
            return port
    return None


def _settings(folder: Path, port: int) -> dict[str, object]:
    return {
        "Name": "vs_clickseg",
        "StorageDirectory": str(folder / "images"),
        "IndexDirectory": str(folder / "images"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": port,
        "RemoteAccessAllowed": False,  # it listens everywhere, and answers this machine alone
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
    }
