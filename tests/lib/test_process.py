import gc
import platform

import pytest
from threadpoolctl import ThreadpoolController

from clickseg.process import (
    keep_blas_to_one_thread,
    keep_freed_memory,
    keep_what_is_loaded,
)


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


def test_linear_algebra_is_left_one_thread():
    blas = ThreadpoolController().select(user_api="blas")
    assert blas.lib_controllers
    with blas.limit(limits=2):  # put back at the end what it was
        keep_blas_to_one_thread()
        assert {library["num_threads"] for library in blas.info()} == {1}
