import json
from dataclasses import asdict

import numpy as np
import pytest
from typer.testing import CliRunner

from clickseg.cli import app
from clickseg.evaluation.scores import score
from clickseg.evaluation.summary import compare
from clickseg.evaluation.written import Evaluation, MergeError, merge, read_evaluation
from clickseg.geometry import Grid

GRID = Grid((7, 5, 3), np.diag([0.5, 0.5, 1.5, 1.0]))
LABEL = np.zeros((7, 5, 3), np.uint8)
LABEL[2:5, 1:4, 1] = 1
PLAN = {
    "clicks": 1,
    "robot": "center",
    "seed": 0,
    "start": "own",
    "sequences": "both",
    "side": "all",
    "code": "0.1.0+a",
    "start_version": "",
}


def reading(method, study, **settings):
    """One click that mends a mask which lacks one of nine voxels."""
    start = LABEL.copy()
    start[2, 1, 1] = 0
    return {
        "study": study, "method": method, "label_ml": 9 * 0.375 / 1000,
        "settings": PLAN | {"files": [f"hash of {study}"]} | settings,
        "scores": [asdict(score(mask, LABEL, GRID)) for mask in (start, LABEL)],
        "clicks": [{"point_ras": [1.0, 0.5, 1.5], "is_foreground": True}],
        "changed_outside": [0], "disobeyed": 0, "click_ms": [20.0],
    }  # fmt: skip


def evaluation(method, studies=("a", "b"), cores=2, **settings):
    told = {
        "plan": PLAN
        | settings
        | {"versions": {method: f"hash of {method}"}, "trained_on": {method: 0}},
        "command": f"clickseg evaluate --models {method}",
        "machine": {"processor": "one", "cores": cores},
    }
    results = [reading(method, study, **settings) for study in studies]
    return Evaluation(results, told, {method: 12.5})


def test_what_is_written_is_read_again(tmp_path):
    one = evaluation("ours")
    table = one.write(tmp_path)
    assert read_evaluation(tmp_path) == one
    assert (tmp_path / "summary.md").read_text() == table
    assert "| ours | 0.941 | 1.000 |" in table  # 2 * 8 / 17
    assert (tmp_path / "dice.png").stat().st_size > 100


def test_p_can_be_computed_again_from_what_is_small_enough_to_keep(tmp_path):
    parts = [evaluation("ours"), evaluation("flooding")]
    for number, result in enumerate(parts[1].results):
        result["scores"][1]["dice"] = 0.71234567 + number / 10
    merge(parts).write(tmp_path)
    content = (tmp_path / "studies.json").read_text()
    rows = json.loads(content)
    assert rows["flooding"]["b"]["dice"] == [0.9412, 0.8123]
    told = json.loads((tmp_path / "summary.json").read_text())["methods"]["flooding"]
    assert compare(rows["ours"], rows["flooding"], 1) == told["p_against_ours"]
    assert told["p_against_ours"]["dice_after_1"] == 0.5
    assert len(content.splitlines()) == 2 + 2 * (2 + 2)  # a line a study
    read_evaluation(tmp_path).write(tmp_path / "again")
    assert (tmp_path / "again" / "studies.json").read_text() == content


def test_methods_that_were_evaluated_one_by_one_stand_in_one_table(tmp_path):
    masks = "first/masks/ours"
    others = ("flooding", "random_walker")
    parts = [evaluation("ours"), *(evaluation(name, cores=4, start=masks) for name in others)]
    parts[1].told["plan"] |= {"trained_on": {"flooding": 2}, "code": "0.1.0+b"}
    merged = merge(parts)
    methods = [result["method"] for result in merged.results]
    assert methods == [name for name in ("ours", *others) for _ in range(2)]
    table = merged.write(tmp_path)
    assert "`clickseg evaluate --models ours`\n\n`clickseg evaluate --models flooding`\n" in table
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["plan"]["versions"] == {n: f"hash of {n}" for n in ("ours", *others)}
    assert summary["plan"]["start"] == f"own (ours); {masks} (flooding, random_walker)"
    assert summary["plan"]["side"] == "all"
    assert summary["plan"]["code"] == "0.1.0+a (ours, random_walker); 0.1.0+b (flooding)"
    assert "flooding was trained on 2 of these studies." in table
    assert "ours was trained" not in table
    assert summary["machine"] == {
        "processor": "one",
        "cores": "2 (ours); 4 (flooding, random_walker)",
    }
    assert summary["methods"]["flooding"]["p_against_ours"]["same_start"] is True
    assert summary["methods"]["flooding"]["train_minutes"] == 12.5


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (evaluation("ours"), "each method must come once"),
        (evaluation("flooding", studies=("a",)), "flooding lacks b"),
        (evaluation("flooding", seed=3), "a was read by ours and flooding with different seed"),
        (evaluation("flooding", files=["another"]), "different files"),
        (evaluation("flooding", robot="jitter"), "different robot: center, jitter"),
        (evaluation("flooding", start_version="another"), "different start_version: , another"),
    ],
)
def test_what_does_not_fit_together_is_refused(other, said):
    with pytest.raises(MergeError, match=said):
        merge([evaluation("ours"), other])


def test_a_folder_without_an_evaluation_is_told(tmp_path):
    with pytest.raises(MergeError, match="holds no evaluation"):
        read_evaluation(tmp_path)
    evaluation("ours").write(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(MergeError, match=r"as `clickseg evaluate` writes them .* 'methods'"):
        read_evaluation(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(MergeError, match="holds no evaluation"):
        read_evaluation(tmp_path)


def test_the_command_overwrites_none_of_what_it_reads(tmp_path):
    for name in ("ours", "flooding"):
        evaluation(name).write(tmp_path / name)
    folders = [str(tmp_path / name) for name in ("ours", "flooding")]
    done = CliRunner().invoke(app, ["summarize", *folders, "--out", str(tmp_path / "both")])
    assert done.exit_code == 0
    assert read_evaluation(tmp_path / "both").train_minutes == {"ours": 12.5, "flooding": 12.5}
    refused = CliRunner().invoke(app, ["summarize", *folders, "--out", folders[0]])
    assert refused.exit_code == 2
    assert read_evaluation(tmp_path / "ours").train_minutes == {"ours": 12.5}
