"""
How much the path holds back and then lets go: the estimate of aggregation.

Radio links, receivers and our own trains keep things until there are many, and let them go in a
lump. Until it comes, a sender with just one pipe in flight has used it up, and stands still; so it
must be allowed as much more as comes in a lump. That is what the acknowledgements of an interval
acknowledge, less what the bandwidth would have delivered in that time. When it is no more than
that, the path owes nothing, and a new interval begins. The largest lump of the last rounds counts,
since the next may be as large.
"""

from __future__ import annotations

from collections import deque

EXTRA_ACKED_ROUNDS = 10
"""Round trips for which a lump of acknowledgements is remembered (ExtraAckedFilterLen)."""


class WindowedMax:
    """The largest of the recent values; time is any count that does not fall."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: deque[tuple[int, float]] = deque()

    @property
    def value(self) -> float:
        """0 if there are none."""
        return self._values[0][1] if self._values else 0.0

    def update(self, value: float, time: int, window: int) -> None:
        """Add a value and forget those that are `window` or more older than it."""
        values = self._values
        while values and values[-1][1] <= value:
            values.pop()
        values.append((time, value))
        while values[0][0] <= time - window:
            values.popleft()


class ExtraAcked:
    """How much more is acknowledged at a time than the bandwidth explains ("BBR.extra_acked")."""

    __slots__ = ("_delivered", "_filter", "_since")

    def __init__(self, now: float) -> None:
        self._since = now
        self._delivered = 0.0
        self._filter = WindowedMax()

    @property
    def value(self) -> float:
        """BBR.extra_acked, in bytes."""
        return self._filter.value

    def restart(self, now: float) -> None:
        """Begin a new interval: the sender was idle."""
        self._since = now
        self._delivered = 0.0

    def update(
        self, acked: int, now: float, bandwidth: float, limit: int, round_count: int, rounds: int
    ) -> None:
        """
        Take in an acknowledgement of `acked` bytes in round `round_count`. At most `limit` counts,
        and for so many `rounds`.
        """
        expected = bandwidth * (now - self._since)
        if self._delivered <= expected:
            self._delivered = 0.0
            self._since = now
            expected = 0.0
        self._delivered += acked
        self._filter.update(min(self._delivered - expected, limit), round_count, rounds)
