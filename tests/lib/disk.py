"""A disk that is full, as far as this process is concerned."""

import resource
import sys
from contextlib import contextmanager


@contextmanager
def full_disk(room):
    """Let no file grow beyond so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python, too, would keep half of the bytecode of a module that is imported meanwhile.
    writes_none, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        sys.dont_write_bytecode = writes_none
