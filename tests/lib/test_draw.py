"""The README's results: every result that lies in the folder is drawn, and nothing beside them."""

import json
import runpy
import shutil
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.fixture
def results(tmp_path):
    """A copy of the results that can be changed, and what draws them."""
    folder = tmp_path / "docs" / "results"
    shutil.copytree(RESULTS, folder)

    def draw():
        return runpy.run_path(str(folder / "draw.py"))["section"]()

    return folder, draw


def test_a_table_that_was_made_again_is_drawn_with_its_command(results):
    folder, draw = results
    table = json.loads((folder / "tables" / "networks.json").read_text(encoding="utf-8"))
    table |= {"title": "Another table", "command": "clickseg table another.yaml"}
    table["rows"][0]["name"] = "a row of its own"
    (folder / "tables" / "another.json").write_text(json.dumps(table), encoding="utf-8")
    text = draw()
    assert "`clickseg table another.yaml`" in text
    assert "| a row of its own | 0.763" in text
    assert text.index("Another table") < text.index(table["rows"][1]["name"])


def test_without_tables_nothing_is_said_of_them(results):
    folder, draw = results
    about = (folder / "tables" / "about.md").read_text(encoding="utf-8").strip()
    assert about in draw()
    for path in (folder / "tables").glob("*.json"):
        path.unlink()
    text = draw()
    assert about not in text
    assert "ours" in text


def test_each_variant_of_an_evaluation_is_a_row(results):
    folder, draw = results
    variant = next(folder.glob("*/*/summary.json"))
    summary = json.loads(variant.read_text(encoding="utf-8"))
    for values in summary["methods"].values():
        values["dice"] = [0.111 for _ in values["dice"]]
    other = variant.parent.with_name("another-start")
    other.mkdir()
    (other / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    where = f"docs/results/{variant.parents[1].name}/another-start/summary.md"
    assert f"| [another-start]({where}) | ours | 0.111" in draw()


def test_of_the_rivals_in_a_variant_the_three_best_are_rows(results):
    folder, draw = results
    variant = next(folder.glob("*/*/summary.json"))
    summary = json.loads(variant.read_text(encoding="utf-8"))
    ours = summary["methods"]["ours"]
    areas = {"second": 0.8, "fourth": 0.2, "first": 0.9, "third": 0.7}
    summary["methods"] = {"ours": ours, **{name: ours | {"auc": a} for name, a in areas.items()}}
    variant.write_text(json.dumps(summary), encoding="utf-8")
    text = draw()
    places = [text.index(f"|  | {name} | ") for name in ("first", "second", "third")]
    assert places == sorted(places)
    assert "|  | fourth | " not in text
    assert f"[{variant.parent.name}]" in text


def test_tumor_free_studies_are_told_without_an_empty_table(results):
    folder, draw = results
    summary = json.loads((folder / "without-tumor" / "summary.json").read_text(encoding="utf-8"))
    count = summary["methods"]["ours"]["tumor_free"]["with_false_positive"]
    about = (folder / "without-tumor" / "about.md").read_text(encoding="utf-8").strip()
    section = draw().partition(about)[2].partition("**Tables of the publication")[0]
    assert f"ours: {count} of 20 studies without tumor get an outline" in section
    assert "| method |" not in section


def test_a_variant_tells_how_sure_it_is_that_a_rival_differs_from_ours(results):
    folder, draw = results
    variant = next(folder.glob("*/*/summary.json"))
    summary = json.loads(variant.read_text(encoding="utf-8"))
    p = {"dice_after_1": 0.001, "dice_after_3": 0.02, "dice_after_5": 1.0, "noc_0.95": 0.4}
    ours = {key: value for key, value in summary["methods"]["ours"].items() if "p_" not in key}
    rival = ours | {"harm_rate": 0.125, "noc": ours["noc"] | {"0.95": 7.5}, "p_against_ours": p}
    summary["methods"] = {"ours": ours, "rival": rival}
    variant.write_text(json.dumps(summary), encoding="utf-8")
    text = draw()
    (head,) = (line for line in text.splitlines() if line.startswith("| what is given"))
    assert head.endswith("| NoC 0.95 | harm | p, Dice 1 | p, Dice 3 | p, Dice 5 | p, NoC |")
    assert "| 7.50 | 0.125 | 0.001 | 0.02 | 1 | 0.4 |" in text
    where = variant.with_name("summary.md").relative_to(folder.parents[1]).as_posix()
    assert f"| [{variant.parent.name}]({where}) | ours |" in text


def test_each_table_that_the_readme_points_to_is_there():
    for path in RESULTS.glob("*/*/summary.json"):
        assert path.with_name("summary.md").is_file(), path.parent.name


def test_a_readme_without_the_places_for_tables_is_told(results):
    folder, _ = results
    (folder.parents[1] / "README.md").write_text("nothing\n", encoding="utf-8")
    drawn = runpy.run_path(str(folder / "draw.py"))["drawn"]
    with pytest.raises(SystemExit, match="must hold the lines"):
        drawn("nothing\n")
