"""The whole loop in miniature."""

import json
import shutil
from dataclasses import replace

import pytest
from tiny import short, write_case
from typer.testing import CliRunner

from clickseg import study
from clickseg.choosing.scores import score_study
from clickseg.cli import app
from clickseg.config import ConfigError
from clickseg.learning import measure, simulate
from clickseg.learning.simulate import Loop, Reader, Step, summarize_loops
from clickseg.learning.store import ModelStore
from clickseg.learning.update import UpdateError
from clickseg.placement import Placing, tell_frames, tell_mode
from clickseg.record import read_record
from clickseg.study import PLACING_FOLDER, labeled_cases, placing_of, read_study
from clickseg.training.split import PATIENTS, told_patients


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    for number in range(1, 8):
        write_case(folder, f"VS-{10 + number}", (20 + 3 * number, 26, 9), 3 + number % 3)
    return folder


def loop(studies, base, folder, strategy="shuffle"):
    cases = labeled_cases(studies)
    return Loop(cases[:5], cases[5:], strategy, 1, folder, base, short(), Reader(2, 0.99))


def stop(*_, **__):
    raise KeyboardInterrupt


def test_the_loop_labels_learns_and_goes_on(studies, base, tmp_path, monkeypatch):
    whole = loop(studies, base, tmp_path / "whole").run(2, 2)
    assert [step.labelled for step in whole] == [0, 2, 4]
    assert whole[0].clicks == 0
    assert 0 < whole[1].clicks <= 4
    assert "at least 3 patients" in whole[1].gate["initial"]  # two labels are too few
    assert whole[2].gate.keys() == {"initial", "correction"}
    labels = tmp_path / "whole/studies/labels/final"
    names = sorted(path.name.split(".")[0] for path in labels.glob("*.nii.gz"))
    assert len(names) == 4
    records = [read_record(labels / f"{name}.clicks.json") for name in names]
    assert sum(len(record) for record in records) == whole[2].clicks
    # Stopped between the two updates of the second round, and gone on with.
    parts = tmp_path / "parts"
    updates = iter([*[simulate.update_model] * 3, stop])
    with monkeypatch.context() as patched:
        patched.setattr(
            simulate, "update_model", lambda *given, **more: next(updates)(*given, **more)
        )
        with pytest.raises(KeyboardInterrupt):
            loop(studies, base, parts).run(2, 2)
    assert loop(studies, base, parts).run(2, 2) == whole
    with pytest.raises(ConfigError, match="other settings"):
        loop(studies, base, parts).run(3, 1)


def test_a_strategy_that_asks_the_models(studies, base, tmp_path):
    steps = loop(studies, base, tmp_path, "random").run(1, 3)
    assert [step.labelled for step in steps] == [0, 3]


def test_updates_place_the_t2_as_the_reader_saw_it(studies, base, tmp_path):
    shutil.copytree(studies, tmp_path / "studies")
    tell_mode(tmp_path / "studies" / PLACING_FOLDER, "off")
    tell_frames(tmp_path / "studies" / PLACING_FOLDER, "VS-12", True)
    loop(tmp_path / "studies", base, tmp_path / "loop").run(0, 1)
    copies = [placing_of(tmp_path / "loop" / "studies" / f"VS-{n}.nii.gz") for n in (11, 12)]
    assert copies == [Placing("off", False), Placing("off", True)]


def test_updates_know_the_patients_that_a_pacs_told(studies, base, tmp_path):
    shutil.copytree(studies, tmp_path / "studies")
    told = {f"VS-{10 + number}": f"patient {number // 2}" for number in range(1, 8)}
    private = tmp_path / "studies" / PATIENTS
    private.parent.mkdir()
    private.write_text(json.dumps(told))
    loop(tmp_path / "studies", base, tmp_path / "loop").run(0, 1)
    kept = told_patients(tmp_path / "loop/studies")
    assert kept == {name: told[name] for name in kept}
    assert len(kept) >= 5


def test_what_models_said_is_computed_once_for_all_runs(studies, base, tmp_path, monkeypatch):
    asked = []

    def counted(models, study):
        asked.append(study.case_id)
        return score_study(models, study)

    monkeypatch.setattr(simulate, "score_study", counted)
    first = loop(studies, base, tmp_path / "first", "uncertainty").run(1, 1)
    assert sorted(asked) == [f"VS-{n}" for n in range(11, 16)]
    # Another strategy begins with the same models; one study is too few to make others.
    read = counting(monkeypatch)
    second = loop(studies, base, tmp_path / "second", "diversity").run(1, 1)
    assert len(asked) == 5
    assert read == []
    assert first[0] == second[0]
    assert first[1].gate.keys() == {"initial", "correction"}
    # Without what was kept all is computed anew.
    (tmp_path / "scores").rename(tmp_path / "elsewhere")
    loop(studies, base, tmp_path / "third", "similar").run(1, 1)
    assert len(asked) == 10


@pytest.mark.parametrize(("strategy", "asked"), [("uncertainty", 2), ("diversity", 5)])
def test_labeled_studies_are_asked_about_where_a_strategy_looks_at_them(
    studies, base, tmp_path, monkeypatch, strategy, asked
):
    scored, score = [], simulate.Loop._score
    monkeypatch.setattr(
        simulate.Loop, "_score", lambda *a: scored.append(a[-1].case_id) or score(*a)
    )
    run = loop(studies, base, tmp_path, strategy)
    run.run(1, 3)
    scored.clear()
    run._choose(ModelStore(run.folder / "models", base).load("cpu"), 2, 1)
    assert len(scored) == asked


