"""A program of ours that waits longer: ``python patient.py SECONDS PROGRAM ...``.

Nobody wants to wait for more than two seconds until a server has taken a goodbye. To a test, that
it takes longer says nothing but that the machine was busy with something else, as it may be at any
moment. What is given up only because people have other things to do has so many seconds here.

It imports nothing of the tests, which takes a while.
"""

from __future__ import annotations

import importlib
import sys
from typing import Final

_LIMITS: Final = {
    "chatbox": {
        # First of all, since the others take theirs from there.
        "chatbox.client.connect.connection": ["LEAVE_TIMEOUT"],
        "chatbox.client.console.console": ["FLUSH_TIMEOUT"],
    },
    "twistd": {
        "chatbox.lan.beside": ["STOP_TIMEOUT"],
        "chatbox.log.connect": ["COMMAND_SECONDS"],
        "chatbox.log.lease": ["LEASE_SECONDS", "FENCE_SECONDS"],
    },
}
"""By program and module, what is given up after some seconds."""


def main() -> None:
    """Run the program."""
    del sys.path[0]  # this folder
    _, seconds, program, *rest = sys.argv
    sys.argv = [program, *rest]
    for name, limits in _LIMITS[program].items():
        module = importlib.import_module(name)
        for limit in limits:
            assert hasattr(module, limit)
            setattr(module, limit, float(seconds))
    if program == "chatbox":
        from chatbox.client.main import main as run_client

        run_client()
    else:
        from twisted.scripts.twistd import run as run_server

        run_server()


if __name__ == "__main__":
    main()
