"""The process that scores: it ends with the server, and well when its work is done."""

import os
import subprocess
import sys

from serving import ROOT, WAIT_S


def start_child(work):
    """Start a process that does some work as the child does its own."""
    code = "import time; from clickseg_app import child; child.end_with_the_server(); "
    code += f"print('ready', flush=True); {work}"
    paths = os.pathsep.join([str(ROOT / "apps" / "vs_clickseg"), str(ROOT / "lib")])
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_the_child_ends_well_when_its_work_is_done():
    """Its other thread is waiting for the server then, and must not stand in the way."""
    with start_child("time.sleep(0.5)") as child:
        assert child.wait(WAIT_S) == 0, child.stderr.read()


def test_the_child_ends_when_its_standard_input_does():
    """Also where the server was killed, and nobody is left to end it."""
    with start_child("time.sleep(600)") as child:
        assert child.stdout.readline() == b"ready\n"
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(WAIT_S) == 1
