"""
Spreading packets over time (RFC 9002 section 7.7) with a token bucket counted in bytes.

The bucket fills at the pacing rate. Its depth is the burst that may leave at once after a silence.
Two forces set it. Too shallow, and the transfer cannot keep its rate: timers in user space fire
about a millisecond apart, so each firing must find a millisecond's worth of bytes, whatever the
rate. Too deep, and bursts overflow the short queues of cheap routers. So the depth grows with the
rate (two milliseconds' worth) from a floor of ten packets, the burst that RFC 9002 section 7.7
allows anyway.
"""

from __future__ import annotations

import math

BURST_PACKETS = 10
"""The least depth of the bucket, in packets (RFC 9002 section 7.2: the initial window)."""

BURST_SECONDS = 0.002
"""
The depth of the bucket in time at the current rate: two firings of a timer of one millisecond.
"""

MAX_LATE_BYTES = 1 << 18
"""
By how much the bucket may be deeper when timers fire late, as they do on a busy machine, and in a
server that serves a hundred people in turn: what a late timer may not make up for is lost, and a
rate that is measured from it spirals down. But a path that ran empty meanwhile cannot make up for
it either: what comes on top of what it holds only overflows its queue.
"""

LATE_DECAY = 0.95
"""How much of the latest lateness is remembered from one firing to the next."""

WAKE_SECONDS = 0.001
"""When the bucket is empty, wait until it holds this much time's worth: fewer, larger trains."""

CLOCK_STEP = 1e-6
"""Seconds below which two instants cannot be told apart."""


class Pacer:
    """
    A token bucket: `budget` says how many bytes may leave now, `spend` takes them, `ready_at` says
    when to ask again.
    """

    __slots__ = ("_late", "_overslept", "_packet", "_rate", "_tokens", "_updated_at", "_wake_at")

    def __init__(self, packet_bytes: int, now: float) -> None:
        self._rate = math.inf
        self._packet = packet_bytes
        self._late = 0.0
        self._overslept = 0.0
        self._wake_at: float | None = None
        self._tokens = float(self.depth)
        self._updated_at = now

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return self._rate

    @property
    def depth(self) -> int:
        """The largest burst in bytes at the present rate."""
        floor = BURST_PACKETS * self._packet
        return (
            floor
            if math.isinf(self._rate)
            else max(
                floor,
                int(self._rate * BURST_SECONDS + min(self._rate * self._late, MAX_LATE_BYTES)),
            )
        )

    def set_rate(self, rate: float, packet_bytes: int, now: float) -> None:
        """Fill from now on at `rate` bytes per second, sending packets of `packet_bytes`."""
        if rate == self._rate and packet_bytes == self._packet:
            return
        self._refill(now)
        self._rate = rate
        self._packet = packet_bytes
        self._tokens = min(self._tokens, self.depth)

    def budget(self, now: float) -> int:
        """How many bytes may leave now; an unlimited rate gives a large number."""
        if math.isinf(self._rate):
            return 1 << 62
        self._refill(now)
        return int(self._tokens)

    def spend(self, size: int, now: float) -> None:
        """
        Account for `size` bytes that leave now. One packet may overdraw the bucket; the debt is
        waited off.
        """
        if not math.isinf(self._rate):
            self._refill(now)
            self._tokens -= size

    def ready_at(self, now: float) -> float:
        """When it pays to ask for a budget again: `now` if it does already."""
        if math.isinf(self._rate):
            return now
        self._refill(now)
        wanted = max(self._packet, min(self._rate * WAKE_SECONDS, self.depth / 2))
        # An instant in seconds since 1970 is a float that steps by a quarter of a microsecond: what
        # is missing by less than that must count as there, or the caller would be sent away to come
        # back at this instant.
        if self._tokens + self._rate * CLOCK_STEP >= self._packet:
            return now
        self._wake_at = now + (wanted - self._tokens) / self._rate
        return self._wake_at

    def take_overslept(self) -> float:
        """By how many seconds the last firing came late; 0 until the next one, once it was told."""
        overslept, self._overslept = self._overslept, 0.0
        return overslept

    def not_waiting(self) -> None:
        """
        Something else holds the sender back: when it asks next says nothing about late timers.
        """
        self._wake_at = None

    def _refill(self, now: float) -> None:
        # Several ports may share a bucket and ask with clocks a hair apart: time that was counted
        # is not counted again.
        elapsed = now - self._updated_at
        if self._wake_at is not None and now >= self._wake_at:
            self._overslept = now - self._wake_at
            self._late = max(self._overslept, self._late * LATE_DECAY)
            self._wake_at = None
        if elapsed > 0:
            self._updated_at = now
            if not math.isinf(self._rate):
                self._tokens = min(self._tokens + elapsed * self._rate, self.depth)
