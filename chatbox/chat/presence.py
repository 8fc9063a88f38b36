"""How people hear of each other's coming and going, in rooms of any size.

In a room of a few hundred everybody hears of everybody. In a room of thousands nobody could read
that, and it would cost as much as everything that is said: when ten thousand people come, telling
each of all others is fifty million lines. So above a bound only the number of people is told, and
that again only when it has changed by a good part. There is no timer: how often somebody tells it
grows with the logarithm of how many come.
"""

from __future__ import annotations

from typing import Final

from chatbox.chat.outbox import Fanout, Outbox
from chatbox.chat.wire import EVERYBODY, format_fields

__all__ = ["HEADCOUNT_STEP", "MAX_ANNOUNCED", "SERVER", "Presences"]

SERVER: Final = "server"
"""Who says what nobody said."""

MAX_ANNOUNCED: Final = 500
"""People in the room up to which each is told of by name."""

HEADCOUNT_STEP: Final = 20
"""The number of people is told when it has changed by one in so many."""


class Presences:
    """Tells who comes and goes, or how many are here."""

    def __init__(self, fanout: Fanout) -> None:
        self._fanout = fanout
        self._told = 0
        """The number of people that was told last; 0 while people are told of by name."""

    def announce(self, line: bytes, size: int) -> None:
        """Somebody has come or gone, which `line` says; now `size` people are here."""
        told = self._told
        if size <= MAX_ANNOUNCED:
            if told:
                self._fanout.share(_headcount(size))
                self._told = 0
            self._fanout.share(line)
        elif not told or abs(size - told) * HEADCOUNT_STEP >= told:
            self._fanout.share(_headcount(size))
            self._told = size

    def welcome(self, outbox: Outbox, line: bytes, size: int) -> None:
        """Announce somebody who listens already: they hear of themselves in any case."""
        if size > MAX_ANNOUNCED:
            outbox.put(line)
            self.catch_up(outbox, size)
        self.announce(line, size)

    def catch_up(self, outbox: Outbox, size: int) -> None:
        """Tell one who has just come how many are here, if that is what is told."""
        if size > MAX_ANNOUNCED:
            outbox.put(_headcount(size))


def _headcount(size: int) -> bytes:
    return format_fields(sender=SERVER, recipient=EVERYBODY, response="headcount", count=size)
