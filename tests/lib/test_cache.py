import os
import threading

import pytest

from clickseg.cache import SETTLED_NS, ByteCache, Fingerprints
from clickseg.volume import ImageError

LATER_NS = 10 * SETTLED_NS


def kept(cache, *keys):
    return [key for key in keys if cache.get(key) is not None]


def test_what_was_used_longest_ago_goes_first():
    cache = ByteCache(10)
    cache.put("a", "A", 4)
    cache.put("b", "B", 4)
    cache.get("a")
    cache.put("c", "C", 4)
    assert cache.nbytes == 8
    assert kept(cache, "a", "b", "c") == ["a", "c"]


def test_a_value_larger_than_the_cache_is_not_kept_and_drives_nothing_out():
    cache = ByteCache(10)
    cache.put("a", "A", 4)
    cache.put("b", "B", 11)
    assert kept(cache, "a", "b") == ["a"]


def test_a_new_value_takes_the_place_of_the_old_one():
    cache = ByteCache(10)
    cache.put("a", "A", 4)
    cache.put("a", "B", 9)
    assert (cache.get("a"), cache.nbytes, len(cache)) == ("B", 9, 1)
    cache.put("a", "C", 99)
    assert (cache.get("a"), cache.nbytes, len(cache)) == (None, 0, 0)


def test_a_cleared_cache_is_empty():
    cache = ByteCache(10)
    cache.put("a", "A", 4)
    cache.clear()
    assert (cache.nbytes, len(cache)) == (0, 0)


def test_many_threads_leave_the_count_of_bytes_right():
    cache = ByteCache(100)

    def work(seed):
        for n in range(300):
            cache.put((seed * n) % 17, n, 1 + n % 13)
            cache.get(n % 17)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (3, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.nbytes <= 100
    assert cache.nbytes == sum(entry.nbytes for entry in cache._entries.values())


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.nrrd"
    path.write_bytes(b"tumor")
    return path


def clock_at(path, after_ns):
    """A clock that stands still, so long after the last change of a file."""
    return lambda: path.stat().st_ctime_ns + after_ns


def count_reads(monkeypatch):
    reads = []
    monkeypatch.setattr("clickseg.cache._digest", lambda path: reads.append(path) or "digest")
    return reads


def test_a_file_that_nobody_touched_is_read_once(path, monkeypatch):
    reads = count_reads(monkeypatch)
    fingerprint = Fingerprints(clock_at(path, LATER_NS))
    fingerprint(path)
    fingerprint(path)
    assert len(reads) == 1


def test_a_file_changed_just_now_is_read_again(path, monkeypatch):
    reads = count_reads(monkeypatch)
    fingerprint = Fingerprints(clock_at(path, SETTLED_NS - 1))
    fingerprint(path)
    fingerprint(path)
    assert len(reads) == 2


def test_a_touched_or_copied_file_keeps_its_name(path, tmp_path):
    fingerprint = Fingerprints(clock_at(path, LATER_NS))
    before = fingerprint(path)
    os.utime(path, ns=(1, 1))
    assert fingerprint(path) == before
    copy = tmp_path / "b.nrrd"
    copy.write_bytes(b"tumor")
    copy.replace(path)
    assert fingerprint(path) == before


def test_a_changed_file_of_the_same_size_and_date_gets_another_name(path):
    fingerprint = Fingerprints(clock_at(path, LATER_NS))
    before, times = fingerprint(path), path.stat()
    path.write_bytes(b"TUMOR")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint(path) != before


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"there is no image gone\.nii"):
        Fingerprints()(tmp_path / "gone.nii")


def test_a_file_that_keeps_changing_is_refused(path, monkeypatch):
    monkeypatch.setattr(
        "clickseg.cache._digest", lambda path: path.write_bytes(path.read_bytes() + b"!")
    )
    with pytest.raises(ImageError, match="is being written"):
        Fingerprints()(path)
