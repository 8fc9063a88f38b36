"""
Time in round trips: what passes, and whether the window was full in it.

Much of BBR goes by rounds and not by seconds: a sender learns what a change of its rate has done
when the first packet that left after it is acknowledged, and no sooner. So a *round* is the time
from a mark until something is acknowledged that left after the mark; then there is a new mark. No
clock is asked. Each packet remembers how much had been delivered when it left
(`RateSample.prior_delivered`), and a mark is such a count. Where nothing is sent no round ends, and
a queue makes rounds longer, as it does everything that we could learn.

Terms in brackets are those of draft-ietf-ccwg-bbr, sections those named in quotes.
"""

from __future__ import annotations


class Rounds:
    """Counts packet-timed round trips ("BBR.round_count")."""

    __slots__ = ("_ends_at", "count", "started")

    def __init__(self) -> None:
        self.count = 0
        self.started = False
        """Whether the last acknowledgement began a round (BBR.round_start)."""
        self._ends_at = 0

    def update(self, prior_delivered: int, delivered: int) -> None:
        """
        Take in an acknowledgement: of something that left when `prior_delivered` bytes had been
        delivered, while now it is `delivered`.
        """
        self.started = prior_delivered >= self._ends_at
        if self.started:
            self._ends_at = delivered
            self.count += 1

    def restart(self, delivered: int) -> None:
        """Let the present round end a whole round trip from now."""
        self._ends_at = delivered


class WindowUse:
    """Whether the window was full at any time in the last round trip (C.is_cwnd_limited)."""

    __slots__ = ("_before", "_now")

    def __init__(self) -> None:
        self._now = self._before = False

    @property
    def limited(self) -> bool:
        """Whether it was."""
        return self._now or self._before

    def mark_full(self) -> None:
        """It is full now."""
        self._now = True

    def begin_round(self) -> None:
        """A round trip is over."""
        self._before, self._now = self._now, False
