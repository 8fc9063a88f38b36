"""A file for what goes wrong by mistakes of ours: who starts the window from a menu sees no other.

It holds warnings and worse, of the window and of all that it is made of, and is small: when it is
full it is put aside, in the place of the one before.
"""

from __future__ import annotations

import os
from typing import Final

from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogPublisher,
    textFileLogObserver,
)
from twisted.python.logfile import LogFile

__all__ = ["MAX_LOG_BYTES", "Mistakes"]

MAX_LOG_BYTES: Final = 100_000
"""Some fifty tracebacks; the file that was put aside has as many."""


class Mistakes:
    """Writes them into a file in `folder`, from now on until it is closed."""

    def __init__(self, folder: str) -> None:
        self.path = ""
        """The file; blank if none can be written."""
        try:
            os.makedirs(folder, exist_ok=True)
            self._file = LogFile(
                "log.txt", folder, rotateLength=MAX_LOG_BYTES, maxRotatedFiles=1, defaultMode=0o600
            )
        except OSError:
            return
        self.path = self._file.path
        write = textFileLogObserver(self._file)  # type: ignore[arg-type]  # it takes text
        # Twisted's own way stays as it is: what is critical goes to standard error, too.
        self._observer = FilteringLogObserver(write, [LogLevelFilterPredicate(LogLevel.warn)])
        globalLogPublisher.addObserver(self._observer)

    def close(self) -> None:
        """Write no more."""
        if self.path:
            globalLogPublisher.removeObserver(self._observer)
            self._file.close()
            self.path = ""
