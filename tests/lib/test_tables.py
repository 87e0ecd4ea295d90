"""Tables of the publication: what rows change, what is measured, and which orderings hold."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import ndimage
from typer.testing import CliRunner

from clickseg.cli import app
from clickseg.commands.table import sides_of
from clickseg.config import ConfigError
from clickseg.geometry import Grid
from clickseg.metrics import dice
from clickseg.models import load_initial
from clickseg.study import labeled_cases, read_case_label, read_study
from clickseg.tables import measure as measuring
from clickseg.tables.plan import load_table, recipe_of
from clickseg.tables.report import as_markdown, report
from clickseg.training.loop import Run
from clickseg.volume import Volume, read_label, write_volume

TABLES = Path(__file__).parents[2] / "configs" / "tables"
FILES = sorted(path for path in TABLES.glob("*.yaml") if path.stem != "published_small")
SHAPE = (37, 31, 23)
FIT = {"epochs": 1, "steps_per_epoch": 3, "bfloat16": False}
SLICES = {
    "correction.depth": 8,
    "correction.network": {
        "name": "multi_encoder_unet_3d",
        "arguments": {"features": [2, 2, 4, 4]},
    },
    "correction.loss": {"name": "correction_3d", "arguments": {}},
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_tables_are_made_of_different_recipes(path):
    table = load_table(path)
    recipes = [recipe_of(table, row, path, seed=3) for row in table.rows]
    assert {recipe.seed for recipe in recipes} == {3}
    measured = {
        (row.cases, row.stage, str(recipe)) for row, recipe in zip(table.rows, recipes, strict=True)
    }
    assert len(measured) == len(table.rows)


@pytest.mark.parametrize("name", ["networks", "cut_size", "depth"])
def test_networks_that_are_compared_have_equal_channels(name):
    path = TABLES / f"{name}.yaml"
    table = load_table(path)
    recipes = [recipe_of(table, row, path, seed=1) for row in table.rows]
    assert len({str(r.correction.network.arguments["features"]) for r in recipes}) == 1


def test_a_row_changes_what_it_names_and_nothing_else():
    path = TABLES / "losses.yaml"
    table = load_table(path)
    first, last = (recipe_of(table, table.rows[n], path, seed=1) for n in (0, -1))
    assert first.initial.loss.name == "weighted_bce"
    assert last.initial.loss.name == "focal_tversky"
    assert first.correction == last.correction
    assert first.initial.fit == last.initial.fit


@pytest.fixture
def write(tmp_path):
    def write(**changes):
        values = {
            "title": "T",
            "base": str(TABLES / "published_small.yaml"),
            "measure": "initial",
            "rows": [{"name": name, "published": 0.5, "stage": "slab"} for name in "ab"],
        }
        path = tmp_path / "table.yaml"
        path.write_text(yaml.safe_dump(values | changes))
        (tmp_path / "empty.yaml").touch()
        return path

    return write


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows": [{"name": "a", "published": 0.5, "stage": "slab"}] * 2}, "two rows of one"),
        ({"measure": "real_cuts"}, "stage of real_cuts is one of uncorrected, simulated, contr"),
        ({"base": "none.yaml"}, "no configuration at"),
        ({"base": "empty.yaml"}, "empty.yaml holds no recipe"),
        ({"base": str(TABLES.parent / "default.yaml")}, "tables are of initial.method whole_vol"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_wrong_table_is_told(write, changes, told):
    with pytest.raises(ConfigError, match=told):
        load_table(write(**changes))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"initial.lost": 1}, "row a: .* has no initial.lost"),
        ({"nothing.at.all": 1}, "row a: .* has no nothing.at.all"),
        ({"initial.fit.epochs": 0}, "row a: initial.whole_volume.fit.epochs"),
        ({"seed": 7}, "row a: .* has no seed to set"),
        ({"initial.loss.name": "focal_tverski"}, "row a: loss must be one of"),
        ({"correction.cut": [20, 20]}, "row a: .* multiples of 8"),
        ({"correction.network.arguments": {"depth": 7}}, "row a: .* multi_encoder_unet takes"),
    ],
)
def test_a_row_that_is_no_recipe_is_told(write, change, told):
    row = {"name": "a", "published": 0.5, "stage": "slab", "set": change}
    with pytest.raises(ConfigError, match=told):
        load_table(write(rows=[row, row | {"name": "b", "set": {}}]))


def values(uncorrected, simulated, real, machine="A"):
    dices = {"uncorrected": uncorrected, "simulated": simulated, "real": real}
    dices |= {"control": 0.5, "outline": 0.6, "outline_corrected": 0.7}
    seconds = {"initial": 600.0, "simulated": 60.0, "control": 30.0, "real": 120.0}
    return {"dice": dices, "seconds": seconds, "code": "1", "machine": {"processor": machine}}


def test_an_ordering_holds_if_it_does_with_every_seed():
    table = load_table(TABLES / "real_errors.yaml")
    measured = {1: values(0.7, 0.9, 0.8), 2: values(0.7, 0.8, 0.84, "B")}
    found = report(table, {row.name: measured for row in table.rows})
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["cuts, simulated errors"]["dice"] == 0.85
    assert rows["cuts, simulated errors"]["spread"] == 0.0707
    assert rows["cuts, simulated errors"]["by_seed"] == {"1": 0.9, "2": 0.8}
    assert rows["cuts, simulated errors"]["stages"]["outline"] == 0.6
    minutes = {name: row["minutes"] for name, row in rows.items()}
    assert minutes == {
        "cuts, not corrected": 0.0,
        "cuts, simulated errors": 1.0,
        "cuts, more simulated errors": 1.5,
        "cuts, real errors": 13.0,
        "scans, initial outline": 10.0,
        "scans, one round of clicks": 13.0,
    }
    pairs = {(pair["higher"], pair["lower"]): pair for pair in found["orderings"]}
    assert len(pairs) == 2  # two figures of cuts, two of scans
    undecided = pairs["cuts, real errors", "cuts, simulated errors"]
    assert undecided["published"] == 0.0251
    assert undecided["here"] == [-0.1, 0.04]
    assert undecided["verdict"] == "undecided"
    assert pairs["scans, one round of clicks", "scans, initial outline"]["verdict"] == "holds"
    assert {machine["processor"] for machine in found["machines"]} == {"A", "B"}
    text = as_markdown(found)
    assert "| cuts, simulated errors | 0.8687 | 0.850 ± 0.071 | 1.0 |" in text
    assert "1 hold with each of 2 seeds, 0 are turned with each of 2 seeds, 1 are undecided" in text
    line = "| cuts, real errors | cuts, simulated errors | +0.025 | -0.100, +0.040 | undecided |"
    assert line in text


def test_a_row_that_was_not_measured_stays_in_the_table():
    table = load_table(TABLES / "real_errors.yaml")
    first, second = table.rows[1].name, table.rows[3].name
    turned = {first: {1: values(0.7, 0.9, 0.8)}, second: {1: values(0.7, 0.9, 0.8)}}
    found = report(table, turned)
    assert [row["dice"] for row in found["rows"]] == [None, 0.9, None, 0.8, None, None]
    assert [pair["verdict"] for pair in found["orderings"]] == ["turned"]
    assert "| scans, initial outline | 0.8030 | not measured | |" in as_markdown(found)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Four studies to train on and one to measure on: a bright ball in noise."""
    root = tmp_path_factory.mktemp("tables")
    grid = Grid(SHAPE, np.diag([0.5, 0.5, 1.5, 1]))
    for n in range(5):
        distance = np.linalg.norm((np.indices(SHAPE).T - (19 - n, 14 + n, 11)), axis=-1).T
        label = (distance <= 7).astype(np.uint8)
        noise = np.random.default_rng(n).normal(10, 1, SHAPE).astype(np.float32)
        folder, name = root / ("test" if n == 4 else "train"), f"VS-{n}.nii.gz"
        write_volume(folder / name, Volume(noise + 20 * label, grid))
        write_volume(folder / "t2" / name, Volume(noise - 5 * label, grid))
        write_volume(folder / "labels/final" / name, Volume(label, grid))
    return root


