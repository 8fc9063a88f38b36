"""A ``twistd`` that lives as long as whoever started it.

Its standard input is a pipe that nobody writes to. When the other end is closed, on purpose or
because the window was killed, the server is asked to stop, as by any SIGTERM.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Final

PATIENCE: Final = 15.0
"""Seconds that the server may take to stop before it is stopped without being asked."""


def main() -> None:
    """Run ``twistd`` with the arguments of this program."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    from twisted.scripts.twistd import run

    run()


def _follow_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)


if __name__ == "__main__":
    main()
