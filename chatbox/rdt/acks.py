"""Which packets arrived, and when to acknowledge them."""

from __future__ import annotations

from chatbox.rdt.packet import MAX_ACK_RANGES
from chatbox.rdt.ranges import RangeSet

MAX_NUMBER_JUMP = 1 << 30
"""No sender skips so many packet numbers; acknowledgements count gaps and lengths in 32 bits."""


class Acknowledger:
    """
    The packet numbers that arrived, at most `MAX_ACK_RANGES` ranges of them: what is older was
    acknowledged many times over.

    Each acknowledgement names all of them. Once the sender is known to have taken one in, its
    ranges need not be named again, as in RFC 9000 section 13.2.4. One acknowledgement at a time is
    watched for that: any later one that the sender has taken in names the same ranges.

    Acknowledging costs both sides work, so it waits: until so many bytes came, or so much time
    passed, as the sender asked for. What shows a gap, or closes one, is acknowledged at once,
    because the sender's picture of what is lost depends on it (RFC 9000 section 13.2.1).
    """

    __slots__ = (
        "_bytes",
        "_delay",
        "_expected",
        "_largest_at",
        "_numbers",
        "_told",
        "_unacked",
        "due",
        "due_at",
    )

    def __init__(self, now: float) -> None:
        self.due = False
        """Whether to acknowledge now."""
        self.due_at: float | None = None
        """When to acknowledge at the latest; None if there is nothing to."""
        self._numbers = RangeSet()
        self._expected = 0
        self._largest_at = now
        self._delay = 0.0
        self._bytes = 0
        self._unacked = 0
        self._told: tuple[int, list[tuple[int, int]]] | None = None

    def set_frequency(self, delay: float, size: int) -> None:
        """Acknowledge within `delay` seconds, or once `size` bytes came, whichever is first."""
        self._delay, self._bytes = delay, size

    def plausible(self, number: int) -> bool:
        """Whether a sender in its right mind may have sent this number by now."""
        return number - self._expected <= MAX_NUMBER_JUMP

    def on_received(self, number: int, count: int, size: int, now: float) -> None:
        """`count` packets from `number` on came, with `size` bytes that are counted."""
        self._numbers.add(number, number + count)
        self._unacked += size
        if number != self._expected or self._unacked >= self._bytes:
            self.due = True
        elif self.due_at is None:
            self.due_at = now + self._delay
        if number + count > self._expected:
            self._expected = number + count
            self._largest_at = now
        if len(self._numbers) > MAX_ACK_RANGES:
            self._numbers.forget_below(MAX_ACK_RANGES)

    def on_heard(self, count: int) -> None:
        """The sender has taken in one of our packets, the one numbered ``count - 1``."""
        if self._told is None or count <= self._told[0]:
            return
        for start, stop in self._told[1]:
            self._numbers.remove(start, min(stop, self._expected - 1))
        self._told = None

    def take(self, number: int, now: float) -> tuple[list[tuple[int, int]], float]:
        """
        Acknowledge in our packet `number`: the ranges, the highest first, and how long ago the
        highest number came.
        """
        self.due = False
        self.due_at = None
        self._unacked = 0
        floor = self._expected - MAX_NUMBER_JUMP
        ranges = self._numbers.highest(MAX_ACK_RANGES)
        if ranges and ranges[-1][0] < floor:
            ranges = [(max(start, floor), stop) for start, stop in ranges if stop > floor]
        if self._told is None and len(ranges) > 1:
            self._told = number, ranges
        return ranges, now - self._largest_at
