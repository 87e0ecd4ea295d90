"""A PACS with studies in it, a server on it as users start it, and a browser.

Where a program or package is not installed, all is skipped, and why is said; what stands in the
folder `runs/e2e` afterwards are the screenshots and the logs of the last run.
"""

import shutil
from pathlib import Path

import psutil
import pytest
from stack import ROOT, Stack

from clickseg_app.orthanc import missing_part

KEPT = ROOT / "runs" / "e2e"


def missing():
    """What of all this is not installed, or None."""
    if not (shutil.which("chromium") or shutil.which("chromium-browser")):
        return "the browser chromium is not installed (Debian: chromium)"
    return missing_part()


def pytest_collection_modifyitems(items):
    why = missing()
    here = Path(__file__).parent
    for item in items:
        if why is not None and here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def shots():
    folder = KEPT / "screenshots"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("e2e")
    try:
        with Stack(folder) as stack:
            yield stack
            started = psutil.Process().children(recursive=True)
        _, left = psutil.wait_procs(started, timeout=10)
        assert left == []
    finally:
        KEPT.mkdir(parents=True, exist_ok=True)
        for log in ("server.txt", "orthanc/orthanc.log"):
            if (folder / log).is_file():
                shutil.copy(folder / log, KEPT)
