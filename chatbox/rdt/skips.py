"""
Packet numbers that are never used, to catch a receiver that acknowledges what it has not received.

Such a receiver makes a server send more than the network carries, at the cost of all others on it.
It acknowledges what is lost, so that there seems to be no congestion, or what has not come yet, so
that the path seems to be faster than it is (RFC 9000 section 21.4). It cannot know which numbers
are left out. So a few are, where chance has it, and who acknowledges one is found out.

To an honest receiver a number that was left out is a packet that was lost. It costs an
acknowledgement at once, and one more range in each that follows, until it has heard that we know of
the ranges before. So they become rarer: the first is among the first hundred, and at full speed
there is one in some ten megabytes, several in what a client lets us have on the way.
"""

from __future__ import annotations

from collections.abc import Callable

FIRST_PERIOD = 64
"""Packets until a number is left out, half as many more or less. The next time twice as many..."""

LAST_PERIOD = 1 << 13
"""... but no more than this."""


def most(packets: int) -> int:
    """How many of so many numbers may have been left out, while they become rarer."""
    return (packets // (FIRST_PERIOD // 2) + 1).bit_length() - 1


class Skips:
    """The numbers of one transfer that are left out."""

    __slots__ = ("_period", "_random_bytes", "following")

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self.following = 0
        """The next number to leave out; a sender that is past it leaves out its next one."""
        self._random_bytes = random_bytes
        self._period = FIRST_PERIOD
        self._choose(0)

    def on_skipped(self, number: int) -> None:
        """This one was left out."""
        self._period = min(2 * self._period, LAST_PERIOD)
        self._choose(number)

    def _choose(self, after: int) -> None:
        chance = int.from_bytes(self._random_bytes(4), "big") % self._period
        self.following = after + self._period // 2 + chance
