"""
One path from the server to the client: how much may leave on it now, and how often we want to hear.

Round-trip time, congestion window, pacing and packet size belong together, because they all change
when the path does.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from chatbox.rdt.congestion import ControllerFactory
from chatbox.rdt.pacing import BURST_SECONDS, Pacer
from chatbox.rdt.packet import BASE_DATAGRAM, MAX_DATAGRAM
from chatbox.rdt.pmtu import PmtuSearch
from chatbox.rdt.recovery import Load, Outcome, Recovery
from chatbox.rdt.skips import Skips

MIN_ACK_BYTES = 2 * BASE_DATAGRAM
"""Every second packet is acknowledged on a slow path (RFC 9000 section 13.2.2)."""

MAX_ACK_BYTES = 1 << 20
"""On a fast one an acknowledgement for each megabyte is plenty."""

MIN_ACK_DELAY = 0.001
"""Seconds: timers are no finer, and what comes in so little time needs no two acknowledgements."""

MAX_ACK_DELAY = 0.025
"""Seconds (RFC 9000 section 18.2, max_ack_delay)."""

LATE = 0.25
"""The share of a round trip by which a sender that comes late to send may leave the path dry."""

FIRST_SPAN = 0.5
"""
Round trips over which the first flight is spread, if the client told how long one is: slow enough
for the queue of a home router, soon enough for a small file to be there half a round trip later.
"""

WATCHED_PACKETS = 200
"""
So many first packets that leave in trains are watched. There are kernels that damage what they cut
up themselves, and nothing tells but that it does not arrive, while what is sent singly does.
"""

FEWEST_PACKETS = 20
"""Fewer of them prove nothing."""

DAMAGED = 0.8
"""
The share of them whose loss proves it. A link so bad that it loses as many for other reasons is too
slow for trains to matter.
"""


class Path:
    """What the sender knows of the way to its receiver."""

    __slots__ = (
        "_damaged",
        "_first_rate",
        "_limit",
        "_pacer",
        "_pmtu",
        "_skips",
        "_watched",
        "ack_bytes",
        "ack_delay",
        "bytes_sent",
        "joined",
        "recovery",
    )

    def __init__(
        self, make_controller: ControllerFactory, random_bytes: Callable[[int], bytes], now: float
    ) -> None:
        self._skips = Skips(random_bytes)
        self._limit = MAX_DATAGRAM
        self._pmtu = PmtuSearch(self._limit)
        self.recovery = Recovery(make_controller(self.datagram, now), now)
        self.ack_delay = 0.0
        """Within how many seconds we want an acknowledgement: a quarter of a round trip."""
        self.ack_bytes = MIN_ACK_BYTES
        """After how many bytes at the latest: an eighth of the window."""
        self.bytes_sent = 0
        self.joined = True
        """Whether trains may be handed to the kernel whole."""
        self._first_rate = math.inf
        self._watched = 0
        self._damaged = 0
        self._pacer = Pacer(self.datagram, now)

    @property
    def datagram(self) -> int:
        """Bytes in a full packet."""
        return self._pmtu.datagram

    def limit_datagram(self, size: int) -> None:
        """The receiver takes no packets longer than `size` bytes."""
        self._limit = min(size, MAX_DATAGRAM)
        self._pmtu = PmtuSearch(self._limit)

    def migrate(self, make_controller: ControllerFactory, now: float) -> Outcome:
        """
        The way leads elsewhere from now on: nothing learnt on the old one holds (RFC 9000 section
        9.4). What was in flight on it has to leave again.
        """
        self._pmtu = PmtuSearch(self._limit)
        self._pacer = Pacer(self.datagram, now)
        return self.recovery.migrate(make_controller(self.datagram, now), now)

    def expect_rtt(self, rtt: float) -> None:
        """Begin with a round trip that was measured elsewhere on the same way."""
        self._first_rate = self.recovery.controller.window / (rtt * FIRST_SPAN)
        self.recovery.rtt.smoothed = rtt
        self.recovery.rtt.variation = rtt / 2

    def packets(self, now: float) -> int:
        """How many packets may leave now. One may if there is room for any of it."""
        recovery = self.recovery
        room = recovery.controller.window - recovery.in_flight
        if room <= 0 or self._pacer.ready_at(now) > now:
            return 0
        if self._pacer.take_overslept() > max(LATE * recovery.rtt.min_rtt, BURST_SECONDS):
            recovery.controller.on_late(recovery.in_flight)
        # What the pacer lets out leaves at this instant in any case, so let it be one train:
        # on a busy server, where the pacer is asked late, that saves half of the work.
        budget = min(room, self._pacer.budget(now))
        if math.isinf(self._pacer.rate):
            budget = min(budget, recovery.controller.quantum)
        return max(1, budget // self.datagram)

    def ready_at(self, now: float) -> float | None:
        """When `packets` will allow one; None if that takes an acknowledgement."""
        if self.recovery.in_flight >= self.recovery.controller.window:
            self._pacer.not_waiting()
            return None
        return self._pacer.ready_at(now)

    def next_number(self) -> int:
        """The number of the next packet of the file."""
        number = self.recovery.next_number
        if number < self._skips.following:
            return number
        self.recovery.skip_number()
        self._skips.on_skipped(number)
        return number + 1

    def on_sent(
        self, load: Load, count: int, datagram: int, last: int, offset: int, now: float
    ) -> None:
        """`count` packets of `datagram` bytes leave now, the last of them of `last`."""
        self.recovery.on_sent(load, count, datagram, last, offset, now)
        size = (count - 1) * datagram + last
        self.bytes_sent += size
        # A PROBE that is too long for the interface goes nowhere, and takes no time on the link.
        self._pacer.spend(min(size, self.datagram) if load is Load.PROBE else size, now)

    def probe_size(self, now: float) -> int | None:
        """How long a PROBE to send now; None for none. The path must have carried something."""
        return None if self.recovery.rtt.latest is None else self._pmtu.probe(now)

    def learn(self, outcome: Outcome, now: float) -> None:
        """See what arrived and what was lost for what it says of the size of packets."""
        if self.joined and self._watched < WATCHED_PACKETS:
            self._watched += outcome.joined_arrived + outcome.joined_lost
            self._damaged += outcome.joined_lost
            suspicious = self._damaged > DAMAGED * self._watched
            self.joined = not (suspicious and self._watched >= FEWEST_PACKETS)
        changed = False
        for load, _, size in outcome.acked_numbers:
            if load is Load.PROBE:
                changed |= self._pmtu.on_probe_acked(size)
        for load, _, size in outcome.lost_numbers:
            if load is Load.PROBE:
                self._pmtu.on_probe_lost(size)
        if outcome.largest_arrived > BASE_DATAGRAM:
            self._pmtu.on_large_arrived()
        elif outcome.smallest_lost:
            changed |= self._pmtu.on_trouble(outcome.smallest_lost, now)
        if changed:
            self.recovery.controller.set_datagram_size(self.datagram)

    def nothing_to_send(self) -> None:
        """There was room, but no data: what is measured now is not what the path can carry."""
        recovery = self.recovery
        self._pacer.not_waiting()
        if recovery.in_flight < recovery.controller.window:
            recovery.rate.mark_app_limited(recovery.in_flight)

    def retune(self, rate_limit: float, now: float) -> bool:
        """
        Follow what recovery has learnt, sending at most `rate_limit` bytes per second.

        True if the receiver should be told to acknowledge more often, or less.
        """
        recovery = self.recovery
        rate = min(recovery.controller.pacing_rate, rate_limit)
        if recovery.rtt.latest is None:
            rate = min(rate, self._first_rate)
        self._pacer.set_rate(rate, self.datagram, now)
        wanted = max(MIN_ACK_BYTES, recovery.controller.window // 8, rate * MIN_ACK_DELAY)
        size = int(min(wanted, MAX_ACK_BYTES))
        delay = max(MIN_ACK_DELAY, min(recovery.rtt.smoothed / 4, MAX_ACK_DELAY))
        # Only what changed by a factor of two is worth a packet.
        if _similar(size, self.ack_bytes) and _similar(delay, self.ack_delay):
            return False
        self.ack_bytes, self.ack_delay = size, delay
        recovery.max_ack_delay = delay
        return True


def _similar(one: float, other: float) -> bool:
    return one / 2 <= other <= one * 2