def counting(monkeypatch):
    """The studies that are read to be measured from now on."""
    found = []

    def reading(*paths):
        found.append(paths)
        return read_study(*paths)

    monkeypatch.setattr(measure, "read_study", reading)
    return found


def test_a_base_of_ones_own_goes_on_with_its_studies(
    studies, base, small_studies, tmp_path, caplog
):
    with caplog.at_level("WARNING"):
        alone = loop(studies, base, tmp_path / "alone").run(1, 3)
    assert "it may forget what it knew" in caplog.text
    caplog.clear()
    kept = replace(loop(studies, base, tmp_path / "kept"), replay=small_studies)
    with caplog.at_level("WARNING"):
        assert kept.run(1, 3)[0] == alone[0]
    assert "forget" not in caplog.text
    with pytest.raises(ConfigError, match="other settings"):
        replace(kept, replay=None).run(1, 3)


def test_a_shortage_ends_the_run_and_is_no_verdict(studies, base, tmp_path, monkeypatch):
    def short_of_memory(*_, **__):
        raise UpdateError("memory is not enough")

    with monkeypatch.context() as patched:
        patched.setattr(simulate, "update_model", short_of_memory)
        with pytest.raises(UpdateError, match="memory"):
            loop(studies, base, tmp_path / "a").run(1, 3)
    assert len(loop(studies, base, tmp_path / "a").run(1, 3)) == 2


def test_the_loop_ends_where_no_study_is_left(studies, base, tmp_path):
    assert [step.labelled for step in loop(studies, base, tmp_path).run(3, 4)] == [0, 4, 5]


def test_means_are_over_seeds_step_by_step():
    one = [Step(0, 0, 0.5, 0.6, {}), Step(2, 5, 0.7, 0.8, {})]
    two = [Step(0, 0, 0.5, 0.6, {}), Step(2, 8, 0.6, 0.9, {}), Step(4, 9, 1.0, 1.0, {})]
    summary = summarize_loops({"first": {1: one, 2: two}})["strategies"]["first"]
    assert summary["labelled"] == [0, 2]
    assert summary["clicks"] == [0, 6.5]
    assert summary["holdout_dice"] == [0.5, 0.65]
    assert summary["after_clicks"] == [0.6, 0.85]
    assert summary["seeds"]["2"][2]["labelled"] == 4


def test_the_command_writes_numbers_and_a_plot(studies, base, tmp_path, monkeypatch):
    update = tmp_path / "update.yaml"
    fit = "{epochs: 1, steps_per_epoch: 1, batch: 1, optimizer: adamw, rate: 0.001, "
    fit += "schedule: poly, bfloat16: false, average: 0}"
    update.write_text(
        "holdout: 0.2\nsmallest: 2\nreplay: 0\naccepted: 0.5\nclicks: 1\nrecorded: 0.5\n"
        "refined: {studies: 0, share: 0.1, sure: 0.85}\nsteps_for: 6\n"
        + "".join(f"{name}: {fit}\n" for name in ("locate", "segment", "correction"))
    )
    words = ["simulate-loop", "--studies", str(studies), "--out", str(tmp_path / "out")]
    words += ["--strategy", "first,shuffle", "--rounds", "1", "--per-round", "2", "--seeds", "3"]
    words += ["--base", str(base), "--update", str(update), "--clicks", "1", "--threads", "1"]
    read, counted = [], study._read
    monkeypatch.setattr(
        study, "_read", lambda *given: read.append(given[0].name) or counted(*given)
    )
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert len(read) == len(set(read)) >= 4  # once, by both strategies and whatever for
    assert study._REMEMBERED.limit_bytes == 0
    values = json.loads((tmp_path / "out/loop.json").read_text())
    assert list(values["strategies"]) == ["first", "shuffle"]
    assert values["strategies"]["first"]["labelled"] == [0, 2]
    assert values["studies"] == {"to choose from": 5, "held out": 2}
    assert values["machine"]["threads"] == values["machine"]["jobs"] == 1
    assert (tmp_path / "out/loop.png").stat().st_size > 5000
    again = words.copy()
    again[again.index(str(tmp_path / "out"))] = str(tmp_path / "two at once")
    result = CliRunner().invoke(app, [*again, "--jobs", "2"])
    assert result.exit_code == 0, result.output
    both = json.loads((tmp_path / "two at once/loop.json").read_text())
    assert both["strategies"] == values["strategies"]
    # What trains beside must not know the studies.
    result = CliRunner().invoke(app, [*words, "--replay", str(studies)])
    assert "--replay holds VS-11 and 6 more patients of --studies" in str(result.exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--strategy", "best"], "no strategy best"), (["--strategy", "first,first"], "one twice"),
     (["--held", "0"], "leaves none"),
     (["--seeds", "one"], "is like 1,2,3")],
)  # fmt: skip
def test_what_makes_no_sense_is_told(studies, base, tmp_path, words, said):
    given = ["simulate-loop", "--studies", str(studies), "--out", str(tmp_path), *words]
    result = CliRunner().invoke(app, [*given, "--base", str(base)])
    assert said in str(result.exception)


@pytest.mark.parametrize(
    ("option", "value"), [("--held", "-0.1"), ("--held", "3"), ("--clicks", "-1")]
)
def test_a_value_out_of_its_range_is_told_in_a_sentence(tmp_path, option, value):
    given = ["simulate-loop", "--studies", str(tmp_path), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*given, option, value], env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.output
