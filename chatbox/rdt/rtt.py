"""Estimating the round-trip time (RFC 9002 section 5)."""

from __future__ import annotations

GRANULARITY = 0.001
"""
Seconds below which our timers cannot tell instants apart (RFC 9002 section 6.1.2, kGranularity).
"""

INITIAL_RTT = 0.333
"""Seconds assumed before the first sample (RFC 9002 section 6.2.2, kInitialRtt)."""


class RttEstimator:
    """Smoothed round-trip time of one path; all times in seconds."""

    __slots__ = ("latest", "min_rtt", "smoothed", "variation")

    def __init__(self, initial: float = INITIAL_RTT) -> None:
        self.latest: float | None = None
        """The newest sample as measured, the peer's delay included; None before the first."""
        self.min_rtt = 0.0
        """The smallest sample ever seen on this path; 0 before the first."""
        self.smoothed = initial
        self.variation = initial / 2

    def update(self, sample: float, ack_delay: float) -> None:
        """
        Take in one sample.

        `ack_delay` is how long the peer says that it held the acknowledgement back. It is believed
        only as far as the result is not below the smallest round trip ever seen (section 5.3).
        """
        first = self.latest is None
        self.latest = sample
        if first:
            self.min_rtt = sample
            self.smoothed = sample
            self.variation = sample / 2
            return
        self.min_rtt = min(self.min_rtt, sample)
        adjusted = sample - ack_delay if sample >= self.min_rtt + ack_delay else sample
        self.variation += (abs(self.smoothed - adjusted) - self.variation) / 4
        self.smoothed += (adjusted - self.smoothed) / 8

    def probe_timeout(self, max_ack_delay: float) -> float:
        """How long to wait for any answer before probing, without back-off (section 6.2.1)."""
        return self.smoothed + max(4 * self.variation, GRANULARITY) + max_ack_delay

    def loss_delay(self, factor: float = 9 / 8) -> float:
        """
        How long after sending a packet counts as lost once a later one arrived (section 6.1.2).
        """
        return max(factor * max(self.smoothed, self.latest or 0.0), GRANULARITY)
