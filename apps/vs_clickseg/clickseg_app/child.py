"""``python -m clickseg_app.child``: ``clickseg score``, until its standard input ends.

The server that started it holds the other end; when it is gone, however it went, this ends too.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

from clickseg.cli import main

STANDARD_INPUT = 0


def end_with_the_server() -> None:
    """See to it that this process ends when its standard input does."""
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    # Not sys.stdin: a thread that waits in it holds its lock, and a process that comes to its
    # normal end meanwhile is aborted ("Fatal Python error: _enter_buffered_busy").
    while os.read(STANDARD_INPUT, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # wakes the main thread wherever it waits


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End as an error would: files that are half written are removed on the way out."""
    sys.exit(1)


if __name__ == "__main__":
    end_with_the_server()
    sys.argv = ["clickseg", "score", *sys.argv[1:]]
    main()