def tiny(tmp_path):
    values = yaml.safe_load((TABLES / "published_small.yaml").read_text())
    values["split"]["validation"] = 0.25
    initial, correction = values["initial"], values["correction"]
    initial["size"] = [16, 16, 16]
    initial["network"]["arguments"]["features"] = [2, 2, 4, 4]
    initial["fit"] |= FIT | {"rate": 0.02}
    correction |= {"cut": [16, 16], "border_distance_mm": 4.0}
    correction["network"]["arguments"]["features"] = [2, 2, 4, 4]
    correction["fit"] |= FIT
    correction["fine_tune"] |= FIT
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values))


ROWS = {
    "initial": [
        {"name": "two", "published": 0.4, "stage": "slab", "cases": 2},
        {"name": "all", "published": 0.6, "stage": "slab"},
        {"name": "more", "published": 0.8, "stage": "slab", "cases": 99},
        {"name": "scan", "published": None, "stage": "scan"},
    ],
    "simulated_cuts": [
        {"name": "before", "published": 0.4, "stage": "uncorrected"},
        {"name": "after", "published": 0.6, "stage": "simulated"},
        {"name": "eight", "published": 0.6, "stage": "uncorrected", "set": SLICES},
    ],
    "real_cuts": [
        {"name": "before", "published": None, "stage": "uncorrected"},
        {"name": "after", "published": 0.6, "stage": "simulated"},
        {"name": "control", "published": None, "stage": "control"},
        {"name": "tuned", "published": 0.7, "stage": "real"},
        {"name": "scan", "published": 0.7, "stage": "outline"},
        {"name": "clicked", "published": 0.8, "stage": "outline_corrected"},
    ],
}
RUNS = {"initial": 2, "simulated_cuts": 2, "real_cuts": 1}
"""How many trainings a seed: rows that train alike share one."""


