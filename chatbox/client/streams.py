"""The standard streams, which may be closed, full, or pipes that nobody reads any more.

Standard error is for people: what cannot be said there is lost, and the command goes on. Standard
output is for results: where those cannot be written, the command has failed.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from chatbox.client.exits import Exit
from chatbox.text import printable

__all__ = ["complain", "complain_of", "open_streams"]


class _Forgiving(io.FileIO):
    """Loses what it cannot write."""

    def write(self, data: Any, /) -> int:
        """Write it, or do as if."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def open_streams() -> None:
    """See to it that there are three streams, which take whatever we print. Before any file is
    opened: one that is closed leaves its number to the next file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))
    errors = sys.stderr
    if isinstance(errors, io.TextIOWrapper) and errors is sys.__stderr__:  # none of a test's
        raw = _Forgiving(errors.fileno(), "w", closefd=False)
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), errors.encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name may have letters that a terminal has not


def complain(sentence: str) -> None:
    """Say on standard error what is wrong."""
    print(f"chatbox: {sentence}", file=sys.stderr)


def complain_of(error: OSError) -> Exit:
    """Say what the system refused, and return how the command ends.

    If that was to write our output because whoever read it is gone, nobody needs to be told.
    """
    what = "The system refuses" if error.filename is None else os.fsdecode(error.filename)
    try:
        sys.stdout.flush()
    except OSError as unwritten:
        error = unwritten
        what = "The output cannot be written"
        # Python must not try again when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        complain(printable(f"{what}: {error.strerror or error}."))
    return Exit.FAILED
