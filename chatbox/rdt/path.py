"""
One path from the server to the client: how much may leave on it now, and how often we want to hear.

Round-trip time, congestion window, pacing and packet size belong together, because they all change
when the path does.
"""

from __future__ import annotations

from chatbox.rdt.congestion import ControllerFactory
from chatbox.rdt.pacing import Pacer
from chatbox.rdt.packet import BASE_DATAGRAM
from chatbox.rdt.recovery import Load, Recovery

MIN_ACK_BYTES = 2 * BASE_DATAGRAM
"""Every second packet is acknowledged on a slow path (RFC 9000 section 13.2.2)."""

MAX_ACK_BYTES = 1 << 20
"""On a fast one an acknowledgement for each megabyte is plenty."""

MIN_ACK_DELAY = 0.001
"""Seconds: timers are no finer."""

MAX_ACK_DELAY = 0.025
"""Seconds (RFC 9000 section 18.2, max_ack_delay)."""


class Path:
    """What the sender knows of the way to its receiver."""

    __slots__ = ("_pacer", "ack_bytes", "ack_delay", "bytes_sent", "datagram", "recovery")

    def __init__(self, make_controller: ControllerFactory, now: float) -> None:
        self.datagram = BASE_DATAGRAM
        """Bytes in a full packet."""
        self.recovery = Recovery(make_controller(self.datagram, now), now)
        self.ack_delay = 0.0
        """Within how many seconds we want an acknowledgement: a quarter of a round trip."""
        self.ack_bytes = MIN_ACK_BYTES
        """After how many bytes at the latest: an eighth of the window."""
        self.bytes_sent = 0
        self._pacer = Pacer(self.datagram, now)

    def expect_rtt(self, rtt: float) -> None:
        """Begin with a round trip that was measured elsewhere on the same way."""
        self.recovery.rtt.smoothed = rtt
        self.recovery.rtt.variation = rtt / 2

    def packets(self, now: float) -> int:
        """How many packets may leave now. One may if there is room for any of it."""
        recovery = self.recovery
        room = recovery.controller.window - recovery.in_flight
        if room <= 0 or self._pacer.ready_at(now) > now:
            return 0
        budget = min(room, self._pacer.budget(now), recovery.controller.quantum)
        return max(1, budget // self.datagram)

    def ready_at(self, now: float) -> float | None:
        """When `packets` will allow one; None if that takes an acknowledgement."""
        if self.recovery.in_flight >= self.recovery.controller.window:
            return None
        return self._pacer.ready_at(now)

    def on_sent(self, load: Load, count: int, last: int, offset: int, now: float) -> None:
        """`count` packets leave now, the last of them `last` bytes long."""
        datagram = self.datagram if count > 1 else last
        self.recovery.on_sent(load, count, datagram, last, offset, now)
        size = (count - 1) * datagram + last
        self.bytes_sent += size
        self._pacer.spend(size, now)

    def nothing_to_send(self) -> None:
        """There was room, but no data: what is measured now is not what the path can carry."""
        recovery = self.recovery
        if recovery.in_flight < recovery.controller.window:
            recovery.rate.mark_app_limited(recovery.in_flight)

    def retune(self, rate_limit: float, now: float) -> bool:
        """
        Follow what recovery has learnt, sending at most `rate_limit` bytes per second.

        True if the receiver should be told to acknowledge more often, or less.
        """
        recovery = self.recovery
        rate = min(recovery.controller.pacing_rate, rate_limit)
        self._pacer.set_rate(rate, self.datagram, now)
        size = max(MIN_ACK_BYTES, min(recovery.controller.window // 8, MAX_ACK_BYTES))
        delay = max(MIN_ACK_DELAY, min(recovery.rtt.smoothed / 4, MAX_ACK_DELAY))
        # Only what changed by a factor of two is worth a packet.
        if _similar(size, self.ack_bytes) and _similar(delay, self.ack_delay):
            return False
        self.ack_bytes, self.ack_delay = size, delay
        recovery.max_ack_delay = delay
        return True


def _similar(one: float, other: float) -> bool:
    return one / 2 <= other <= one * 2