@pytest.fixture
def ask(folders, tmp_path):
    def ask(measure, *more, seeds="1,2"):
        tiny(tmp_path)
        values = {"title": "T", "base": "tiny.yaml", "measure": measure, "rows": ROWS[measure]}
        (tmp_path / "some.yaml").write_text(yaml.safe_dump(values))
        command = ["table", str(tmp_path / "some.yaml"), "--studies", str(folders / "train")]
        command += ["--test", str(folders / "test"), "--out", str(tmp_path / "out")]
        command += ["--seeds", seeds, *more]
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads((tmp_path / "out" / "some.json").read_text())

    return ask


def checkpoints(tmp_path):
    return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.checkpoint.pt")}


@pytest.mark.parametrize("measure", ROWS)
def test_a_table_from_files_to_files(measure, ask, tmp_path):
    values = ask(measure)
    rows = {row["name"]: row for row in values["rows"]}
    assert [name for name, row in rows.items() if row["dice"] is None] == (
        ["more"] if measure == "initial" else []
    )
    assert all(set(row["by_seed"]) == {"1", "2"} for row in rows.values() if row["by_seed"])
    assert values["studies"] == {"given": 4, "test": 1}
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 2 * RUNS[measure]
    if measure == "simulated_cuts":
        # Errors on test cuts depend neither on the seed nor on the number of slices.
        assert len({*rows["before"]["by_seed"].values(), *rows["eight"]["by_seed"].values()}) == 1
        assert rows["before"]["minutes"] == 0

    # What was measured is not trained again.
    before = checkpoints(tmp_path)
    assert before
    assert ask(measure)["rows"] == values["rows"]
    assert checkpoints(tmp_path) == before


def test_the_outline_is_that_of_the_test_case(ask, folders, tmp_path):
    row = ask("initial", seeds="1")["rows"][1]
    cases = labeled_cases(folders / "test")
    study = read_study(cases[0].t1ce, cases[0].t2)
    label = read_case_label(cases[0], study.grid)
    dices = []
    for run in (tmp_path / "out" / "runs").iterdir():
        initial, _ = load_initial(run / "initial")
        dices.append(round(dice(initial(study).mask, label), 4))
    assert row["stages"]["scan"] in dices


