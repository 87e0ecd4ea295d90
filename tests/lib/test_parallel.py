import multiprocessing
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
    if name == "tells":
        (folder / str(os.getpid())).touch()
    time.sleep(600 if name in ("slow", "tells") else 0)
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


def test_an_error_in_the_preparation_is_told_as_what_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError):
        list(in_processes(work, [(tmp_path, "a"), (tmp_path, "b")], 2, divmod, (1, 0)))
    assert not list(tmp_path.iterdir())


def test_whoever_stops_asking_ends_the_others(tmp_path):
    pieces = [(tmp_path, one) for one in ("quick", "slow", "slow", "slow")]
    done = in_processes(work, pieces, 2)
    assert next(done) == (0, "quick")
    done.close()
    assert [path.name for path in tmp_path.iterdir()] == ["quick"]


def test_no_process_outlives_the_one_it_works_for(tmp_path):
    pieces = [(tmp_path, one) for one in ("tells", "tells")]
    context = multiprocessing.get_context("spawn")
    first = context.Process(target=lead, args=(pieces,))
    first.start()
    while len(told := list(tmp_path.iterdir())) < 2:
        time.sleep(0.05)
    first.kill()
    first.join()
    # A process that is gone has no state, or waits for init to take note of it.
    states = [Path(f"/proc/{path.name}/stat") for path in told]
    for _ in range(600):
        if not any(is_running(path) for path in states):
            return
        time.sleep(0.1)
    pytest.fail("a worker goes on")


def lead(pieces):
    list(in_processes(work, pieces, 2))


def is_running(state):
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
