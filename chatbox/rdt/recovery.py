"""
What is in flight, what arrived, what is lost, and when to probe (RFC 9002, with RFC 8985's view of
reordering).

The unit of bookkeeping is the train: its packets left at one instant, with consecutive numbers, so
one `SentTrain` remembers them all, and what is still open of it is a short list of ranges of
numbers, nearly always one. An acknowledgement is a list of such ranges too, and taking it in is one
walk along both.

Packet numbers are never used again, so an acknowledgement is never ambiguous (RFC 9002 section 2).
What is lost is not a packet but a *range of the file*, and that is what `on_ack` hands back: the
sender puts it among what it has to send, and it leaves again under new numbers like anything else.
This module does not know what is in the file, and it does not know the sender.

A packet counts as lost when one that left clearly later has arrived (section 6.1): three numbers
later, not counting what was left out (`chatbox.rdt.skips`), or sent an eighth of a round trip
later. Both are guesses against reordering. When a packet that we called lost arrives after all, the
path does reorder: from then on numbers say nothing, and the time allowed grows by a quarter of the
smallest round trip each time, up to a whole smoothed one (RFC 8985 section 6.2): a path whose delay
varies may have a smallest one that says little. Sixteen loss episodes in peace, and the first
guesses count again.

If nothing at all comes back, nothing can be later than anything: then the probe timeout (section
6.2) asks the sender for a packet or two, to provoke an answer.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from operator import attrgetter

from chatbox.errors import RemoteError
from chatbox.rdt.congestion import Acked, Controller, Lost
from chatbox.rdt.packet import DATA_OVERHEAD
from chatbox.rdt.rate import DeliveryRate
from chatbox.rdt.rtt import RttEstimator

PACKET_THRESHOLD = 3
"""A packet is lost when one sent this many numbers later has arrived (RFC 9002 section 6.1.1)."""

TIME_THRESHOLD = 9 / 8
"""Or one sent this many round trips after it (section 6.1.2)."""

REORDER_STEP = 0.25
"""A step of patience, in smallest round trips (RFC 8985 section 6.2)."""

REORDER_PERSISTENCE = 16
"""Loss episodes without any reordering after which it counts as over (RFC 8985 section 6.2)."""

PERSISTENT_CONGESTION = 3
"""Probe timeouts over which losing everything means that the path is gone (RFC 9002 section 7.6.1).
"""

MAX_PROBE_TIMEOUT = 4.0
"""Seconds between probes at most: one packet every four seconds harms nobody and finds the link
soon after it is back.
"""

MAX_HELD = 0.025
"""
Seconds by which a receiver may say that it was late. One that stays further behind is the
bottleneck, and what waits for it a queue.
"""

MAX_LOST_KEPT = 256
"""Lost pieces remembered in case they arrive after all. Older ones arriving would change nothing of
use.
"""


class Load(Enum):
    """What a train carries, because its loss means different things."""

    DATA = "data"
    STATUS = "status"
    PROBE = "probe"


@dataclass(slots=True)
class SentTrain:
    """Consecutive packets that left together; the second half is `chatbox.rdt.rate.Flight`."""

    load: Load
    number: int
    count: int
    datagram: int
    """Bytes of each packet but the last."""
    last: int
    """Bytes of the last packet."""
    offset: int
    """Where in the file the data of the first packet lies."""
    sent_at: float
    open: list[tuple[int, int]] = field(default_factory=list)
    """Half-open ranges of numbers neither acknowledged nor lost."""
    acked: bool = False
    """Whether any of it was acknowledged."""
    delivered: int = 0
    delivered_at: float = 0.0
    first_sent_at: float = 0.0
    lost: int = 0
    tx_in_flight: int = 0
    app_limited: bool = False

    def size(self, start: int, stop: int) -> int:
        """
        Bytes on the wire of the packets ``[start, stop)``. A PROBE has none: it is in addition to
        what the congestion window allows, one at a time, and mostly refused by the interface.
        """
        if self.load is Load.PROBE:
            return 0
        size = (stop - start) * self.datagram
        return size - self.datagram + self.last if stop == self.number + self.count else size

    def file_range(self, start: int, stop: int) -> tuple[int, int]:
        """The bytes of the file that the packets ``[start, stop)`` carry."""
        payload = self.datagram - DATA_OVERHEAD
        begin = self.offset + (start - self.number) * payload
        return begin, begin + self.size(start, stop) - (stop - start) * DATA_OVERHEAD


@dataclass(slots=True)
class Outcome:
    """What an acknowledgement or a timer brought to light."""

    arrived: list[tuple[int, int]] = field(default_factory=list)
    """Ranges of the file that are with the receiver."""
    lost: list[tuple[int, int]] = field(default_factory=list)
    """Ranges of the file that have to leave again."""
    acked_numbers: list[tuple[Load, int, int]] = field(default_factory=list)
    """(load, packet number, bytes) of packets other than data that arrived."""
    lost_numbers: list[tuple[Load, int, int]] = field(default_factory=list)
    """The same of those that did not."""
    acked: int = 0
    """Bytes on the wire newly acknowledged."""
    joined_arrived: int = 0
    """Packets of data that arrived of trains of several."""
    joined_lost: int = 0
    """And that did not."""
    largest_arrived: int = 0
    """Bytes of the largest packet of data that arrived; 0 for none."""
    smallest_lost: int = 0
    """Bytes of the smallest packet other than a PROBE that was lost; 0 for none."""


@dataclass(slots=True, eq=False)
class _Mourned:
    """A piece that was declared lost."""

    train: SentTrain
    start: int
    stop: int


class Recovery:
    """The sender's memory of what it sent over one path."""

    def __init__(self, controller: Controller, now: float) -> None:
        self.controller = controller
        self.rtt = RttEstimator()
        self.rate = DeliveryRate(now)
        self.in_flight = 0
        """Bytes that left and are neither acknowledged nor lost."""
        self.next_number = 0
        """The next packet number to use."""
        self.probes_sent = 0
        """Probe timeouts since anything was acknowledged."""
        self.idle_since: float | None = None
        """When the last packet in flight was accounted for; None while there are any, and before
        the first.
        """
        self.max_ack_delay = 0.0
        """How long the receiver may sit on an acknowledgement, as we told it to, in seconds."""
        self.max_probe_timeout = MAX_PROBE_TIMEOUT
        """Seconds between probes at most."""
        self._trains: deque[SentTrain] = deque()
        self._skipped: deque[int] = deque()
        """Numbers that were left out and lie in what is in flight, ascending, far between."""
        self._largest_acked = -1
        self._last_sent_at = now
        self._loss_at: float | None = None
        self._mourned: list[_Mourned] = []
        """What was declared lost of late, by packet number, ascending."""
        self._reorder_steps = 0
        self._peaceful_episodes = 0
        self._episode_at = -math.inf
        self._episode_lost = 0
        self._lost_until = -1

    # ---- sending

    def on_sent(
        self, load: Load, count: int, datagram: int, last: int, offset: int, now: float
    ) -> SentTrain:
        """Remember a train that leaves now, numbered from `next_number` on."""
        train = SentTrain(load, self.next_number, count, datagram, last, offset, now)
        self.next_number += count
        train.open.append((train.number, self.next_number))
        size = train.size(train.number, self.next_number)
        if self.idle_since is not None:
            self.controller.on_idle(now, now - self.idle_since)
            self.idle_since = None
        self.rate.on_sent(train, self.in_flight, size)
        self.controller.on_sent(now, size, self.in_flight, train.app_limited)
        self.in_flight += size
        self._trains.append(train)
        self._last_sent_at = now
        return train

    def skip_number(self) -> None:
        """Leave a number out: whoever acknowledges it has not received it."""
        self._skipped.append(self.next_number)
        self.next_number += 1

    # ---- being told

    def on_ack(
        self,
        ranges: Sequence[tuple[int, int]],
        ack_delay: float,
        now: float,
        waited: float = 0.0,
    ) -> Outcome:
        """
        Take in an acknowledgement: half-open ranges of packet numbers, the highest first.

        The receiver held it back for `ack_delay` seconds after the highest had come, and it waited
        here for `waited` seconds until we had time for it. Neither is the path's doing, so neither
        counts in what the controller is told of the path; both do in when something is overdue.

        :raises RemoteError: ``bad-ack`` if it names a number that was never used.
        """
        outcome = Outcome()
        if not ranges:
            return outcome
        never = any(start <= number < stop for number in self._skipped for start, stop in ranges)
        if never or ranges[0][1] > self.next_number:
            raise RemoteError("bad-ack", "packets were acknowledged that were never sent")
        held = min(ack_delay, MAX_HELD) + waited
        arrived_at = max(now - held, self.rate.delivered_at)
        newest = self._settle(ranges, outcome, arrived_at)
        self._revive(ranges, outcome, arrived_at)
        if newest is None and not outcome.acked:
            return outcome
        self.probes_sent = 0
        rtt_sample = None
        if newest is not None and ranges[0][1] - 1 > self._largest_acked:
            self._largest_acked = ranges[0][1] - 1
            if newest.number + newest.count > self._largest_acked:
                sample = max(now - newest.sent_at, 1e-6)
                self.rtt.update(sample, min(ack_delay, self.max_ack_delay))
                rtt_sample = max(sample - held, self.rtt.min_rtt)
        rate = self.rate.sample(arrived_at, self.rtt.min_rtt)
        newly_lost = self._detect_losses(outcome, now)
        self._forget_settled(now)
        self.controller.on_acked(
            Acked(
                now=now,
                newly_acked=outcome.acked,
                newly_lost=newly_lost,
                in_flight=self.in_flight,
                delivered=self.rate.delivered,
                rtt=rtt_sample,
                rate=rate,
                held=held,
            ),
            self.rtt,
        )
        return outcome

    def on_timer(self, now: float) -> tuple[Outcome, bool]:
        """The deadline has come: what is lost, and whether to send a probe."""
        outcome = Outcome()
        if self._loss_at is not None and self._loss_at <= now:
            self._detect_losses(outcome, now)
            self._forget_settled(now)
            return outcome, False
        if self.in_flight and self._probe_at() <= now:
            self.probes_sent += 1
            self._last_sent_at = now
            return outcome, True
        return outcome, False

    def abandon(self, now: float) -> None:
        """What is in flight does not matter any more, and whether it arrives will not be asked."""
        self._trains.clear()
        self._mourned.clear()
        self._loss_at = None
        self.in_flight = 0
        self.idle_since = now
        self.probes_sent = 0

    def migrate(self, controller: Controller, now: float) -> Outcome:
        """Begin anew on another path; what was in flight on the old one counts as not sent."""
        outcome = Outcome()
        for train in self._trains:
            for start, stop in train.open:
                self._report(train, start, stop, outcome.lost, outcome.lost_numbers)
        self.abandon(now)
        self.controller = controller
        self.rtt = RttEstimator()
        self.rate = DeliveryRate(now)
        self._largest_acked = self.next_number - 1
        self._reorder_steps = 0
        return outcome

    def next_timer(self) -> float | None:
        """When to call `on_timer`."""
        if self._loss_at is not None:
            return self._loss_at
        return self._probe_at() if self.in_flight else None

    def oldest_data(self) -> tuple[int, int] | None:
        """The range of the file that has been in flight for longest: what a probe should carry."""
        for train in self._trains:
            if train.open and train.load is Load.DATA:
                return train.file_range(*train.open[0])
        return None

    # ---- inside

    def _probe_at(self) -> float:
        timeout = self.rtt.probe_timeout(self.max_ack_delay) * (1 << min(self.probes_sent, 16))
        return self._last_sent_at + min(timeout, self.max_probe_timeout)

    def _settle(
        self, ranges: Sequence[tuple[int, int]], outcome: Outcome, now: float
    ) -> SentTrain | None:
        """Close what the ranges name among the open trains; the newest train that this touched."""
        ascending = ranges[::-1]
        index, newest = 0, None
        top = ranges[0][1]
        for train in self._trains:
            if train.number >= top:
                break
            while ascending[index][1] <= train.number:
                index += 1
            if not train.open:
                continue
            if train.open[0][0] >= ascending[index][0] and train.open[-1][1] <= ascending[index][1]:
                hits, train.open = train.open, []
            else:
                hits, train.open = _split(train.open, ascending, index)
            if not hits:
                continue
            acked = 0
            for start, stop in hits:
                acked += train.size(start, stop)
                self._report(train, start, stop, outcome.arrived, outcome.acked_numbers)
            newest = train
            train.acked = True
            if train.load is Load.DATA:
                outcome.largest_arrived = max(outcome.largest_arrived, train.datagram)
                if train.count > 1:
                    outcome.joined_arrived += sum(stop - start for start, stop in hits)
            if acked:
                self.in_flight -= acked
                outcome.acked += acked
                self.rate.on_acked(train, acked, now)
        return newest

    def _revive(self, ranges: Sequence[tuple[int, int]], outcome: Outcome, now: float) -> None:
        """
        Find what was declared lost and arrived after all: rarely anything, so looking is one walk.
        """
        ascending = ranges[::-1]
        index, found = 0, []
        first = bisect_right(self._mourned, ascending[0][0], key=attrgetter("stop"))
        for piece in islice(self._mourned, first, None):
            while index < len(ascending) and ascending[index][1] <= piece.start:
                index += 1
            if index == len(ascending):
                break
            if ascending[index][0] < piece.stop:
                found.append(piece)
        if found:
            self._revive_pieces(found, ascending, outcome, now)

    def _revive_pieces(
        self, found: list[_Mourned], ranges: Sequence[tuple[int, int]], outcome: Outcome, now: float
    ) -> None:
        revived = 0
        for piece in found:
            self._mourned.remove(piece)
            hits, left = _split([(piece.start, piece.stop)], ranges, 0)
            for start, stop in left:
                self._mourn(piece.train, start, stop)
            for start, stop in hits:
                size = piece.train.size(start, stop)
                revived += size
                self._report(piece.train, start, stop, outcome.arrived, outcome.acked_numbers)
                self.rate.on_acked(piece.train, size, now)
        outcome.acked += revived
        self._reorder_steps += 1
        self._peaceful_episodes = 0
        self._episode_lost -= revived
        if self._episode_lost <= 0 < self._episode_lost + revived:
            self.controller.on_spurious_loss(now)

    def _mourn(self, train: SentTrain, start: int, stop: int) -> None:
        insort(self._mourned, _Mourned(train, start, stop), key=attrgetter("start"))
        if len(self._mourned) > MAX_LOST_KEPT:
            del self._mourned[0]

    def _loss_delay(self) -> float:
        if not self._reorder_steps:
            return self.rtt.loss_delay(TIME_THRESHOLD)
        patience = self._reorder_steps * REORDER_STEP * self.rtt.min_rtt
        smoothed = self.rtt.smoothed
        return self.rtt.loss_delay(1.0) + min(max(patience, smoothed / 8), smoothed)

    def _detect_losses(self, outcome: Outcome, now: float) -> int:
        """Declare lost what later arrivals left behind, set the loss timer, return the bytes."""
        self._loss_at = None
        delay = self._loss_delay()
        by_number = -1 if self._reorder_steps else self._largest_acked + 1 - PACKET_THRESHOLD
        # What was never sent was not sent later.
        by_number -= any(by_number <= number < self._largest_acked for number in self._skipped)
        newly_lost = 0
        span_from: float | None = None
        longest_outage = self.rtt.probe_timeout(self.max_ack_delay) * PERSISTENT_CONGESTION
        persistent = False
        for train in self._trains:
            if train.number > self._largest_acked:
                break
            if train.acked:
                span_from = None
            if not train.open:
                continue
            by_time = train.sent_at + delay <= now
            limit = self._largest_acked if by_time else by_number
            kept: list[tuple[int, int]] = []
            for start, stop in train.open:
                cut = min(stop, limit)
                if start < cut:
                    newly_lost += self._lose(train, start, cut, outcome, now)
                    span_from = train.sent_at if span_from is None else span_from
                    persistent |= train.sent_at - span_from > longest_outage
                if max(start, cut) < stop:
                    kept.append((max(start, cut), stop))
            train.open = kept
            if kept and kept[0][0] < self._largest_acked and not by_time:
                due = train.sent_at + delay
                self._loss_at = due if self._loss_at is None else min(self._loss_at, due)
        if persistent and self.rtt.latest is not None:
            self.controller.on_persistent_congestion(now)
        return newly_lost

    def _lose(self, train: SentTrain, start: int, stop: int, outcome: Outcome, now: float) -> int:
        size = train.size(start, stop)
        self.in_flight -= size
        self._report(train, start, stop, outcome.lost, outcome.lost_numbers)
        if train.load is Load.PROBE:
            return (
                0  # too large for the path, most likely: no sign of congestion (RFC 8899 section 3)
            )
        smallest = outcome.smallest_lost
        outcome.smallest_lost = min(train.datagram, smallest) if smallest else train.datagram
        if train.count > 1:
            outcome.joined_lost += stop - start
        self.rate.lost += size
        if train.sent_at > self._episode_at:
            self._episode_at = now
            self._episode_lost = 0
            self._peaceful_episodes += 1
            if self._peaceful_episodes > REORDER_PERSISTENCE:
                self._reorder_steps = 0
        self._episode_lost += size
        self._mourn(train, start, stop)
        self.controller.on_lost(
            Lost(
                now=now,
                size=size,
                sent_at=train.sent_at,
                tx_in_flight=train.tx_in_flight,
                lost_since_sent=self.rate.lost - train.lost,
                delivered=self.rate.delivered,
                app_limited=train.app_limited,
                follows=start == self._lost_until,
            )
        )
        self._lost_until = stop
        return size

    @staticmethod
    def _report(
        train: SentTrain,
        start: int,
        stop: int,
        data: list[tuple[int, int]],
        others: list[tuple[Load, int, int]],
    ) -> None:
        if train.load is Load.DATA:
            data.append(train.file_range(start, stop))
        else:
            others.append((train.load, start, train.datagram))

    def _forget_settled(self, now: float) -> None:
        trains = self._trains
        while trains and not trains[0].open:
            trains.popleft()
        settled = min(trains[0].number if trains else self.next_number, self._largest_acked)
        while self._skipped and self._skipped[0] < settled:
            self._skipped.popleft()
        if not self.in_flight and self.idle_since is None:
            self.idle_since = now


def _split(
    ranges: Sequence[tuple[int, int]], by: Sequence[tuple[int, int]], index: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """What of `ranges` lies in `by[index:]`, and what does not; both ascending."""
    inside: list[tuple[int, int]] = []
    outside: list[tuple[int, int]] = []
    for start, stop in ranges:
        while index < len(by) and by[index][1] <= start:
            index += 1
        at = index
        while at < len(by) and by[at][0] < stop:
            low, high = max(start, by[at][0]), min(stop, by[at][1])
            if start < low:
                outside.append((start, low))
            inside.append((low, high))
            start = high
            at += 1
        if start < stop:
            outside.append((start, stop))
    return inside, outside
