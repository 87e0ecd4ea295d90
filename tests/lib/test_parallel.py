import os
import signal
import time
from pathlib import Path

import pytest

from clickseg.parallel import WorkerError, in_processes

FACTOR = 1


def multiply_by(factor):
    global FACTOR  # what a worker is prepared with
    FACTOR = factor


def multiply(number):
    return FACTOR * number


def work(piece):
    """Leave a mark at the end, unless told to fail; the slow pieces take longer than any test."""
    folder, name = piece
    if name == "fails":
        raise ValueError(name)
    if name == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600 if name == "slow" else 0)
    (folder / name).touch()
    return name


def test_all_is_done_once_in_prepared_processes():
    done = dict(in_processes(multiply, range(7), 2, multiply_by, (3,)))
    assert done == {number: 3 * number for number in range(7)}
    assert dict(in_processes(multiply, [], 2)) == {}


@pytest.mark.parametrize(("name", "error"), [("fails", ValueError), ("is killed", WorkerError)])
def test_an_error_ends_what_is_under_way_and_nothing_else_begins(tmp_path, name, error):
    pieces = [(tmp_path, one) for one in ("slow", name, "after 1", "after 2")]
    with pytest.raises(error):
        list(in_processes(work, pieces, 2))
    assert not list(Path(tmp_path).iterdir())


def test_whoever_stops_asking_ends_the_others(tmp_path):
    pieces = [(tmp_path, one) for one in ("quick", "slow", "slow", "slow")]
    done = in_processes(work, pieces, 2)
    assert next(done) == (0, "quick")
    done.close()
    assert [path.name for path in tmp_path.iterdir()] == ["quick"]
