"""Which servers a client talks to over TLS: those that an authority vouches for, or that it knows.

Most chat servers are somebody's machine with a certificate of its own making, and no authority says
whose it is. Such a server is known as ssh knows its hosts: by the fingerprint of its key, which a
person compares once, and which is remembered under its place, ``host:port``, in a small text file.
A server that comes with another key is refused, whatever it says, until a person removes the line.

- vouched for by an authority: welcome, and not remembered, for the authority may vouch for the
  next key as well;
- known, with the same key: welcome;
- known, with another key: refused;
- not known: a person decides, or whoever stands in for one, and then it is known.

If a person has said in advance which key it must be, nothing else counts.

The file is read at each meeting, so that a line that was removed is gone at once. Nothing here has
sockets; the handshake is in `chatbox.client.connect.secure`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from typing import Final

from chatbox.certificates import parse_fingerprint, show_fingerprint
from chatbox.client.exits import Exit, Stop
from chatbox.client.words import os_error_text
from chatbox.files import write_whole
from chatbox.text import printable

__all__ = ["FILE_NAME", "KnownServers", "Meeting", "Trust", "Verdict", "place_of"]

FILE_NAME: Final = "known-servers"
"""What the file is called in the state directory."""

MAX_FILE_BYTES: Final = 1 << 20
"""Ten thousand servers; a longer file is something else."""


class Verdict(Enum):
    """What is to be done about a server that can be talked to."""

    WELCOME = "welcome"
    ASK = "ask"
    """It is new; a person should look at its fingerprint."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """A server, as it has shown itself."""

    place: str
    """Where: see `place_of`."""
    fingerprint: str
    """Of its public key: see `chatbox.certificates`."""
    doubt: str | None
    """Why no authority vouches for it, in a few words; None if one does."""

    def introduce(self) -> list[str]:
        """Say who this is, in lines for a person who does not know it yet."""
        return [
            f"{self.place} is new to this client, and no authority vouches for it"
            f" ({printable(self.doubt or '')}). The fingerprint of its key is",
            *_rows(self.fingerprint),
            "The server has written its own into its log when it started. They must be the same.",
        ]


class KnownServers:
    """The file that remembers servers: lines of a place, a blank, and a fingerprint."""

    def __init__(self, path: str | None = None) -> None:
        self._path = path

    @property
    def path(self) -> str:
        """Where it is: by default where the system has such files."""
        if self._path is None:
            from platformdirs import user_state_dir

            self._path = os.path.join(user_state_dir("chatbox"), FILE_NAME)
        return self._path

    def find(self, place: str) -> str | None:
        """Return the fingerprint of the server at `place`, None if it is not known.

        Raises OSError, or Stop if the file makes no sense: it may be about this very server.
        """
        return self._read().get(place)

    def remember(self, place: str, fingerprint: str) -> None:
        """Add a line, or replace the one about this place. Raises OSError or Stop."""
        known = self._read()
        known[place] = fingerprint
        lines = [f"{place} {show_fingerprint(digits)}\n" for place, digits in known.items()]
        write_whole(self.path, "".join(lines).encode())

    def _read(self) -> dict[str, str]:
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                text = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return {}
        known = {}
        for number, line in enumerate(text.splitlines(), 1):
            place, _, fingerprint = line.strip().partition(" ")
            if not place or place.startswith("#"):
                continue
            try:
                known[place] = parse_fingerprint(fingerprint)
            except ValueError as error:
                raise Stop(
                    Exit.NOT_TRUSTED,
                    f"Line {number} of {printable(self.path)} is no known server: {error}"
                    " Mend the line or remove it.",
                ) from None
        if len(text) > MAX_FILE_BYTES:
            raise Stop(Exit.NOT_TRUSTED, f"{printable(self.path)} is too long.")
        return known


class Trust:
    """What one client knows and expects of servers; `expected` is a fingerprint."""

    def __init__(self, known: KnownServers | None = None, expected: str | None = None) -> None:
        self._known = known or KnownServers()
        self._expected = expected
        self._met: dict[str, str] = {}
        """Servers accepted by this process, which stay the same while it runs."""

    def judge(self, meeting: Meeting) -> Verdict:
        """Look at a server. Raises Stop, with a sentence that says what to do, if it is refused."""
        if self._expected is not None:
            if meeting.fingerprint != self._expected:
                raise Stop(
                    Exit.NOT_TRUSTED,
                    f"{meeting.place} is not the server that you expect: the fingerprint of its"
                    f" key is\n{_block(meeting.fingerprint)}\nand not, as --fingerprint says,\n"
                    f"{_block(self._expected)}",
                )
            return Verdict.WELCOME
        if meeting.doubt is None:
            return Verdict.WELCOME
        known = self._met.get(meeting.place) or self._find(meeting.place)
        if known is None:
            return Verdict.ASK
        if known == meeting.fingerprint:
            return Verdict.WELCOME
        raise Stop(
            Exit.NOT_TRUSTED,
            f"{meeting.place} HAS ANOTHER KEY than before. Either its operator has made a new one,"
            " or somebody stands in between and would read and change what you say. Nothing has"
            f" been sent. The fingerprint was\n{_block(known)}\nand is now\n"
            f"{_block(meeting.fingerprint)}\nIf the operator tells you that this is right, remove"
            f" the line that begins with {meeting.place} from {printable(self._known.path)} and"
            " come again.",
        )

    def accept(self, meeting: Meeting) -> None:
        """Know this server from now on. Raises Stop if that cannot be written down."""
        try:
            self._known.remember(meeting.place, meeting.fingerprint)
        except OSError as error:
            raise Stop(
                Exit.NOT_TRUSTED,
                f"The server cannot be remembered: {os_error_text(error)} Mend that, or say"
                f" --fingerprint {meeting.fingerprint}",
            ) from None
        self._met[meeting.place] = meeting.fingerprint

    def _find(self, place: str) -> str | None:
        try:
            return self._known.find(place)
        except OSError as error:
            raise Stop(
                Exit.NOT_TRUSTED, f"The known servers cannot be read: {os_error_text(error)}"
            ) from None


def place_of(host: str, port: int) -> str:
    """Write where a server is, as it is remembered: ``host:port``, IPv6 in square brackets."""
    host = printable(host.lower())
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _rows(fingerprint: str) -> list[str]:
    shown = show_fingerprint(fingerprint)
    half = len(shown) // 2
    return [f"    {shown[:half].strip()}", f"    {shown[half:].strip()}"]


def _block(fingerprint: str) -> str:
    return "\n".join(_rows(fingerprint))
