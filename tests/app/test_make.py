"""What ``make`` hands to the programs that it starts: a stand-in prints it."""

import os
import shutil
import subprocess

import pytest
from serving import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def make(tmp_path):
    """Return what runs a target with programs that only print their arguments, one a line."""
    folder = tmp_path / "environment"
    (folder / "bin").mkdir(parents=True)
    (folder / "installed").touch()
    for name in ("python", "clickseg"):
        program = folder / "bin" / name
        program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        program.chmod(0o755)
    # Variables of a `make test` around this must not count.
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}

    def run(*arguments):
        return subprocess.run(
            ["make", f"VENV={folder}", *arguments],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("studies", ["/data/studies", "/my data", "httpdata", ""])
def test_ohif_on_a_folder_is_refused(make, studies):
    done = make("serve-ohif", f"STUDIES={studies}")
    assert done.returncode != 0
    assert "wants the URL of a PACS in STUDIES=" in done.stderr
    assert f"got {studies}." in done.stderr
    assert "clickseg_app.serve_ohif" not in done.stdout


def test_ohif_on_a_pacs_or_on_one_of_its_own(make):
    url = "https://pacs:8042/dicom-web"
    told = make("serve-ohif", f"STUDIES={url}").stdout.splitlines()
    assert told[told.index("--studies") + 1] == url
    assert "--studies" not in make("serve-ohif").stdout.splitlines()


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("pretrained_path=/a/x=1", "/a/x=1"),
        ("pretrained_path=pretrained_path=", "pretrained_path="),
        ("pretrained_path=http://a/b?c=1&d=2", "http://a/b?c=1&d=2"),
        ("pretrained_path=", ""),
    ],
)
def test_a_setting_is_divided_at_its_first_equals_sign(make, pair, value):
    told = make("serve", f"CONF=device=cpu {pair}").stdout.splitlines()
    confs = [told[n + 1 : n + 3] for n, one in enumerate(told) if one == "--conf"]
    assert confs == [["device", "cpu"], ["pretrained_path", value]]


def test_sample_data_are_made_anew(make):
    told = make("sample-data").stdout.splitlines()
    assert told.count("phantom") == told.count("--force") == 3
