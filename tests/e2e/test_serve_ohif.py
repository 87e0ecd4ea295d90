"""`make serve-ohif` as a command: it fills its own PACS, serves, and leaves no process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests
from stack import ROOT

from clickseg.dicom.web import Pacs
from clickseg_app.orthanc import free_port


@pytest.fixture
def sample(stack, tmp_path):
    """One study as a folder has it."""
    folder = tmp_path / "sample"
    (folder / "t2").mkdir(parents=True)
    made = stack.folder / "made"
    for name in ("phantom-0001.nii.gz", "t2/phantom-0001.nii.gz"):
        (folder / name).symlink_to(made / name)
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "kill"])
def test_it_fills_its_pacs_serves_and_ends(sample, tmp_path, number):
    port = free_port()
    command = [sys.executable, "-m", "clickseg_app.serve_ohif", "--sample", str(sample)]
    command += ["--folder", str(tmp_path / "ohif"), "--port", str(port)]
    command += ["--conf", "skip_scoring=true"]
    paths = [str(ROOT / "apps" / "vs_clickseg"), str(ROOT / "lib")]
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    output = tmp_path / "output.txt"
    with output.open("w") as file:
        running = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        wait_for(output, f"OHIF is at http://127.0.0.1:{port}/ohif/", running)
        children = psutil.Process(running.pid).children(recursive=True)
        names = {child.name() for child in children}
        assert "Orthanc" in names
        info = requests.get(f"http://127.0.0.1:{port}/info/", timeout=60).json()
        assert info["datastore"]["total"] == 1
        url = output.read_text().split("its images are at ")[1].split(";")[0]
        assert [study.patient_id for study in Pacs(url).studies()] == ["phantom-0001"]
        running.send_signal(number)
        assert running.wait(60) == 0
        _, alive = psutil.wait_procs(children, timeout=10)
        assert alive == []
    finally:
        running.kill()
        running.wait()


def wait_for(output, text, running):
    deadline = time.monotonic() + 240
    while text not in output.read_text():
        assert running.poll() is None, output.read_text()[-3000:]
        assert time.monotonic() < deadline, output.read_text()[-3000:]
        time.sleep(0.3)
