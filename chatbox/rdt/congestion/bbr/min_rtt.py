"""
How long the path takes without a queue: the filter over round trips, and when to look again.

All that disturbs a round trip makes it longer, so the smallest is the best. Both ways to be wrong
cost something. Is the path shorter than we believe, we put more in flight than it holds, and the
rest stands in a queue, which then keeps us from seeing the mistake. Is it longer, as after a change
of route, we fill a part of it only. So a minimum must not only be forgotten, it must be looked for:
nobody sees the path without a queue unless all who send there stop for a moment.

There are two memories, therefore. The shorter, of `PROBE_RTT_INTERVAL`, says when it is time to
look; a sample that is smaller still puts that off. The longer, of `MIN_RTT_WINDOW`, is what the
model believes. It is twice as long, so that a look is over before what it is to confirm is
forgotten.

The same minimum says whether there is a queue now (`is_calm`, `shows_queue`).
"""

from __future__ import annotations

import math

MIN_RTT_WINDOW = 10.0
"""
Seconds for which a smallest round trip is believed ("BBR.min_rtt Min Filter", MinRTTFilterLen).
"""

PROBE_RTT_INTERVAL = 5.0
"""
Seconds without a new smallest round trip after which one must be looked for ("ProbeRTT Design
Rationale", ProbeRTTInterval). All BBR flows use the same, so that they drain a queue together.
"""

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
