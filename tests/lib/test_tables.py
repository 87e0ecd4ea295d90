"""Tables of the publication: what rows change, what is measured, and which orderings hold."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from clickseg.cli import app
from clickseg.config import ConfigError
from clickseg.geometry import Grid
from clickseg.tables.plan import load_table, recipe_of
from clickseg.tables.report import as_markdown, report
from clickseg.volume import Volume, write_volume

TABLES = Path(__file__).parents[2] / "configs" / "tables"
FILES = sorted(path for path in TABLES.glob("*.yaml") if path.stem != "published_small")
SHAPE = (37, 31, 23)
FIT = {"epochs": 1, "steps_per_epoch": 3, "bfloat16": False}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_tables_are_made_of_recipes(path):
    table = load_table(path)
    recipes = [recipe_of(table, row, path, seed=3) for row in table.rows]
    assert {recipe.seed for recipe in recipes} == {3}
    trained = {(row.cases, str(recipe)) for row, recipe in zip(table.rows, recipes, strict=True)}
    stages = {row.stage for row in table.rows}
    assert len(trained) * len(stages) >= len(table.rows)  # no two rows are the same


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
            "rows": [{"name": name, "published": 0.5, "stage": "initial"} for name in "ab"],
        }
        path = tmp_path / "table.yaml"
        path.write_text(yaml.safe_dump(values | changes))
        return path

    return write


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows": [{"name": "a", "published": 0.5, "stage": "initial"}] * 2}, "two rows of one"),
        ({"measure": "real_cuts"}, "stage of real_cuts is one of uncorrected, simulated, real"),
        ({"base": "none.yaml"}, "no configuration at"),
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
    ],
)
def test_a_row_that_is_no_recipe_is_told(write, change, told):
    row = {"name": "a", "published": 0.5, "stage": "initial", "set": change}
    with pytest.raises(ConfigError, match=told):
        load_table(write(rows=[row, row | {"name": "b", "set": {}}]))


def test_orderings_are_those_of_the_means():
    table = load_table(TABLES / "real_errors.yaml")
    values = {
        1: {"uncorrected": 0.7, "simulated": 0.9, "real": 0.8, "minutes": 2.0},
        2: {"uncorrected": 0.7, "simulated": 0.8, "real": 0.84, "minutes": 4.0},
    }
    found = report(table, {row.name: values for row in table.rows})
    assert [row["dice"] for row in found["rows"]] == [0.7, 0.85, 0.82]
    assert [row["spread"] for row in found["rows"]] == [0.0, 0.0707, 0.0283]
    assert [row["minutes"] for row in found["rows"]] == [3.0] * 3
    # The first row has no published figure, so there is one pair: real errors above simulated.
    assert found["orderings"] == [
        {
            "higher": "after real errors",
            "lower": "after simulated errors",
            "published": 0.0251,
            "here": -0.03,
            "holds": False,
        }
    ]
    text = as_markdown(found)
    assert "| after simulated errors | 0.8687 | 0.850 ± 0.071 | 3 |" in text
    assert "0 of 1 published orderings hold." in text
    assert "* after real errors above after simulated errors: +0.025, -0.030" in text


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
        {"name": "two", "published": 0.4, "stage": "initial", "cases": 2},
        {"name": "all", "published": 0.6, "stage": "initial"},
        {"name": "more", "published": 0.8, "stage": "initial", "cases": 99},
    ],
    "simulated_cuts": [
        {"name": "before", "published": 0.4, "stage": "uncorrected"},
        {"name": "after", "published": 0.6, "stage": "simulated"},
    ],
    "real_cuts": [
        {"name": "before", "published": None, "stage": "uncorrected"},
        {"name": "after", "published": 0.6, "stage": "simulated"},
        {"name": "tuned", "published": 0.7, "stage": "real"},
    ],
}


@pytest.mark.parametrize("measure", ROWS)
def test_a_table_from_files_to_files(measure, folders, tmp_path):
    tiny(tmp_path)
    table = {"title": "T", "base": "tiny.yaml", "measure": measure, "rows": ROWS[measure]}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(table))
    out = tmp_path / "out"
    command = ["table", str(tmp_path / "table.yaml"), "--studies", str(folders / "train")]
    command += ["--test", str(folders / "test"), "--out", str(out), "--seeds", "1,2"]
    first = CliRunner().invoke(app, command, catch_exceptions=False)
    assert first.exit_code == 0, first.output
    values = json.loads((out / "table.json").read_text())
    rows = {row["name"]: row for row in values["rows"]}
    assert list(rows) == [row["name"] for row in ROWS[measure] if row["name"] != "more"]
    assert all(set(row["by_seed"]) == {"1", "2"} for row in rows.values())
    assert values["studies"] == {"training": 4, "test": 1}
    if measure == "simulated_cuts":  # errors on test cuts do not depend on the seed
        assert len(set(rows["before"]["by_seed"].values())) == 1
    runs = list((out / "runs").iterdir())
    assert len(runs) == (4 if measure == "initial" else 2)  # rows that train alike share a run

    # What was measured is not trained again.
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.checkpoint.pt")}
    assert before
    again = CliRunner().invoke(app, command, catch_exceptions=False)
    assert again.exit_code == 0
    assert json.loads((out / "table.json").read_text())["rows"] == values["rows"]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.checkpoint.pt")} == before


def test_patients_trained_on_are_refused(folders, tmp_path):
    command = ["table", str(TABLES / "losses.yaml"), "--studies", str(folders / "test")]
    command += ["--test", str(folders / "test"), "--out", str(tmp_path)]
    with pytest.raises(ConfigError, match="other patients than --studies; both hold VS-4"):
        CliRunner().invoke(app, command, catch_exceptions=False)


@pytest.mark.parametrize("seeds", ["", "1,1", "one", "-1"])
def test_wrong_seeds_are_told(seeds, folders, tmp_path):
    command = ["table", str(TABLES / "losses.yaml"), "--studies", str(folders / "train")]
    command += ["--test", str(folders / "test"), "--out", str(tmp_path), "--seeds", seeds]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "--seeds is like 1,2,3" in result.output
