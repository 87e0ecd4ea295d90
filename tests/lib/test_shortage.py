"""A round of learning that runs out of memory or disk: a sentence, and no harm."""

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from monai.transforms import Compose
from tiny import short

from clickseg.learning.store import BASE, ModelStore
from clickseg.learning.update import UpdateError, update_model
from clickseg.machine import is_out_of_memory
from clickseg.modelfile import read_manifest
from clickseg.training.loop import save_tensors

SAID = {"memory": "initial is not trained, memory is not enough", "disk": "File too large"}


def config(batch):
    fit = short().segment
    return short(locate=replace(fit, epochs=1), segment=replace(fit, batch=batch))


def limit(what):
    """Take away what is left, as far as this process is concerned."""
    if what == "memory":
        room = psutil.Process().memory_info().vms + (24 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
    if what == "disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


@pytest.mark.parametrize("what", ["memory", "disk"])
def test_a_shortage_is_told_and_harms_nothing(small_studies, base, tmp_path, what):
    batch = 40 if what == "memory" else 1
    words = [what, batch, small_studies, base, tmp_path / "store"]
    done = subprocess.run(
        [sys.executable, __file__, *map(str, words)],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert SAID[what] in done.stdout
    store = ModelStore(tmp_path / "store", base)
    assert store.current() == {"initial": BASE, "correction": BASE}
    assert not list((tmp_path / "store").rglob(".part-*"))
    # The next start is not in the way of what is left, and comes to its end.
    outcome = update_model("initial", small_studies, store, config(1))
    assert outcome.verdict is not None
    made = next((tmp_path / "store/rounds/initial").glob("*/initial.json")).parent
    whole = ModelStore(tmp_path / "whole", base)
    update_model("initial", small_studies, whole, config(1))
    other = next((tmp_path / "whole/rounds/initial").glob("*/initial.json")).parent
    assert read_manifest(made, "initial").sha256 == read_manifest(other, "initial").sha256


def test_errors_of_memory_are_told_from_others():
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(1 << 60, dtype=np.uint8)
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(of_numpy.value)
    assert is_out_of_memory(of_torch.value)
    with pytest.raises(RuntimeError, match="applying transform") as of_monai:
        Compose([lambda _: np.empty(1 << 60, dtype=np.uint8)])(0)
    assert is_out_of_memory(of_monai.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("could not create a primitive"))  # oneDNN, under a limit
    assert not is_out_of_memory(RuntimeError("Connection closed by peer"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_tensors_that_cannot_be_written_leave_the_file_that_was_there(tmp_path):
    path = tmp_path / "a.pt"
    save_tensors(path, {"a": torch.arange(3)})
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):  # a folder is in the way
        save_tensors(tmp_path / "folder", {"a": torch.arange(5)})
    assert torch.load(path, weights_only=True)["a"].tolist() == [0, 1, 2]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.pt", "folder"]


if __name__ == "__main__":
    kind, batch, studies, base_folder, folder = sys.argv[1:]
    torch.set_num_threads(1)
    try:
        update_model(
            "initial", Path(studies), ModelStore(Path(folder), Path(base_folder)),
            config(int(batch)), watch=lambda _: limit(kind),
        )  # fmt: skip
    except UpdateError as error:
        print(error)  # noqa: T201
        sys.exit(3)
