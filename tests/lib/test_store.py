"""Published models: versions, which one counts, and the way back."""

import json
import shutil
import threading
import time
from contextlib import nullcontext
from functools import partial

import pytest
from tiny import tiny
from typer.testing import CliRunner

from clickseg.cli import app
from clickseg.learning import store as store_module
from clickseg.learning.store import BASE, KEPT, ModelStore, StoreBusyError, published_in
from clickseg.modelfile import (
    Manifest,
    ModelError,
    check_weights,
    read_manifest,
    save_model,
)
from clickseg.networks import build_network


def made(folder, seed, name="initial"):
    """A model file of another hash for each seed."""
    recipe = tiny().correction.network
    network = build_network(recipe.name, recipe.arguments)
    for parameter in network.parameters():
        parameter.data.fill_(seed)
    manifest = Manifest(name, {}, {"source": f"[x] seed {seed}"}, {})
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


@pytest.mark.parametrize(("where", "name"), [(shutil, "copyfile"), (ModelStore, "_set")])
def test_a_publication_that_fails_leaves_the_published_model(
    tmp_path, base, monkeypatch, where, name
):
    store = ModelStore(tmp_path / "store", base)
    first = store.publish("initial", made(tmp_path, 1)[1])

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(where, name, full)
        with pytest.raises(OSError, match="No space"):
            store.publish("initial", made(tmp_path, 2)[1])
    assert store.versions("initial")[-1].version == first.version == store.current()["initial"]
    assert not list((tmp_path / "store").rglob(".part-*"))
    assert store.publish("initial", made(tmp_path, 2)[1]).number == 2


def test_a_publication_that_is_interrupted_after_it_counts_stays_whole(tmp_path, base, monkeypatch):
    store = ModelStore(tmp_path / "store", base)
    flush_names = store_module._flush_names

    def stopped(error, folder):
        flush_names(folder)
        if folder == store.folder:
            raise error

    for seed, error in ((1, KeyboardInterrupt()), (2, OSError(5, "Input/output error"))):
        with monkeypatch.context() as patched:
            patched.setattr(store_module, "_flush_names", partial(stopped, error))
            with pytest.raises(KeyboardInterrupt) if seed == 1 else nullcontext():
                store.publish("initial", made(tmp_path, seed)[1])
        version = store.version("initial")
        assert version.number == seed
        check_weights(version.folder, version.manifest())


def test_an_old_version_that_cannot_be_removed_costs_nothing(tmp_path, base, monkeypatch, caplog):
    store = ModelStore(tmp_path / "store", base)

    def refused(*_, ignore_errors=False):
        if not ignore_errors:
            raise PermissionError(13, "Permission denied")

    for seed in range(1, KEPT + 3):
        with monkeypatch.context() as patched:
            if seed > KEPT:
                patched.setattr(shutil, "rmtree", refused)
            store.publish("initial", made(tmp_path, seed)[1])
    assert [one.number for one in store.versions("initial")] == [0, 3, 4, 5, 6, 7]
    assert "Permission denied" in caplog.text
    store.publish("initial", made(tmp_path, KEPT + 3)[1])
    assert not list((tmp_path / "store").rglob(".part-*"))


def test_a_version_that_never_counted_is_told_from_one_that_was_gone_back_from(
    tmp_path, base, monkeypatch
):
    store = ModelStore(tmp_path / "store", base)
    with monkeypatch.context() as patched:  # killed before it counted
        patched.setattr(ModelStore, "_set", lambda *_: None)
        patched.setattr(ModelStore, "version", lambda *_: None)
        store.publish("initial", made(tmp_path, 1)[1])
    assert [store.is_unfinished(one) for one in store.versions("initial")] == [False, True]
    store.publish("initial", made(tmp_path, 2)[1])
    store.publish("initial", made(tmp_path, 3)[1])
    store.rollback("initial", BASE)
    assert not any(store.is_unfinished(one) for one in store.versions("initial")[2:])


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


def test_asking_who_trains_is_in_nobodys_way(tmp_path, base):
    store, asking = ModelStore(tmp_path / "store", base), threading.Event()

    def ask():
        with store._training_lock("initial"):
            asking.set()
            time.sleep(0.1)

    store.folder.mkdir()
    thread = threading.Thread(target=ask)
    thread.start()
    asking.wait()
    with store.training("initial"):
        assert store.is_training("initial")
    thread.join()


def test_each_base_has_a_store_of_its_own(tmp_path, base):
    other = tmp_path / "other"
    shutil.copytree(base, other)
    assert published_in(tmp_path, base) == published_in(tmp_path, other)
    values = json.loads((other / "initial.json").read_text()) | {"sha256": "ab" * 32}
    (other / "initial.json").write_text(json.dumps(values))
    assert published_in(tmp_path, base) != published_in(tmp_path, other)
    assert published_in(tmp_path, tmp_path / "none").name == "published-none-none"


def test_a_store_serves_no_other_base(base, tmp_path):
    store = ModelStore(tmp_path / "store", base)
    store.publish("initial", made(tmp_path, 1)[1])
    other = tmp_path / "other"
    shutil.copytree(base, other)
    values = json.loads((other / "initial.json").read_text()) | {"sha256": "ab" * 32}
    (other / "initial.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match="of another base"):
        ModelStore(tmp_path / "store", other).load()
    # One that is named for its base, before anything is published.
    ModelStore(published_in(tmp_path, base), base).load()
    with pytest.raises(ModelError, match="of another base"):
        ModelStore(published_in(tmp_path, base), other).load()
    with pytest.raises(ModelError, match="of another base"):
        ModelStore(tmp_path / "store", other).publish("initial", made(tmp_path, 2)[1])


def test_the_way_back_is_open_when_the_list_is_damaged(base, tmp_path):
    store = ModelStore(tmp_path / "store", base)
    store.publish("initial", made(tmp_path, 1)[1])
    (tmp_path / "store/current.json").write_text("{")
    assert store.rollback("initial", BASE).is_current
    assert store.current() == {"initial": BASE, "correction": BASE}


def test_what_a_killed_publication_left_is_cleared(base, tmp_path):
    store = ModelStore(tmp_path / "store", base)
    left = tmp_path / "store/versions/initial/.part-x"
    left.mkdir(parents=True)
    (left / "initial.pt").write_bytes(b"half")
    store.publish("initial", made(tmp_path, 1)[1])
    assert not left.exists()


def test_the_command_lists_what_is_damaged_and_goes_back_from_it(tmp_path, base):
    store, run = ModelStore(tmp_path / "store", base), CliRunner().invoke
    where = ["--store", str(store.folder), "--base", str(base)]
    for seed in (1, 2):
        version = store.publish("correction", made(tmp_path, seed, "correction")[1])
    (version.folder / "correction.json").write_text("{")
    listed = run(app, ["models", "list", *where], env={"COLUMNS": "300"})
    assert listed.exit_code == 0
    assert "damaged" in listed.output
    assert "[x] seed 1" in listed.output
    gone_back = run(app, ["models", "rollback", "click", *where])  # as viewers call it
    assert gone_back.exit_code == 0, gone_back.output
    assert store.version("correction").number == 1
    other = run(app, ["models", "list", "--store", str(store.folder)])
    assert isinstance(other.exception, ModelError)
    assert "another base" in str(other.exception)
