"""Threads that may be refused: a system, or a container, has only so many."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

__all__ = ["start_thread"]


def start_thread(run: Callable[[], None], name: str, *, daemon: bool = True) -> threading.Thread:
    """Have a thread call `run`; as a daemon the program does not wait for it at its end.

    Raises OSError if there is no room for one more.
    """
    thread = threading.Thread(target=run, name=name, daemon=daemon)
    try:
        thread.start()
    except RuntimeError as error:  # so Python says it, without a number
        raise OSError(errno.EAGAIN, "No more threads can be had") from error
    return thread
