"""The speed benchmark runs from end to end; what it measures is not asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("monailabel", reason="the server is not installed")

BENCH = Path(__file__).parent / "bench.py"
LIB = BENCH.parents[2] / "lib"


@pytest.mark.slow
def test_a_small_run_measures_all_and_leaves_nothing_behind(tmp_path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    path = os.pathsep.join([str(LIB), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    subprocess.run(
        [sys.executable, BENCH, "--quick", "--untrained", "--json", tmp_path / "out.json"],
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": path},
        check=True,
        timeout=1800,
    )
    report = json.loads((tmp_path / "out.json").read_text())
    counts = {row["name"].strip(): len(row["seconds"]) for row in report["timings"]}
    assert counts["warm click, 3D Slicer"] == counts["warm click, OHIF"] == 3
    assert all(second > 0 for row in report["timings"] for second in row["seconds"])
    assert all(count > 0 for count in counts.values())
    assert sum(name.startswith("Next Sample of 20") for name in counts) == 7
    methods = {row["name"]: len(row["seconds"]) for row in report["methods"]}
    assert len(methods) == 15
    assert set(methods.values()) == {2}
    assert [row["bound"] for row in report["wanted"]] == [1.5, 1.5, 0.1, 6.0, 0.2, 2.0]
    assert str(tmp_path) not in json.dumps(report)  # nothing in it names the machine
    assert not list(temporary.iterdir())
