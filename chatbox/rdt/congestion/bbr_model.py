"""
What BBR measures: the estimators of draft-ietf-ccwg-bbr, each small enough to be tested alone.

They remember; what to do about it is decided in `chatbox.rdt.congestion.bbr`, and what losses mean
in `chatbox.rdt.congestion.bbr_loss`. Sizes are in bytes, times in seconds, rates in bytes per
second. Sections named in quotes are those of the draft.
"""

from __future__ import annotations

import math
from collections import deque

MIN_RTT_WINDOW = 10.0
"""
Seconds for which a smallest round trip is believed ("BBR.min_rtt Min Filter", MinRTTFilterLen).
"""

PROBE_RTT_INTERVAL = 5.0
"""
Seconds without a new smallest round trip after which one must be looked for ("ProbeRTT Design
Rationale", ProbeRTTInterval). All BBR flows use the same, so that they drain a queue together.
"""

EXTRA_ACKED_ROUNDS = 10
"""Round trips for which a lump of acknowledgements is remembered (ExtraAckedFilterLen)."""

FULL_PIPE_GROWTH = 1.25
"""The delivery rate still grows if it gains this much in a round ("Exiting Acceleration ...")."""

FULL_PIPE_ROUNDS = 3
"""Rounds without growth after which the pipe is full: fewer may be a hiccup (same section)."""

QUEUED_ROUNDS = 2
"""The same if the last of them met a queue: a machine that stood still explains but one of two."""

CALM_FRACTION = 0.25
"""
Calm is a path whose round trip is at most this much above the smallest. A probe for bandwidth sends
a quarter too much for a round, so this much queue is what BBR itself thinks nothing of.
"""

QUEUE_FRACTION = 0.0625
"""
A queue begins to show in a round trip that is so much above the smallest: soon enough to overshoot
by little, and too soon to say that anything is full. Half of what ends a slow start of HyStart++
(RFC 9406 section 4.2, RttThresh), for this ends nothing.
"""

CALM_SLACK = 0.001
"""And this many seconds: our timers and trains, which on a short path are more than the path."""


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

    def is_full(self) -> None:
        """It is full now."""
        self._now = True

    def begin_round(self) -> None:
        """A round trip is over."""
        self._before, self._now = self._now, False


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


class MaxBandwidth:
    """
    The largest delivery rate of this probing cycle and the one before ("BBR.max_bw Max Filter").

    Long enough to hold a probe for more; short enough to forget in time a rate that is gone.
    """

    __slots__ = ("current", "previous")

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget everything."""
        self.current = 0.0
        self.previous = 0.0

    @property
    def value(self) -> float:
        """BBR.max_bw."""
        return max(self.current, self.previous)

    def update(self, rate: float) -> None:
        """Take in a sample."""
        self.current = max(self.current, rate)

    def advance(self) -> None:
        """A cycle is over. One without any sample leaves the memory as it was."""
        if self.current > 0:
            self.previous, self.current = self.current, 0.0


class MinRtt:
    """The smallest round trip of late, and whether it is time to look for it ("ProbeRTT Logic")."""

    __slots__ = ("_at", "_probe_at", "expired", "probe_delay", "value")

    def __init__(self, now: float) -> None:
        self.value = math.inf
        """BBR.min_rtt; infinite before the first sample."""
        self.probe_delay = math.inf
        """The smallest since the last time that it expired (BBR.probe_rtt_min_delay)."""
        self.expired = False
        """Whether the last update found `probe_delay` too old (BBR.probe_rtt_expired)."""
        self._at = now
        self._probe_at = now

    def update(self, rtt: float | None, now: float) -> None:
        """Take in what an acknowledgement measured, if it did."""
        self.expired = now > self._probe_at + PROBE_RTT_INTERVAL
        if rtt is not None and (rtt < self.probe_delay or self.expired):
            self.probe_delay = rtt
            self._probe_at = now
        if self.probe_delay < self.value or now > self._at + MIN_RTT_WINDOW:
            self.value = self.probe_delay
            self._at = self._probe_at

    def restart(self, now: float) -> None:
        """Forget everything: the path may be another one."""
        self.value = self.probe_delay = math.inf
        self.expired = False
        self._at = self._probe_at = now

    def probed(self, now: float) -> None:
        """A probe is done: the next one is an interval away."""
        self._probe_at = now

    def is_calm(self, rtt: float) -> bool:
        """Whether a round trip of `rtt` means that there is no standing queue."""
        return not self._exceeds(rtt, CALM_FRACTION)

    def shows_queue(self, rtt: float) -> bool:
        """Whether a round trip of `rtt` may be the first that met a queue."""
        return self._exceeds(rtt, QUEUE_FRACTION)

    def _exceeds(self, rtt: float, fraction: float) -> bool:
        return rtt > self.value * (1 + fraction) + CALM_SLACK


class ExtraAcked:
    """
    How much more is acknowledged at a time than the bandwidth explains ("BBR.extra_acked").

    Radio links, receivers and our own trains hold things back and let them go in a lump. Meanwhile
    the sender must have that much more in flight, or it stalls.
    """

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
