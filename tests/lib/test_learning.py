"""Published models, who is held out, the gate, and a round of learning in miniature."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny, write_case
from typer.testing import CliRunner

from clickseg.cli import app
from clickseg.learning.gate import judge
from clickseg.learning.holdout import HoldOutError, grow_holdout, read_holdout
from clickseg.learning.settings import load_update
from clickseg.learning.store import BASE, KEPT, ModelStore, StoreBusyError, published_in
from clickseg.learning.update import UpdateError, last_outcome, update_model
from clickseg.modelfile import Manifest, ModelError, read_manifest, save_model
from clickseg.networks import build_network
from clickseg.study import labeled_cases
from clickseg.training import loop
from clickseg.training.correction import train_correction
from clickseg.training.initial import train_initial

PATTERN = "^([A-Z]+-[0-9]+)"
SHARE = 0.25


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    for number, radius_mm in enumerate([4.0, 5.0, 3.0, 6.0], start=1):
        write_case(folder, f"VS-{number}", (20 + 5 * number, 26, 9), radius_mm, t2=number != 2)
    return folder


@pytest.fixture(scope="module")
def base(studies, tmp_path_factory):
    """Both models, barely trained."""
    folder = tmp_path_factory.mktemp("base")
    cases = labeled_cases(studies)
    train_initial(cases, tiny(), folder, "cpu")
    train_correction(cases, tiny(), folder, "cpu")
    return folder


def short(**changes):
    config = load_update()
    fit = replace(config.segment, epochs=2, steps_per_epoch=2, bfloat16=False)
    fits = {"locate": replace(fit, epochs=1), "segment": fit, "correction": replace(fit, batch=2)}
    return replace(config, replay=0, **fits | changes)


# The store


def made(folder, seed, name="initial"):
    """A model file of another hash for each seed."""
    network = build_network("dynunet", tiny().correction.network.arguments)
    for parameter in network.parameters():
        parameter.data.fill_(seed)
    manifest = Manifest(name, {}, {"source": f"seed {seed}"}, {})
    return save_model(folder / f"{name}-{seed}", network, manifest), folder / f"{name}-{seed}"


def test_an_empty_store_is_its_base(tmp_path, base):
    store = ModelStore(tmp_path / "store", base)
    assert store.current() == {"initial": BASE, "correction": BASE}
    assert [one.version for one in store.versions("initial")] == [BASE]
    assert store.version("initial").folder == base
    assert store.state() is None
    assert store.load().hashes["initial"] == read_manifest(base, "initial").short_hash
    assert not (tmp_path / "store").exists()  # looking makes nothing


def test_publishing_counts_up_and_changes_the_state(tmp_path, base):
    store = ModelStore(tmp_path / "store", base)
    states = []
    for seed in (1, 2):
        manifest, folder = made(tmp_path, seed)
        version = store.publish("initial", folder)
        assert version.version == f"{seed:04d}-{manifest.short_hash}"
        assert version.is_current
        assert version.manifest().sha256 == manifest.sha256
        states.append(store.state())
    assert states[0] != states[1]
    assert store.current()["correction"] == BASE
    assert [one.is_current for one in store.versions("initial")] == [False, False, True]


def test_five_versions_are_kept_and_no_number_is_given_twice(tmp_path, base):
    store = ModelStore(tmp_path / "store", base)
    for seed in range(1, KEPT + 3):
        store.publish("initial", made(tmp_path, seed)[1])
    assert [one.number for one in store.versions("initial")] == [0, 3, 4, 5, 6, 7]
    store.rollback("initial", store.versions("initial")[1].version)  # the oldest that is kept
    store.publish("initial", made(tmp_path, 9)[1])
    store.rollback("initial", BASE)
    assert store.publish("initial", made(tmp_path, 10)[1]).number == 9


def test_the_version_that_counts_is_never_removed(tmp_path, base, monkeypatch):
    store = ModelStore(tmp_path / "store", base)
    for seed in range(1, KEPT + 1):
        store.publish("initial", made(tmp_path, seed)[1])
    first = store.versions("initial")[1].version
    real = ModelStore._set
    # As if somebody went back in the moment before versions are removed.
    monkeypatch.setattr(ModelStore, "_set", lambda self, _: real(self, {"initial": first}))
    store.publish("initial", made(tmp_path, 8)[1])
    assert store.version("initial").version == first


def test_rollback_goes_one_back_or_to_a_named_version(tmp_path, base):
    store = ModelStore(tmp_path / "store", base)
    names = [store.publish("initial", made(tmp_path, seed)[1]).version for seed in (1, 2, 3)]
    assert store.rollback("initial").version == names[1]
    assert store.rollback("initial").version == names[0]
    assert store.rollback("initial").version == BASE
    with pytest.raises(ModelError, match="nothing came before"):
        store.rollback("initial")
    assert store.rollback("initial", names[2]).version == names[2]
    with pytest.raises(ModelError, match="there is no version '0009-x'"):
        store.rollback("initial", "0009-x")


def test_what_is_damaged_is_neither_published_nor_gone_back_to(tmp_path, base):
    store = ModelStore(tmp_path / "store", base)
    good = store.publish("initial", made(tmp_path, 1)[1])
    _, folder = made(tmp_path, 2)
    (folder / "initial.pt").write_bytes(b"half")
    with pytest.raises(ModelError, match="is not the file"):
        store.publish("initial", folder)
    store.publish("initial", made(tmp_path, 3)[1])
    (good.folder / "initial.pt").write_bytes(b"half")
    with pytest.raises(ModelError, match="is not the file"):
        store.rollback("initial", good.version)
    assert store.version("initial").number == 2
    assert not list((tmp_path / "store").rglob(".part-*"))


def test_a_publication_that_fails_leaves_the_published_model(tmp_path, base, monkeypatch):
    store = ModelStore(tmp_path / "store", base)
    first = store.publish("initial", made(tmp_path, 1)[1])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        store.publish("initial", made(tmp_path, 2)[1])
    assert store.versions("initial")[-1].version == first.version == store.current()["initial"]
    assert not list((tmp_path / "store").rglob(".part-*"))


@pytest.mark.parametrize("text", ["{", "[]", '{"other": "0001"}', '{"initial": 3}'])
def test_a_damaged_list_of_what_counts_is_told(tmp_path, base, text):
    (tmp_path / "current.json").write_text(text)
    with pytest.raises(ModelError, match=r"current\.json"):
        ModelStore(tmp_path, base).current()


def test_one_process_at_a_time_trains_a_model(tmp_path, base):
    store, errors = ModelStore(tmp_path / "store", base), []

    def other():
        try:
            with ModelStore(tmp_path / "store", base).training("initial"):
                pass
        except StoreBusyError as error:
            errors.append(str(error))

    with store.training("initial"), store.training("correction"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert errors == ["initial is being trained by another process already"]
    other()
    assert len(errors) == 1


def test_each_base_has_a_store_of_its_own(tmp_path, base):
    other = tmp_path / "other"
    shutil.copytree(base, other)
    assert published_in(tmp_path, base) == published_in(tmp_path, other)
    values = json.loads((other / "initial.json").read_text()) | {"sha256": "ab" * 32}
    (other / "initial.json").write_text(json.dumps(values))
    assert published_in(tmp_path, base) != published_in(tmp_path, other)
    assert published_in(tmp_path, tmp_path / "none").name == "published-none-none"


# Who is held out


def test_the_holdout_grows_by_patients(tmp_path):
    path = tmp_path / "holdout.json"
    first = grow_holdout(path, ["A-1"], PATTERN, SHARE)
    assert (first.training, first.validation) == (("A-1",), ())  # one alone trains
    ids = ["A-1", "A-2", "A-2v2", "A-3", "A-4"]
    split = grow_holdout(path, ids, PATTERN, SHARE)
    held = {name.removesuffix("v2") for name in split.validation}
    assert len(held) == 1
    assert "A-1" in split.training
    assert sorted([*split.training, *split.validation]) == ids
    assert grow_holdout(path, ids, PATTERN, SHARE) == split
    assert list(read_holdout(path).values()).count("holdout") == 1


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(0, 30), min_size=1, max_size=9), min_size=1, max_size=6))
def test_no_patient_ever_changes_sides(tmp_path_factory, additions):
    path = tmp_path_factory.mktemp("h") / "holdout.json"
    known: set[int] = set()
    before: dict[str, str] = {}
    for addition in additions:
        known |= addition
        ids = [f"A-{n}{visit}" for n in known for visit in ("", "v1")]
        split = grow_holdout(path, ids, PATTERN, SHARE)
        sides = read_holdout(path)
        assert before.items() <= sides.items()
        assert set(split.training) | set(split.validation) == set(ids)
        for side, names in (("training", split.training), ("holdout", split.validation)):
            assert all(sides[name.removesuffix("v1")] == side for name in names)
        held = sum(side == "holdout" for side in sides.values())
        assert held == min(round(SHARE * len(known)), len(known) - 1) or before
        before = sides


@pytest.mark.parametrize("text", ["{", "{}", '{"patients": {"A-1": "both"}}', '{"patients": 3}'])
def test_a_damaged_holdout_is_told_and_left(tmp_path, text):
    path = tmp_path / "holdout.json"
    path.write_text(text)
    with pytest.raises(HoldOutError, match=r"holdout\.json"):
        grow_holdout(path, ["A-1"], PATTERN, SHARE)
    assert path.read_text() == text


# The gate


def test_the_gate_by_hand():
    before = {"a": 0.9, "b": 0.8, "c": 0.4}
    better = judge(before, {"a": 0.9, "b": 0.85, "c": 0.4})
    assert better.is_better
    assert better.before == (pytest.approx(0.7), pytest.approx(0.4))
    assert better.after == (pytest.approx(2.15 / 3), pytest.approx(0.4))
    assert better.p is None
    # The mean rises, but the worst study falls.
    worse = judge(before, {"a": 1.0, "b": 0.9, "c": 0.39})
    assert not worse.is_better
    assert worse.reason == "worse on 3 held-out studies: mean Dice 0.7000 -> 0.7633, " \
        "worst-decile Dice 0.4000 -> 0.3900"  # fmt: skip
    assert not judge(before, {"a": 0.8, "b": 0.8, "c": 0.45}).is_better
    assert judge(before, dict(reversed(before.items()))).is_better


def test_the_gate_tests_pairs_where_there_are_enough():
    before = {str(n): 0.5 for n in range(7)}
    after = {str(n): 0.5 + 0.01 * n for n in range(7)}
    assert judge(before, after).p == pytest.approx(2 / 2**6)  # six gains of one sign


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=25))
def test_of_two_models_one_is_not_worse_unless_mean_and_worst_disagree(pairs):
    before = {str(n): a for n, (a, _) in enumerate(pairs)}
    after = {str(n): b for n, (_, b) in enumerate(pairs)}
    there, back = judge(before, after), judge(after, before)
    assert there.before == back.after
    mean, worst = np.subtract(there.after, there.before)
    assert there.is_better or back.is_better or mean * worst < 0


def test_scores_of_other_cases_are_refused():
    for other in ({}, {"b": 1.0}):
        with pytest.raises(ValueError, match="same cases"):
            judge({"a": 0.5}, other)
    with pytest.raises(ValueError, match="same cases"):
        judge({}, {})


# A round


@pytest.mark.parametrize("name", ["initial", "correction"])
def test_a_round_trains_and_the_gate_decides(studies, base, tmp_path, monkeypatch, name):
    shutil.copytree(studies, tmp_path / "studies")
    store, told = ModelStore(tmp_path / "store", base), []
    verdicts = iter([True, False])
    monkeypatch.setattr(
        "clickseg.learning.update.judge",
        lambda a, b: replace(judge(a, b), is_better=next(verdicts)),
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
    assert last_outcome(store, name)["version"] == outcome.version
    store.load()
    # Another label, another round: worse, so the first one stays.
    write_case(tmp_path / "studies", "VS-9", (33, 26, 9), 4.5)
    second = update_model(name, tmp_path / "studies", store, short())
    assert not second.is_published
    assert store.current()[name] == outcome.version == second.version


def test_the_same_labels_are_not_published_twice(studies, base, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "clickseg.learning.update.judge", lambda a, b: replace(judge(a, b), is_better=True)
    )
    shutil.copytree(studies, tmp_path / "studies")
    store = ModelStore(tmp_path / "store", base)
    first = update_model("initial", tmp_path / "studies", store, short())
    second = update_model("initial", tmp_path / "studies", store, short())
    assert not second.is_published
    assert "nothing new was accepted" in second.reason
    assert [one.number for one in store.versions("initial")] == [0, 1]
    assert second.version == first.version


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_labels_are_told(studies, base, tmp_path, count):
    shutil.copytree(studies, tmp_path / "studies")
    for path in sorted((tmp_path / "studies/labels/final").iterdir())[count:]:
        path.unlink()
    with pytest.raises(UpdateError, match=f"at least 3 patients .* labels of {count}$"):
        update_model("initial", tmp_path / "studies", ModelStore(tmp_path / "s", base), short())
    assert not (tmp_path / "studies" / ".clickseg").exists()


def test_a_corrupt_study_among_good_ones_is_left_out(studies, base, tmp_path, caplog):
    shutil.copytree(studies, tmp_path / "studies")
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


def test_an_empty_mask_trains_too(studies, base, tmp_path):
    shutil.copytree(studies, tmp_path / "studies")
    write_case(tmp_path / "studies", "VS-7", (30, 26, 9), -1.0)
    for name in ("initial", "correction"):
        store = ModelStore(tmp_path / "store", base)
        assert update_model(name, tmp_path / "studies", store, short()).training == 4


def test_a_round_that_was_killed_goes_on(studies, base, tmp_path):
    """Killed after its first epoch, at the worst moment: everything is in memory yet."""
    shutil.copytree(studies, tmp_path / "studies")
    whole = ModelStore(tmp_path / "whole", base)
    update_model("initial", tmp_path / "studies", whole, short())

    class Killed(BaseException):
        pass

    epochs = []

    def killed(progress):
        epochs.append(progress.epoch)
        if progress.epoch == 2:
            raise Killed

    store = ModelStore(tmp_path / "store", base)
    with pytest.raises(Killed):
        update_model("initial", tmp_path / "studies", store, short(), watch=killed)
    assert store.current()["initial"] == BASE
    update_model(
        "initial", tmp_path / "studies", store, short(), watch=lambda p: epochs.append(p.epoch)
    )
    assert epochs == [1, 2, 3]
    hashes = [
        read_manifest(
            next((one.folder / "rounds/initial").glob("*/initial.json")).parent, "initial"
        )
        for one in (whole, store)
    ]
    assert hashes[0].sha256 == hashes[1].sha256  # as if nothing had happened


def test_a_full_disk_in_a_round_leaves_the_published_model(studies, base, tmp_path, monkeypatch):
    shutil.copytree(studies, tmp_path / "studies")
    store = ModelStore(tmp_path / "store", base)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loop, "_save", full)
    with pytest.raises(OSError, match="No space"):
        update_model("initial", tmp_path / "studies", store, short())
    assert store.current()["initial"] == BASE
    with store.training("initial"):  # the lock was given back
        pass


def test_the_published_recipe_is_not_updated(tmp_path):
    network = build_network("dynunet", tiny().correction.network.arguments)
    recipe = Path(__file__).parents[2] / "configs" / "published.yaml"
    from clickseg.config import as_values, load_config

    for name in ("initial", "correction"):
        save_model(tmp_path, network, Manifest(name, as_values(load_config(recipe)), {}, {}))
    with pytest.raises(UpdateError, match="whole_volume and paste"):
        update_model("initial", tmp_path, ModelStore(tmp_path / "s", tmp_path), short())


def test_the_command_says_how_it_ended(studies, base, tmp_path):
    shutil.copytree(studies, tmp_path / "studies")
    run = CliRunner().invoke
    update = tmp_path / "update.yaml"
    fit = "{epochs: 1, steps_per_epoch: 1, batch: 1, optimizer: adamw, rate: 0.1, " \
        "schedule: poly, bfloat16: false, average: 0}"  # fmt: skip
    update.write_text(
        "holdout: 0.2\nsmallest: 3\nreplay: 0\naccepted: 0.5\nclicks: 1\nrecorded: 0.5\n"
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
