import gc
import platform

import pytest

from clickseg_app.memory import keep_freed_memory, keep_what_is_loaded


def test_the_c_library_takes_both_settings():
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False


@pytest.fixture
def _as_before():
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_as_before")
def test_what_exists_is_left_out_of_garbage_collections():
    keep_what_is_loaded()
    assert gc.get_freeze_count() > 1000
