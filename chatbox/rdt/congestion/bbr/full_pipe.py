"""
Whether sending faster still brings more: how Startup and probes find their end.

A sender that accelerates sees the delivery rate grow with its own, until the pipe is full; from
then on only the queue grows. Growth is a round that outdoes the last that grew by a quarter. One
without it may be a hiccup of the path or of a machine, so it takes some in a row. But each more
that is waited for goes into the queue, so they are fewer where one is seen to stand.
"""

from __future__ import annotations

FULL_PIPE_GROWTH = 1.25
"""The delivery rate still grows if it gains this much in a round ("Exiting Acceleration ...")."""

FULL_PIPE_ROUNDS = 3
"""Rounds without growth after which the pipe is full: fewer may be a hiccup (same section)."""

QUEUED_ROUNDS = 2
"""The same if the last of them met a queue: a machine that stood still explains but one of two."""


class FullPipe:
    """Whether sending faster still brings more ("Exiting Acceleration Based on ... Plateau")."""

    __slots__ = ("baseline", "now", "reached", "rounds")

    def __init__(self) -> None:
        self.baseline = 0.0
        """The rate to be outdone (BBR.full_bw)."""
        self.rounds = 0
        """Rounds that did not (BBR.full_bw_count)."""
        self.now = False
        """Full, as far as was seen since the last restart (BBR.full_bw_now)."""
        self.reached = False
        """Full at some time since Startup began (BBR.full_bw_reached)."""

    def restart(self, baseline: float = 0.0) -> None:
        """Look anew."""
        self.baseline = baseline
        self.rounds = 0
        self.now = False

    def update(self, rate: float, queued: bool = False) -> None:
        """
        Take in the sample that ended a round; not one that the application limited. `queued`: the
        round met a queue.
        """
        if self.now:
            return
        if rate >= self.baseline * FULL_PIPE_GROWTH:
            self.restart(rate)
            return
        self.rounds += 1
        if self.rounds >= (QUEUED_ROUNDS if queued else FULL_PIPE_ROUNDS):
            self.now = self.reached = True
