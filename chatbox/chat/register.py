"""Who was here when the server stopped, kept for the server that starts next.

A stop is, more often than not, the first half of a restart. So a server that stops in good order
says of nobody that they left; it writes down who is here, and the next one takes them for here from
its start. Whoever comes back with their token within `RETURN_SECONDS` has never been away, as far
as the others can tell. Whoever does not is then said to have left.

What is written down are names and identities, which are hashes of tokens, so the file gives nobody
away. It is read once and then removed: after a crash an old one would be wrong.

Way not taken: writing down everybody who comes and goes, to know them after a crash too. That costs
each of them a write for something that should not happen.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from twisted.logger import Logger

from chatbox.chat.names import Claim, Name, parse_name
from chatbox.errors import RemoteError
from chatbox.files import write_whole

__all__ = ["MAX_AGE_SECONDS", "RETURN_SECONDS", "Register"]

RETURN_SECONDS: Final = 45.0
"""How long after its start a server waits for those who were here before: longer than a client of
ours ever waits between two attempts to come back, which is half a minute."""

MAX_AGE_SECONDS: Final = 300.0
"""A register that is older is of no use: enough for a machine that starts again, and not so much
that a newcomer is shown people who have long gone home."""

_is_identity: Final = re.compile(r"[0-9a-f]{32}").fullmatch

_log = Logger()


class Register:
    """The file `path`.

    `reserve` holds a name for the owner of an identity, as `LocalNames.reserve` does. `now` is a
    clock in seconds since the epoch.
    """

    def __init__(
        self, path: str, reserve: Callable[[Name, str], Claim], now: Callable[[], float]
    ) -> None:
        self.path = path
        self._reserve = reserve
        self._now = now

    def note(self, people: Iterable[tuple[Name, str]]) -> None:
        """Write down who is here: names and identities."""
        rows = [(name.text, identity) for name, identity in people]
        text = json.dumps({"stopped_at": self._now(), "people": rows})
        try:
            write_whole(self.path, text.encode())
        except OSError as error:
            _log.warn("who is here cannot be kept for the next start: {error}", error=error)

    def recall(self) -> list[Claim]:
        """Hold the names of those who were here, if that was not long ago, for them."""
        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            _log.warn("who was here cannot be read: {error}", error=error)
            return []
        with suppress(OSError):
            os.unlink(self.path)
        try:
            return self._claims(data.decode())
        except (ValueError, TypeError, KeyError, RecursionError, RemoteError) as error:
            _log.warn("{path} makes no sense: {error}", path=self.path, error=error)
            return []

    def _claims(self, text: str) -> list[Claim]:
        noted = json.loads(text)
        if not 0 <= self._now() - float(noted["stopped_at"]) <= MAX_AGE_SECONDS:
            return []
        people = {}
        for raw, identity in noted["people"]:
            if not _is_identity(identity):
                raise ValueError("there is a wrong identity in it")
            name = parse_name(raw)
            people[name.key] = name, identity
        return [self._reserve(name, identity) for name, identity in people.values()]