def test_other_labels_are_measured_anew(ask, folders, tmp_path):
    before = ask("simulated_cuts", seeds="1")["rows"][0]["dice"]
    name = "VS-4.nii.gz"
    label = read_label(folders / "test/labels/final" / name)
    smaller = ndimage.binary_erosion(label.array, iterations=2).astype(np.uint8)
    write_volume(tmp_path / "labels" / name, Volume(smaller, label.grid))
    other = ask("simulated_cuts", "--test-labels", str(tmp_path / "labels"), seeds="1")
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 4
    assert other["rows"][0]["dice"] != before


def test_a_stop_between_trainings_changes_nothing(ask, tmp_path, monkeypatch):
    whole = ask("real_cuts", seeds="1")["rows"]
    (tmp_path / "out").rename(tmp_path / "whole")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("clickseg.tables.measure.error_cuts", stop)
        with pytest.raises(AssertionError):
            ask("real_cuts", seeds="1")
    assert not (tmp_path / "out" / "some.json").exists()
    assert checkpoints(tmp_path / "out")
    again = ask("real_cuts", seeds="1")["rows"]
    assert [row["by_seed"] for row in again] == [row["by_seed"] for row in whole]
    (path,) = (tmp_path / "out" / "runs").glob("*/measured.json")
    seconds = json.loads(path.read_text())["seconds"]
    assert set(seconds) == {"initial", "simulated", "control", "real"}
    assert min(seconds[name] for name in ("simulated", "control", "real")) > 0


@pytest.mark.parametrize("damage", ["", "{", "[]"])
def test_a_measurement_that_is_damaged_is_made_anew(tmp_path, monkeypatch, damage):
    monkeypatch.setitem(measuring._MEASURES, "initial", lambda *_: {"slab": 0.5})
    run = Run(tmp_path, "cuts", 1, "cpu")
    first = measuring.measure("initial", None, None, run)
    (tmp_path / "measured.json").write_text(damage)
    assert measuring.measure("initial", None, None, run) == first
    assert json.loads((tmp_path / "measured.json").read_text()) == first


def test_training_cases_are_drawn_by_the_seed(folders):
    path = TABLES / "losses.yaml"
    table = load_table(path)
    cases = labeled_cases(folders / "train")
    row = replace(table.rows[0], cases=2)
    drawn = set()
    for seed in range(9):
        sides = sides_of(recipe_of(table, row, path, seed), row, cases, [])
        ids = [case.case_id for case in sides.training]
        assert len(ids) == 2
        assert not set(ids) & {case.case_id for case in sides.validation}
        drawn.add(tuple(ids))
    assert len(drawn) > 2


def test_patients_trained_on_are_refused(folders, tmp_path):
    command = ["table", str(TABLES / "losses.yaml"), "--studies", str(folders / "test")]
    command += ["--test", str(folders / "test"), "--out", str(tmp_path)]
    with pytest.raises(ConfigError, match="other patients than --studies; both hold VS-4"):
        CliRunner().invoke(app, command, catch_exceptions=False)


def test_too_few_studies_for_a_table_are_told(folders, tmp_path):
    command = ["table", str(TABLES / "training_size.yaml"), "--studies", str(folders / "train")]
    command += ["--test", str(folders / "test"), "--out", str(tmp_path)]
    with pytest.raises(ConfigError, match="fewer than two rows for 4 training studies"):
        CliRunner().invoke(app, command, catch_exceptions=False)


@pytest.mark.parametrize("seeds", ["", "1,1", "one", "-1"])
def test_wrong_seeds_are_told(seeds, folders, tmp_path):
    command = ["table", str(TABLES / "losses.yaml"), "--studies", str(folders / "train")]
    command += ["--test", str(folders / "test"), "--out", str(tmp_path), "--seeds", seeds]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, ConfigError)
    assert "--seeds is like 1,2,3" in str(result.exception)
