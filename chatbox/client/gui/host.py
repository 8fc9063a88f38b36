"""Hosting a room from the window, as far as it is words: the plan, and what the server's log says.

The server is a `twistd chatbox` of its own, so it is tuned and tested as any other. What it says is
read line by line, for the two things that the window must know: that it listens, and why it does
not.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final

from chatbox.client.connection import DEFAULT_PORT, split_host
from chatbox.client.exits import Exit, Stop
from chatbox.text import printable

__all__ = ["UDP_PORTS", "Plan", "Report", "address_for_others"]

UDP_PORTS: Final = "55000-55019"
"""For others, as everywhere: it is what a firewall is told."""

_KEPT_LINES: Final = 20  # enough for the reason at the end of a traceback


@dataclass(frozen=True, slots=True)
class Plan:
    """What to host."""

    folder: str
    """Whose files are shared."""
    for_everyone: bool = False
    """Whether the network may come in, or only this computer."""
    port: str = str(DEFAULT_PORT)
    """As it was typed."""

    def arguments(self, state_dir: str) -> list[str]:
        """What follows ``twistd``. Raises Stop with a sentence if the plan makes no sense."""
        port = split_host(f"localhost:{self.port.strip() or DEFAULT_PORT}")
        if port is None:
            raise Stop(Exit.USAGE, "A port is a number from 1 to 65535.")
        folder = os.path.abspath(os.path.expanduser(self.folder.strip()))
        if not self.folder.strip() or not os.path.isdir(folder):
            raise Stop(Exit.USAGE, "Choose a folder that exists; its files will be shared.")
        listen, udp = f"tcp:{port[1]}", UDP_PORTS
        if not self.for_everyone:
            listen, udp = f"{listen}:interface=127.0.0.1", "0"
        return [
            *("--nodaemon", "--pidfile=", "chatbox", "--listen", listen, "--udp-ports", udp),
            *("--files", folder, "--state-dir", state_dir),
        ]


class Report:
    """What a server has said about itself."""

    def __init__(self) -> None:
        self.port: int | None = None
        """The TCP port where it listens; None before it does."""
        self._last: list[str] = []

    def read(self, line: str) -> None:
        """Take a line of its log."""
        self._last = [*self._last, line][-_KEPT_LINES:]
        if found := re.search(r"\bChat.* starting on (\d+)$", line):
            self.port = int(found[1])

    def why_it_ended(self) -> str:
        """A sentence for somebody whose server has ended."""
        for line in reversed(self._last):
            if found := re.search(r"Couldn't listen on .*?:(\d+): (?:\[Errno \d+\] )?(.*)", line):
                port, why = found.groups()
                if "in use" in why:
                    return f"Another program uses port {port} already. Choose another port."
                return f"Port {port} cannot be used: {printable(why)}"
        last = next((line for line in reversed(self._last) if line.strip()), "")
        said = re.sub(r"^\S+ \[[^\]]*\] |^.*?: (?=--)", "", last).strip()
        return f"The server has stopped: {printable(said)}" if said else "The server has stopped."


def address_for_others(address: str, port: int) -> str:
    """What others type to come here."""
    if port == DEFAULT_PORT:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
