"""Somebody with netcat: lines typed into a connection, and lines read from it."""

from __future__ import annotations

import re
import socket

from chatbox.chat.wire import Message, parse_line
from tests.helpers.processes import PATIENCE


class Talker:
    """One connection. Reading fails if nothing comes for `PATIENCE` seconds."""

    def __init__(self, port: int, name: str | None = None, token: str | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._lines = self._socket.makefile("rb")
        self.heard: list[Message] = []
        """All that has been read."""
        self.token = ""
        if name is not None:
            self.join(name, token)

    def __enter__(self) -> Talker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def join(self, name: str, token: str | None = None) -> None:
        """Take a name."""
        key = f"<k:{token}>" if token else ""
        self.send(f"<s:{name}><r:server:x>{key}<t:connect>")
        answer = self.read_until("connect_response")
        assert answer.text == "True", answer
        self.token = answer.key or ""

    def send(self, line: str) -> None:
        """Type a line."""
        self._socket.sendall(f"{line}\r\n".encode())

    def say(self, text: str, number: int) -> None:
        """Say something to everybody, and wait until it is in the log."""
        self.send(f"<r:all><t:message_request><m:{text}><q:{number}>")
        answer = self.read_until("message_response")
        assert (answer.text, answer.sequence) == ("True", number), answer

    def read(self) -> Message | None:
        """Read a line; None if the server has closed."""
        line = self._lines.readline()
        if not line:
            return None
        self.heard.append(parse_line(line))
        return self.heard[-1]

    def read_until(self, response: str, text: str = "") -> Message:
        """Read lines until one is such a response whose text matches."""
        while (message := self.read()) is not None:
            if message.response == response and re.search(text, message.text or ""):
                return message
        raise AssertionError(f"it closed without a {response}: {self.heard}")

    def read_to_end(self) -> list[Message]:
        """Read until the server closes; return what came."""
        before = len(self.heard)
        while self.read() is not None:
            pass
        return self.heard[before:]

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()
