"""A round of learning in miniature."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import short, tiny, write_case
from typer.testing import CliRunner

from clickseg.cli import app
from clickseg.learning import update
from clickseg.learning.gate import judge
from clickseg.learning.holdout import read_holdout
from clickseg.learning.replay import replay_cases
from clickseg.learning.round import begin_round, of_others
from clickseg.learning.settings import load_update
from clickseg.learning.store import BASE, ModelStore
from clickseg.learning.update import TooFewError, UpdateError, update_model
from clickseg.modelfile import Manifest, read_manifest, save_model
from clickseg.networks import build_network
from clickseg.placement import tell_mode
from clickseg.study import PLACING_FOLDER, Case
from clickseg.training import loop, two_stage
from clickseg.training.augment import augment
from clickseg.training.split import Split, write_split


@pytest.fixture
def open_gate(monkeypatch):
    """A gate that lets every model through."""
    monkeypatch.setattr(update, "judge", lambda *asked: replace(judge(*asked), is_better=True))


@pytest.mark.parametrize("name", ["initial", "correction"])
def test_a_round_trains_and_the_gate_decides(small_studies, base, tmp_path, monkeypatch, name):
    shutil.copytree(small_studies, tmp_path / "studies")
    store, told = ModelStore(tmp_path / "store", base), []
    verdicts = iter([True, False])
    monkeypatch.setattr(
        "clickseg.learning.update.judge",
        lambda *asked: replace(judge(*asked), is_better=next(verdicts)),
    )
    outcome = update_model(name, tmp_path / "studies", store, short(), watch=told.append)
    assert outcome.is_published
    assert store.current()[name] == outcome.version
    assert (outcome.training, outcome.holdout) == (3, 1)
    epochs = 3 if name == "initial" else 2
    assert [(one.epoch, one.epochs) for one in told] == [(n + 1, epochs) for n in range(epochs)]
    assert told[-1].dice is not None
    manifest = store.version(name).manifest()
    held = read_holdout(tmp_path / "studies" / ".clickseg" / "holdout.json")
    assert set(manifest.data["training"]).isdisjoint(manifest.data["validation"])
    assert {held[case] for case in manifest.data["validation"]} == {"holdout"}
    assert "3 accepted studies" in manifest.data["source"]
    kept = json.loads((tmp_path / "store/rounds" / name / "outcome.json").read_text())
    assert kept["version"] == outcome.version
    store.load()
    # Another label, another round: worse, so the first one stays.
    write_case(tmp_path / "studies", "VS-9", (33, 26, 9), 4.5)
    second = update_model(name, tmp_path / "studies", store, short())
    assert not second.is_published
    assert store.current()[name] == outcome.version == second.version


def test_patients_kept_for_tests_take_no_part(small_studies, base, tmp_path):
    shutil.copytree(small_studies, tmp_path / "studies")
    for name in ("VS-5", "VS-2v2"):  # the second is another study of one that is kept
        write_case(tmp_path / "studies", name, (30, 26, 9), 4.0)
    split = Split(("VS-1", "VS-3"), ("VS-4",), ("VS-2",))
    write_split(split, tmp_path / "studies" / "split.json")
    store = ModelStore(tmp_path / "store", base)
    outcome = update_model("correction", tmp_path / "studies", store, short())
    assert outcome.training + outcome.holdout == 4
    data = read_manifest(next((tmp_path / "store/rounds/correction").glob("*/")), "correction").data
    assert {*data["training"], *data["validation"]} == {"VS-1", "VS-3", "VS-4", "VS-5"}


@pytest.mark.usefixtures("open_gate")
def test_the_same_labels_are_not_published_twice(small_studies, base, tmp_path):
    shutil.copytree(small_studies, tmp_path / "studies")
    store = ModelStore(tmp_path / "store", base)
    first = update_model("initial", tmp_path / "studies", store, short())
    second = update_model("initial", tmp_path / "studies", store, short())
    assert not second.is_published
    assert "nothing new was accepted" in second.reason
    assert [one.number for one in store.versions("initial")] == [0, 1]
    assert second.version == first.version


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_labels_are_told(small_studies, base, tmp_path, count):
    shutil.copytree(small_studies, tmp_path / "studies")
    for path in sorted((tmp_path / "studies/labels/final").iterdir())[count:]:
        path.unlink()
    with pytest.raises(UpdateError, match=f"at least 3 patients .* labels of {count}$"):
        update_model("initial", tmp_path / "studies", ModelStore(tmp_path / "s", base), short())
    assert not (tmp_path / "studies" / ".clickseg").exists()


def test_a_corrupt_study_among_good_ones_is_left_out(small_studies, base, tmp_path, caplog):
    shutil.copytree(small_studies, tmp_path / "studies")
    (tmp_path / "studies" / "VS-0.nii.gz").write_bytes(b"nothing")
    shutil.copy(
        tmp_path / "studies/labels/final/VS-1.nii.gz", tmp_path / "studies/labels/final/VS-0.nii.gz"
    )
    holdout = {"patients": {f"VS-{n}": "training" for n in (0, 1, 2, 3)} | {"VS-4": "holdout"}}
    (tmp_path / "studies/.clickseg").mkdir()
    (tmp_path / "studies/.clickseg/holdout.json").write_text(json.dumps(holdout))
    store = ModelStore(tmp_path / "store", base)
    outcome = update_model("correction", tmp_path / "studies", store, short())
    assert outcome.verdict.cases == 1
    assert any("VS-0 is left out" in record.message for record in caplog.records)


def test_an_empty_mask_trains_too(small_studies, base, tmp_path):
    shutil.copytree(small_studies, tmp_path / "studies")
    write_case(tmp_path / "studies", "VS-7", (30, 26, 9), -1.0)
    sides = {f"VS-{n}": "training" for n in (1, 2, 3, 7)} | {"VS-4": "holdout"}
    (tmp_path / "studies/.clickseg").mkdir()
    (tmp_path / "studies/.clickseg/holdout.json").write_text(json.dumps({"patients": sides}))
    for name in ("initial", "correction"):
        store = ModelStore(tmp_path / "store", base)
        update_model(name, tmp_path / "studies", store, short())
        run = next((tmp_path / "store/rounds" / name).glob("*/"))
        assert "VS-7" in read_manifest(run, name).data["training"]


@pytest.mark.parametrize("is_damaged", [False, True])
def test_labels_without_a_tumor_judge_no_model(small_studies, base, tmp_path, is_damaged):
    """A model that finds nothing anywhere would be perfect on them."""
    shutil.copytree(small_studies, tmp_path / "studies")
    write_case(tmp_path / "studies", "VS-7", (30, 26, 9), -1.0)
    if is_damaged:
        (tmp_path / "studies/labels/final/VS-7.nii.gz").write_bytes(b"nothing")
    sides = {f"VS-{n}": "training" for n in (1, 2, 3)} | {"VS-7": "holdout"}
    (tmp_path / "studies/.clickseg").mkdir()
    kept = tmp_path / "studies/.clickseg/holdout.json"
    kept.write_text(json.dumps({"patients": sides | {"VS-4": "training"}}))
    store = ModelStore(tmp_path / "store", base)
    if not is_damaged:  # one that cannot be read is told before
        with pytest.raises(TooFewError, match="can be read and has a tumor"):
            update_model("correction", tmp_path / "studies", store, short())
        assert not list((tmp_path / "store/rounds").rglob("*"))  # before any training
        assert store.current()["correction"] == BASE
    # Beside one with a tumor it counts apart, for the initial model.
    kept.write_text(json.dumps({"patients": sides | {"VS-4": "holdout"}}))
    verdict = update_model("correction", tmp_path / "studies", store, short()).verdict
    assert (verdict.cases, verdict.false_outlines) == (1, (0, 0))
    initial = update_model("initial", tmp_path / "studies", store, short()).verdict
    assert initial.cases == 1
    assert ("in 1 without a tumor" in initial.reason) != is_damaged


@pytest.mark.usefixtures("open_gate")
def test_a_version_that_was_left_uncounted_is_published(small_studies, base, tmp_path):
    shutil.copytree(small_studies, tmp_path / "studies")
    store = ModelStore(tmp_path / "store", base)
    first = update_model("correction", tmp_path / "studies", store, short())
    (tmp_path / "store/current.json").unlink()  # as if it was killed just before
    assert store.current()["correction"] == BASE
    second = update_model("correction", tmp_path / "studies", store, short())
    assert second.is_published
    assert store.current()["correction"] == second.version != first.version


@pytest.mark.usefixtures("open_gate")
def test_a_model_counts_though_nobody_can_write_how_it_ended(
    small_studies, base, tmp_path, monkeypatch, caplog
):
    real = update.write_text

    def full(path, text):
        if path.name == "outcome.json":
            raise OSError(28, "No space left on device")
        real(path, text)

    monkeypatch.setattr(update, "write_text", full)
    shutil.copytree(small_studies, tmp_path / "studies")
    store = ModelStore(tmp_path / "store", base)
    outcome = update_model("correction", tmp_path / "studies", store, short())
    assert outcome.is_published
    assert store.current()["correction"] == outcome.version
    assert "No space" in caplog.text


def test_replay_leaves_out_patients_kept_for_tests(small_studies, base, tmp_path):
    shutil.copytree(small_studies, tmp_path / "replay")
    write_case(tmp_path / "replay", "VS-2v2", (30, 26, 9), 4.0)
    assert len(replay_cases(tmp_path / "replay", base, tmp_path, 9)) == 5
    write_split(Split(("VS-1", "VS-3"), ("VS-4",), ("VS-2",)), tmp_path / "replay/split.json")
    found = replay_cases(tmp_path / "replay", base, tmp_path, 2)
    assert [case.case_id for case in found] == ["VS-1", "VS-3"]


def test_empty_masks_alone_teach_no_correction(base, tmp_path):
    for number in range(1, 5):
        write_case(tmp_path / "studies", f"VS-{number}", (30, 26, 9), 4.0 if number == 4 else -1.0)
    sides = {f"VS-{n}": "training" for n in (1, 2, 3)} | {"VS-4": "holdout"}
    (tmp_path / "studies/.clickseg").mkdir()
    (tmp_path / "studies/.clickseg/holdout.json").write_text(json.dumps({"patients": sides}))
    store = ModelStore(tmp_path / "store", base)
    with pytest.raises(UpdateError, match="all are empty"):
        update_model("correction", tmp_path / "studies", store, short())


def test_replay_brings_no_patient_of_the_studies_back(small_studies, base, tmp_path):
    """Else a study that is held out would train."""
    shutil.copytree(small_studies, tmp_path / "studies")
    write_case(tmp_path / "replay", "VS-8", (30, 26, 9), 4.0)
    shutil.copytree(small_studies, tmp_path / "replay", dirs_exist_ok=True)
    store = ModelStore(tmp_path / "store", base)
    config = replace(short(), replay=9)
    update_model("initial", tmp_path / "studies", store, config, replay=tmp_path / "replay")
    data = read_manifest(next((tmp_path / "store/rounds/initial").glob("*/")), "initial").data
    assert "VS-8" in data["training"]
    assert len(data["training"]) == len(set(data["training"])) == 4
    assert not set(data["training"]) & set(data["validation"])


def test_replay_knows_patients_by_what_a_pacs_tells(tmp_path):
    (tmp_path / ".clickseg").mkdir()
    told = {"1.2.826.0.7": "VS-3", "1.2.826.0.8": "VS-4", "1.2.826.0.9": "VS-6"}
    (tmp_path / ".clickseg/patients.json").write_text(json.dumps(told))
    sides = {"VS-3": "training", "VS-4": "holdout"}  # the label of VS-4 was removed
    (tmp_path / ".clickseg/holdout.json").write_text(json.dumps({"patients": sides}))

    def cases(*names):
        return [Case(name, tmp_path / f"{name}.nii.gz", None, None) for name in names]

    others = cases("VS-3v2", "VS-4", "1.2.826.0.8", "VS-5", "1.2.826.0.9")
    left = of_others(others, tmp_path, cases("1.2.826.0.7"), "^([A-Z]+-[0-9]+)", None)
    assert [case.case_id for case in left] == ["VS-5", "1.2.826.0.9"]


@pytest.mark.usefixtures("open_gate")
def test_what_was_gone_back_from_is_not_published_again(small_studies, base, tmp_path):
    shutil.copytree(small_studies, tmp_path / "studies")
    store = ModelStore(tmp_path / "store", base)
    first = update_model("initial", tmp_path / "studies", store, short())
    store.rollback("initial")
    second = update_model("initial", tmp_path / "studies", store, short())
    assert not second.is_published
    assert first.version in second.reason
    assert store.current()["initial"] == BASE


def test_new_clicks_or_another_image_make_another_round(small_studies, base, tmp_path):
    shutil.copytree(small_studies, tmp_path / "studies")
    store = ModelStore(tmp_path / "store", base)
    runs = []
    for change in ("", "labels/final/VS-1.clicks.json", "t2/VS-2.nii.gz"):
        if change:
            shutil.copy(tmp_path / "studies/VS-2.nii.gz", tmp_path / "studies" / change)
        update_model("correction", tmp_path / "studies", store, short())
        (made,) = (tmp_path / "store/rounds/correction").glob("*/correction.pt")
        runs.append(made.parent.name)
    assert len(set(runs)) == 3
    for run in runs:  # for TensorBoard to compare
        assert list((tmp_path / "store/rounds/correction" / run).rglob("events*"))


def test_a_round_that_was_killed_goes_on(small_studies, base, tmp_path, monkeypatch):
    """Killed in the middle of an epoch: what it has of that one is lost, nothing else."""
    shutil.copytree(small_studies, tmp_path / "studies")
    whole = ModelStore(tmp_path / "whole", base)
    update_model("initial", tmp_path / "studies", whole, short())

    class Killed(BaseException):
        pass

    told, steps = [], []

    def killed(*arguments):
        steps.append(1)
        if len(steps) == 6:  # epochs have two steps of one item
            raise Killed
        return augment(*arguments)

    store = ModelStore(tmp_path / "store", base)
    with monkeypatch.context() as patched:
        patched.setattr(two_stage, "augment", killed)
        with pytest.raises(Killed):
            update_model("initial", tmp_path / "studies", store, short(), watch=told.append)
    assert [progress.epoch for progress in told] == [1, 2]
    assert store.current()["initial"] == BASE
    update_model("initial", tmp_path / "studies", store, short(), watch=told.append)
    assert [progress.epoch for progress in told] == [1, 2, 3]
    hashes = [
        read_manifest(
            next((one.folder / "rounds/initial").glob("*/initial.json")).parent, "initial"
        )
        for one in (whole, store)
    ]
    assert hashes[0].sha256 == hashes[1].sha256  # as if nothing had happened


def test_a_full_disk_leaves_the_published_model(small_studies, base, tmp_path, monkeypatch):
    shutil.copytree(small_studies, tmp_path / "studies")
    store = ModelStore(tmp_path / "store", base)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loop, "_save", full)
    with pytest.raises(UpdateError, match="No space"):
        update_model("initial", tmp_path / "studies", store, short())
    assert store.current()["initial"] == BASE
    with store.training("initial"):  # the lock was given back
        pass


@pytest.mark.parametrize(
    ("studies", "steps"), [(1, 50), (6, 50), (9, 75), (10, 83), (30, 250), (100, 250)]
)
def test_an_epoch_is_longer_with_more_studies(studies, steps):
    config = replace(load_update(), steps_for=6)
    fit = replace(config.segment, steps_per_epoch=50)
    assert config.lengthened(fit, studies) == replace(fit, steps_per_epoch=steps)
    assert replace(config, steps_for=0).lengthened(fit, studies) == fit


def test_a_round_is_as_long_as_its_studies_are_worth(small_studies, base, tmp_path):
    store = ModelStore(tmp_path / "store", base)
    config = short(steps_for=1)
    made = begin_round("initial", small_studies, store, config, None, None, "cpu")
    times = len(made.training)
    assert times > 1
    recipe = made.recipe
    fits = recipe.initial.locate.fit, recipe.initial.segment.fit, recipe.correction.fit
    was = config.locate, config.segment, config.correction
    assert [fit.steps_per_epoch for fit in fits] == [fit.steps_per_epoch * times for fit in was]
    assert [fit.epochs for fit in fits] == [fit.epochs for fit in was]


def test_a_round_with_the_t2_placed_otherwise_is_another(small_studies, base, tmp_path):
    shutil.copytree(small_studies, tmp_path / "studies")
    store, folders = ModelStore(tmp_path / "store", base), []
    for mode in ("header", "header", "auto"):
        tell_mode(tmp_path / "studies" / PLACING_FOLDER, mode)
        made = begin_round("initial", tmp_path / "studies", store, short(), None, None, "cpu")
        folders.append(made.folder)
    assert folders[0] == folders[1] != folders[2]


def test_the_published_recipe_is_not_updated(tmp_path):
    small = tiny().correction.network
    network = build_network(small.name, small.arguments)
    recipe = Path(__file__).parents[2] / "configs" / "published.yaml"
    from clickseg.config import as_values, load_config

    for name in ("initial", "correction"):
        save_model(tmp_path, network, Manifest(name, as_values(load_config(recipe)), {}, {}))
    with pytest.raises(UpdateError, match="whole_volume and paste"):
        update_model("initial", tmp_path, ModelStore(tmp_path / "s", tmp_path), short())


def test_the_command_says_how_it_ended(small_studies, base, tmp_path):
    shutil.copytree(small_studies, tmp_path / "studies")
    run = CliRunner().invoke
    update = tmp_path / "update.yaml"
    fit = "{epochs: 1, steps_per_epoch: 1, batch: 1, optimizer: adamw, rate: 0.1, " \
        "schedule: poly, bfloat16: false, average: 0}"  # fmt: skip
    update.write_text(
        "holdout: 0.2\nsmallest: 3\nreplay: 0\naccepted: 0.5\nclicks: 1\nrecorded: 0.5\n"
        "refined: {studies: 0, share: 0.1, sure: 0.85}\nsteps_for: 6\n"
        + "".join(f"{name}: {fit}\n" for name in ("locate", "segment", "correction"))
    )
    words = ["train", "click", "--studies", str(tmp_path / "studies"), "--base", str(base)]
    words += ["--store", str(tmp_path / "store"), "--update", str(update)]
    result = run(app, words)
    assert result.exit_code == 0, result.output
    assert "published: " in result.output
    listed = run(app, ["models", "list", "--store", str(tmp_path / "store"), "--base", str(base)])
    assert listed.exit_code == 0
    assert "correction" in listed.output
    shown = run(
        app, ["models", "show", "initial", "--store", str(tmp_path / "s"), "--base", str(base)]
    )
    assert json.loads(shown.output)["name"] == "initial"


@pytest.mark.parametrize(
    "words", [["click"], ["rival", "--store", "s"], ["initial", "--store", "s", "--out", "o"]]
)
def test_options_that_do_not_go_together_are_told(tmp_path, words):
    result = CliRunner().invoke(app, ["train", *words, "--studies", str(tmp_path)])
    assert result.exit_code == 2
    assert "--store" in result.output
