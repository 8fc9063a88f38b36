"""Hosting a room from the window, as far as it is words: the plan, and what the server's log says.

The server is a `twistd chatbox` of its own, so it is tuned and tested as any other. What it says is
read line by line, for what the window must know: that it listens, or why it does not, and the
fingerprint of its key if it speaks TLS.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final

from chatbox.certificates import parse_fingerprint
from chatbox.client.connect.hosts import split_host
from chatbox.client.exits import Exit, Stop
from chatbox.descriptions import (
    DEFAULT_PORT,
    DEFAULT_TLS_PORT,
    DEFAULT_UDP_PORTS,
    SELF_SIGNED,
)
from chatbox.text import printable
from chatbox.units import parse_rate

__all__ = ["Plan", "Report", "address_for_others"]

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
    limit: str = ""
    """What all downloads together may take a second, as it was typed; blank for no limit."""
    tls: bool = False
    """Whether one comes in with TLS, or without."""

    def arguments(self, state_dir: str) -> list[str]:
        """What follows ``twistd``. Raises Stop with a sentence if the plan makes no sense."""
        port = split_host(f"localhost:{self.port.strip() or DEFAULT_PORT}")
        if port is None:
            raise Stop(Exit.USAGE, "A port is a number from 1 to 65535.")
        folder = os.path.abspath(os.path.expanduser(self.folder.strip()))
        if not self.folder.strip() or not os.path.isdir(folder):
            raise Stop(Exit.USAGE, "Choose a folder that exists; its files will be shared.")
        limit = self.limit.strip()
        try:
            parse_rate(limit or "1MB")
        except ValueError as error:
            raise Stop(Exit.USAGE, printable(str(error))) from None
        listen, udp = f"{SELF_SIGNED if self.tls else ''}tcp:{port[1]}", DEFAULT_UDP_PORTS
        if not self.for_everyone:
            listen, udp = f"{listen}:interface=127.0.0.1", "0"
        return [
            *("--nodaemon", "--pidfile=", "chatbox", "--listen", listen, "--udp-ports", udp),
            *("--files", folder, "--state-dir", state_dir),
            *(("--max-rate", limit) if limit else ()),
        ]


class Report:
    """What a server has said about itself."""

    def __init__(self) -> None:
        self.port: int | None = None
        """The TCP port where it listens; None before it does."""
        self.fingerprint: str | None = None
        """Of its key; None if it does not speak TLS, or before it does."""
        self._wants_tls = False
        self._last: list[str] = []

    @property
    def is_ready(self) -> bool:
        """Whether one can join. The port is there before its certificate."""
        return self.port is not None and (self.fingerprint is not None or not self._wants_tls)

    def read(self, line: str) -> None:
        """Take a line of its log."""
        self._last = [*self._last, line][-_KEPT_LINES:]
        if found := re.search(r"\bits fingerprint is ([0-9a-f ]+)$", line):
            self.fingerprint = parse_fingerprint(found[1])
        if found := re.search(r"\bChat( \(TLS\))? starting on (\d+)$", line):
            self._wants_tls, self.port = bool(found[1]), int(found[2])

    def why_it_ended(self) -> str:
        """A sentence for somebody whose server has ended."""
        for line in reversed(self._last):
            if found := re.search(
                r"Couldn't listen on .*?:(\d+): (?:\[Errno \d+\] )?([^.]*\.)", line
            ):
                port, why = found.groups()
                if "in use" in why:
                    return f"Another program uses port {port} already. Choose another port."
                return f"Port {port} cannot be used: {printable(why)}"
        last = next((line for line in reversed(self._last) if line.strip()), "")
        said = re.sub(r"^\S+ \[[^\]]*\] |^.*?: (?=--)", "", last).strip()
        return f"The server has stopped: {printable(said)}" if said else "The server has stopped."


def address_for_others(address: str, port: int, tls: bool = False) -> str:
    """What others type to come here."""
    if port == (DEFAULT_TLS_PORT if tls else DEFAULT_PORT):
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
