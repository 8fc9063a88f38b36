"""Files that have come, shown by the desktop's own program for them (``xdg-open``).

The program is started in a session of its own: it is not stopped with the console by Ctrl-Z, and
has no hold on the terminal.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from chatbox.text import printable

__all__ = ["open_file"]


def open_file(reactor: Any, path: str, tell: Callable[[str], None]) -> None:
    """Show the file at the absolute `path`; `tell` hears in a sentence why that cannot be."""
    program, session = shutil.which("xdg-open"), shutil.which("setsid")
    has_desktop = any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if path.casefold().endswith(".desktop"):
        tell(f"{printable(path)} would be run, not shown: it is not opened.")
    elif program is None or session is None or not has_desktop:
        tell(f"There is no desktop here that opens files. It is at {printable(path)}")
    else:
        nowhere = os.open(os.devnull, os.O_RDWR)
        try:
            reactor.spawnProcess(
                _Opening(path, tell),
                session,
                ["setsid", program, path],
                env=None,  # ours
                childFDs=dict.fromkeys(range(3), nowhere),
            )
        finally:
            os.close(nowhere)


class _Opening(ProcessProtocol):
    """Hears how it went."""

    def __init__(self, path: str, tell: Callable[[str], None]) -> None:
        self._path = path
        self._tell = tell

    def processEnded(self, reason: Failure) -> None:
        """Say so if it did not work."""
        if not reason.check(ProcessDone):
            self._tell(f"Nothing here opens that file. It is at {printable(self._path)}")
