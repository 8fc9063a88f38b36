"""Keeps a daemon for as long as a test is there: ``python keeper.py PID_FILE COMMAND ...``.

A daemon is nobody's child, so that nothing ends it when a test run is killed. This runs the command
that starts it, prints its exit status, and waits until its own input ends, as it does with whoever
holds the other end. Then it kills what the pid file names, if anything still does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress


def main() -> None:
    """Start it, and see to its end."""
    os.setsid()  # what is sent to the test and all that it has started is not for us
    pid_file, *command = sys.argv[1:]
    print(subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode, flush=True)
    sys.stdin.read()
    with suppress(OSError, ValueError), open(pid_file) as file:
        os.kill(int(file.read()), signal.SIGKILL)


if __name__ == "__main__":
    main()
