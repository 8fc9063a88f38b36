"""
A network path in virtual time, for congestion controllers: one bottleneck that several flows share.

    sender --(policer)--(random loss)--> queue -> link -> receiver
       ^------------------ acknowledgements --------------------'

Trains are the unit, as everywhere in `chatbox.rdt`; within a train each packet is dropped or kept
for itself. A train takes its place in the queue at the instant at which it leaves the sender; all
of the base round trip is spent between the link and the return of the acknowledgement. Senders keep
their books with the real `Recovery`, `Pacer` and `DeliveryRate`, and wake up like the real one: on
acknowledgements, and on timers of one millisecond.

Everything that is random comes from one seed, so a run is repeatable to the byte.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from chatbox.rdt.congestion import Controller
from chatbox.rdt.pacing import Pacer
from chatbox.rdt.ranges import RangeSet
from chatbox.rdt.recovery import Load, Recovery, SentTrain

PACKET = 1200
ACK_RANGES = 6
"""How many ranges an acknowledgement holds: a few, or `Recovery` takes most of the time."""
TIMER = 0.001
"""Timers fire at whole multiples of this, in seconds."""

Ranges = list[tuple[int, int]]


def mbit(rate: float) -> float:
    """Bytes per second of so many megabits per second."""
    return rate * 1e6 / 8


@dataclass(slots=True)
class Policer:
    """A token bucket that drops what exceeds it and never queues."""

    rate: float
    burst: float
    tokens: float = 0.0
    updated_at: float = 0.0

    def passes(self, size: int, now: float) -> bool:
        """Take the tokens for `size` bytes, if there are enough."""
        self.tokens = min(self.burst, self.tokens + (now - self.updated_at) * self.rate)
        self.updated_at = now
        if self.tokens < size:
            return False
        self.tokens -= size
        return True


@dataclass(slots=True)
class Path:
    """The bottleneck and the clock. Change its fields at any time of a run to change the path."""

    rate: float
    """Bytes per second of the link."""
    rtt: float
    """Seconds of the round trip without any queue."""
    queue: int
    """Bytes that wait for the link at most, the train on the link included."""
    loss: float = 0.0
    """The probability of a packet to be lost, whatever the queue."""
    loss_behind: bool = False
    """Whether such packets are lost behind the link, having used it, and not in front of it."""
    policer: Policer | None = None
    hold_acks: float = 0.0
    """Acknowledgements are held and released together at multiples of this many seconds."""
    ack_loss: float = 0.0
    train_packets: int = 8
    """The longest train: short enough to be close to a fluid, long enough to be fast."""
    seed: int = 1
    now: float = 0.0
    backlog: int = 0
    """Bytes waiting for the link."""
    dropped: int = 0
    """Bytes that did not fit into the queue or past the policer."""
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    waiting: deque[tuple[Flow, SentTrain, Ranges, int]] = field(default_factory=deque)
    queue_delays: list[tuple[float, float]] = field(default_factory=list)
    """(when, seconds of queue) at each train that arrived at the link."""
    _count: int = 0
    _random: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self._random.seed(self.seed)

    def flow(self, controller: Controller, **options: float) -> Flow:
        """Let a sender begin now, or at `starts_at`."""
        made = Flow(self, controller, **options)
        self.flows.append(made)
        self.at(max(self.now, made.starts_at), made.start)
        return made

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Call `what` at the instant `when`."""
        self._count += 1
        heapq.heappush(self.events, (when, self._count, what))

    def run(self, until: float, done: Callable[[], bool] | None = None) -> None:
        """Let time pass up to an instant, or until `done` says so."""
        events = self.events
        while events and events[0][0] <= until:
            self.now, _, what = heapq.heappop(events)
            what()
            if done is not None and done():
                return
        self.now = until

    def run_until(self, done: Callable[[], bool], limit: float) -> None:
        """Let time pass until `done`; fail if that takes longer than to the instant `limit`."""
        self.run(limit, done)
        if not done():
            raise AssertionError(f"not within {limit} s; seed {self.seed}")

    def bdp(self) -> float:
        """Bytes that fill the path without a queue."""
        return self.rate * self.rtt

    def median_queue_delay(self, since: float) -> float:
        """Of all trains since an instant, in seconds."""
        start = bisect_left(self.queue_delays, (since, 0.0))
        return median(delay for _, delay in self.queue_delays[start:])

    def carry(self, flow: Flow, train: SentTrain) -> None:
        """Take a train from its sender."""
        rng, size = self._random, train.datagram
        kept: Ranges = []
        used = 0
        self.queue_delays.append((self.now, self.backlog / self.rate))
        for number in range(train.number, train.number + train.count):
            lost = self.loss > 0 and rng.random() < self.loss
            if lost and not self.loss_behind:
                continue
            if self.backlog + used + size > self.queue or (
                self.policer is not None and not self.policer.passes(size, self.now)
            ):
                self.dropped += size
                continue
            used += size
            if lost:
                continue
            if kept and kept[-1][1] == number:
                kept[-1] = (kept[-1][0], number + 1)
            else:
                kept.append((number, number + 1))
        if not used:
            return
        self.backlog += used
        self.waiting.append((flow, train, kept, used))
        if len(self.waiting) == 1:
            self.at(self.now + used / self.rate, self._transmitted)

    def chance(self) -> float:
        """A number from 0 to 1."""
        return self._random.random()

    def _transmitted(self) -> None:
        flow, _, kept, used = self.waiting.popleft()
        self.backlog -= used
        if self.waiting:
            self.at(self.now + self.waiting[0][3] / self.rate, self._transmitted)
        if kept:
            arrives = self.now + self.rtt
            if self.hold_acks:
                arrives = _after(arrives, self.hold_acks)
            flow.answer(kept, arrives)


