"""``make serve-ohif``: the server on a PACS, with one of its own where none is named.

An Orthanc that is empty is given the sample studies as DICOM. At Ctrl-C, or where either of the
two ends, both end.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pydicom
import requests

from clickseg.commands.to_dicom import to_dicom
from clickseg.dicom.web import Pacs, PacsError
from clickseg.volume import ImageError
from clickseg_app.orthanc import Orthanc, OrthancError

logger = logging.getLogger(__name__)

APP = Path(__file__).parents[1]
STOP_S = 20.0
LOOK_EVERY_S = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C; return the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell in the background ignores the first
        signal.signal(number, signal.default_int_handler)
    try:
        with ExitStack() as running:
            url = options.studies
            if not url:
                orthanc = running.enter_context(Orthanc(options.folder / "orthanc"))
                url = orthanc.url
                fill_if_empty(Pacs(url), options.sample)
            server = running.enter_context(_server(options, url))
            wait_for(f"http://{options.host}:{options.port}/info/", server)
            logger.info("OHIF is at http://%s:%d/ohif/", options.host, options.port)
            logger.info("its images are at %s; Ctrl-C ends it", url)
            return server.wait()
    except KeyboardInterrupt:
        return 0
    except (OrthancError, PacsError, ImageError, ServerError) as error:
        logger.error("%s", error)
        return 1


class ServerError(RuntimeError):
    """The server did not start; the text says how it ended."""


def fill_if_empty(pacs: Pacs, studies: Path) -> int:
    """Put a folder of studies into a PACS that has none, as DICOM; return how many instances.

    Raises:
        PacsError: if the PACS does not take them.
        ImageError: if a study cannot be written as DICOM.
    """
    if pacs.studies():
        return 0
    with tempfile.TemporaryDirectory() as name:
        to_dicom(studies, Path(name))
        return send(pacs, Path(name))


def send(pacs: Pacs, folder: Path) -> int:
    """Send all DICOM files below a folder to a PACS; return how many there were.

    Raises:
        PacsError: if it does not take them.
    """
    by_series: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*.dcm")):
        by_series.setdefault(path.parent, []).append(path)
    for files in by_series.values():
        pacs.store([pydicom.dcmread(path) for path in files])
    return sum(map(len, by_series.values()))


def wait_for(url: str, server: subprocess.Popen[bytes], within_s: float = 300.0) -> None:
    """Wait until a server answers.

    Raises:
        ServerError: if it ends before, or takes longer.
    """
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if server.poll() is not None:
            raise ServerError(f"the server ended with status {server.returncode}; see above")
        try:
            requests.get(url, timeout=30).raise_for_status()
        except requests.RequestException:
            time.sleep(LOOK_EVERY_S)
        else:
            return
    raise ServerError(f"the server does not answer at {url} after {within_s:g} s")


def stop_group(server: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group, and all that it has started; at first as Ctrl-C does."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_S)
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@contextmanager
def _server(options: argparse.Namespace, url: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(options.app)]
    command += ["--studies", url, "--host", options.host, "--port", str(options.port)]
    for pair in options.conf:
        command += ["--conf", *pair.split("=", 1)]
    cache = {"MONAI_LABEL_DICOMWEB_CACHE_PATH": str((options.folder / "cache").resolve())}
    tracking = {"MONAI_LABEL_TRACKING_ENABLED": "false"}
    # A session of its own: Ctrl-C comes here, and is handed on once, to trainings, too, for which
    # the server would wait; twice would cut it short.
    environment = cache | tracking | os.environ
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        yield server
    finally:
        stop_group(server)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m clickseg_app.serve_ohif", description=__doc__)
    parser.add_argument("--studies", default="", help="URL of a DICOMweb server; without, Orthanc")
    parser.add_argument("--sample", type=Path, default=Path("sample-data"))
    parser.add_argument("--folder", type=Path, default=Path("runs/ohif"), help="of the own PACS")
    parser.add_argument("--app", type=Path, default=APP)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--conf", action="append", default=[], metavar="KEY=VALUE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
