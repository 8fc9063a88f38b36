"""``chatbox ...`` as a user starts it, after its imports and a stamp of when it begins.

ours.py [--hold] WORD...       --hold: be ready, then wait for a line of standard input
"""

from __future__ import annotations

import contextlib
import importlib
import sys

import stamps


def main() -> None:
    """Load what the command will need, stamp, and become the command."""
    command = importlib.import_module("chatbox.client.main")
    # What is loaded only when it is first needed is loaded now. The reactor itself is left to it.
    for name in (
        "twisted.internet.epollreactor",
        "chatbox.client.errands.get",
        "chatbox.rdt.fetch",
    ):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    words = sys.argv[1:]
    if words[0] == "--hold":
        words = words[1:]
        stamps.begin()
        sys.stdin.readline()
    sys.argv = ["chatbox", *words]
    stamps.begin()
    sys.exit(command.main())


if __name__ == "__main__":
    main()