def _after(when: float, step: float) -> float:
    """The first whole multiple of `step` that is clearly later than `when`."""
    return (when // step + 1 + (when % step > step * 0.999)) * step


class Flow:
    """One sender and its receiver."""

    def __init__(
        self,
        path: Path,
        controller: Controller,
        *,
        starts_at: float = 0.0,
        size: float = float("inf"),
        app_rate: float = float("inf"),
    ) -> None:
        self.path = path
        self.controller = controller
        self.starts_at = starts_at
        self.size = size if math.isinf(size) else math.ceil(size / PACKET) * PACKET
        """Bytes to deliver in all: whole packets."""
        self.app_rate = app_rate
        """Bytes per second that the application supplies."""
        self.paused = False
        self.recovery = Recovery(controller, starts_at)
        self.pacer = Pacer(PACKET, starts_at)
        self.sent = 0
        self.finished_at: float | None = None
        self.deliveries: list[tuple[float, int]] = []
        """(when, bytes delivered by then) at each acknowledgement."""
        self.watch: Callable[[], None] | None = None
        """Called after everything that may have changed the controller."""
        self._supply = 0.0
        self._supplied_at = starts_at
        self._wake_at: float | None = None
        self._timer_at: float | None = None
        self._received = RangeSet()
        self._answer: Ranges = []
        self._answer_at: float | None = None

    @property
    def delivered(self) -> int:
        """Bytes acknowledged."""
        return self.recovery.rate.delivered

    def goodput(self, start: float, stop: float) -> float:
        """Bytes per second delivered between two instants."""
        return (self._delivered_by(stop) - self._delivered_by(start)) / (stop - start)

    def _delivered_by(self, when: float) -> int:
        index = bisect_left(self.deliveries, (when, 0))
        return self.deliveries[index - 1][1] if index else 0

    def start(self) -> None:
        """Begin to send."""
        self._pump()

    def pause(self) -> None:
        """The application has nothing to send for a while."""
        self.paused = True

    def resume(self) -> None:
        """The application has plenty again."""
        self.paused = False
        self._pump()

    def answer(self, kept: Ranges, arrives: float) -> None:
        """The receiver's side: say at `arrives` what came until then."""
        path = self.path
        for start, stop in kept:
            self._received.add(start, stop)
        if self._answer_at == arrives:
            self._answer[:] = self._received.highest(ACK_RANGES)  # it goes along
            return
        if path.ack_loss and path.chance() < path.ack_loss:
            return
        self._answer_at = arrives
        answer = self._answer = self._received.highest(ACK_RANGES)
        path.at(arrives, lambda: self._acknowledged(answer))

    def _acknowledged(self, ranges: Ranges) -> None:
        self.recovery.on_ack(ranges, 0.0, self.path.now)
        self.deliveries.append((self.path.now, self.delivered))
        if self.delivered >= self.size and self.finished_at is None:
            self.finished_at = self.path.now
        self._pump()

    def _pump(self) -> None:
        self._send()
        timer = self.recovery.next_timer()
        if timer is not None and (self._timer_at is None or timer < self._timer_at):
            self._timer_at = timer
            self.path.at(max(timer, self.path.now), self._timeout)
        if self.watch is not None:
            self.watch()

    def _send(self) -> None:
        now, controller, recovery = self.path.now, self.controller, self.recovery
        pacer = self.pacer
        while self.finished_at is None:
            room = controller.window - recovery.in_flight
            if room < PACKET:
                pacer.not_waiting()
                return
            pacer.set_rate(controller.pacing_rate, PACKET, now)
            budget = pacer.budget(now)
            if budget < PACKET:
                self._wake(pacer.ready_at(now))
                return
            supply = self._available(now)
            if supply < PACKET:
                recovery.rate.mark_app_limited(recovery.in_flight)
                if not self.paused and self.delivered + recovery.in_flight < self.size:
                    self._wake(now + TIMER)
                return
            limit = min(room, budget, supply, controller.quantum)
            count = max(1, min(self.path.train_packets, int(limit) // PACKET))
            self._emit(count, now)

    def _emit(self, count: int, now: float) -> None:
        train = self.recovery.on_sent(Load.DATA, count, PACKET, PACKET, 0, now)
        self.pacer.spend(count * PACKET, now)
        if not math.isinf(self.app_rate):
            self._supply -= count * PACKET
        self.sent += count * PACKET
        self.path.carry(self, train)

    def _available(self, now: float) -> float:
        if self.paused:
            return 0.0
        left = self.size - self.delivered - self.recovery.in_flight
        if math.isinf(self.app_rate):
            self._supplied_at = now
            return left
        # What the application may be ahead is bounded by what it makes in ten milliseconds.
        ahead = max(2 * PACKET, self.app_rate * 0.01)
        self._supply = min(ahead, self._supply + (now - self._supplied_at) * self.app_rate)
        self._supplied_at = now
        return min(left, self._supply)

    def _wake(self, when: float) -> None:
        when = _after(when, TIMER)
        if self._wake_at is None or when < self._wake_at:
            self._wake_at = when
            self.path.at(when, self._woken)

    def _woken(self) -> None:
        if self._wake_at is not None and self._wake_at <= self.path.now:
            self._wake_at = None
            self._pump()

    def _timeout(self) -> None:
        now = self.path.now
        if self._timer_at is None or self._timer_at > now:
            return
        self._timer_at = None
        due = self.recovery.next_timer()
        if due is not None and due <= now:
            _, probe = self.recovery.on_timer(now)
            if probe:
                self._emit(1, now)
        self._pump()
