"""
A link that exists only in a test: seeded, in virtual time, to the byte.

`Link` carries datagrams one way with a rate, a queue, a delay, and every kind of bad weather.
`Transfer` puts a real sender (behind a real demux) and a real receiver on the two ends of two links
and jumps from deadline to deadline until nothing is left to do. No time passes while it does.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from chatbox.rdt.admissions import Admissions, Taker
from chatbox.rdt.congestion import ControllerFactory
from chatbox.rdt.congestion.cubic import Cubic
from chatbox.rdt.demux import Allowance, Demux
from chatbox.rdt.ends import End
from chatbox.rdt.packet import Train
from chatbox.rdt.receiver import Ended, Event, Receiver, Verdict
from chatbox.rdt.ticket import Ticket

UDP_IP_BYTES = 28
"""What the headers below ours add to each datagram on the wire."""


@dataclass(frozen=True)
class Weather:
    """What a link does to what it carries. Rates in bytes per second, times in seconds, chances
    from 0 to 1.
    """

    rate: float = 12.5e6
    delay: float = 0.01
    queue: int = 1 << 30
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_by: float = 0.02
    corrupt: float = 0.0
    jitter: float = 0.0
    mtu: int = 1472
    blackouts: tuple[tuple[float, float], ...] = ()


@dataclass
class Link:
    """One direction."""

    weather: Weather
    random: random.Random
    deliver: Callable[[bytes, float], None]
    free_at: float = 0.0
    carried: int = 0
    dropped: int = 0
    longest_wait: float = 0.0
    waits: list[tuple[float, float]] = field(default_factory=list)

    def send(self, datagram: bytes, now: float, at: Callable[[float, bytes], None]) -> None:
        """Take one datagram; `at` is told when what arrives of it arrives."""
        weather, rng = self.weather, self.random
        wait = max(0.0, self.free_at - now)
        size = len(datagram) + UDP_IP_BYTES
        if len(datagram) > weather.mtu or wait * weather.rate + size > weather.queue:
            self.dropped += 1
            return
        self.waits.append((now, wait))
        self.free_at = now + wait + size / weather.rate
        self.carried += size
        blacked_out = any(start <= now < stop for start, stop in weather.blackouts)
        if blacked_out or rng.random() < weather.loss:
            self.dropped += 1
            return
        for _ in range(2 if rng.random() < weather.duplicate else 1):
            arrival = self.free_at + weather.delay + rng.random() * weather.jitter
            if rng.random() < weather.reorder:
                arrival += weather.reorder_by
            carried = datagram
            if rng.random() < weather.corrupt:
                damaged = bytearray(datagram)
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
                carried = bytes(damaged)
            at(arrival, carried)


class Machine:
    """
    A computer that finds no time for us now and then: on average `every` seconds, for up to
    `at_most`. What comes meanwhile waits, and so do timers.
    """

    def __init__(self, seed: int, every: float, at_most: float) -> None:
        self._random = random.Random(seed)
        self._every, self._at_most = every, at_most
        self._stalls: list[tuple[float, float]] = [(0.0, 0.0)]

    def free_at(self, now: float) -> float:
        """When it has time for what happens now: at once, or when it is free again."""
        if math.isinf(self._every):
            return now
        stalls = self._stalls
        while stalls[-1][0] <= now:
            begin = max(stalls[-1][1], now - self._every) + self._random.expovariate(
                1 / self._every
            )
            stalls.append((begin, begin + self._random.uniform(0, self._at_most)))
        for begin, end in reversed(stalls):
            if begin <= now:
                return max(now, end)
        return now


class MemorySource:
    """A file that is in memory."""

    def __init__(self, data: bytes, *, hashed: bool = True) -> None:
        self.data = data
        self.size = len(data)
        self.mtime_ns = 1
        self.hashed = hashed
        self.is_changed = False
        self.closed = False
        self.doubted = False
        self.wake: Callable[[], None] | None = None

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Copy."""
        piece = self.data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)

    def changed(self) -> bool:
        """As the test says."""
        return self.is_changed

    def digest(self) -> bytes | None:
        """Known from the beginning, or when the test says so."""
        import hashlib

        return hashlib.sha256(self.data).digest() if self.hashed else None

    def start_hashing(self, wake: Callable[[], None]) -> None:
        """Remember whom to wake."""
        self.wake = wake

    def doubt(self) -> None:
        """Remember it."""
        self.doubted = True

    def close(self) -> None:
        """Remember it."""
        self.closed = True


class MemorySink:
    """A disk that is in memory."""

    def __init__(self, size: int, have: tuple[tuple[int, int], ...] = (), old: bytes = b"") -> None:
        self.data = bytearray(size)
        self.have = have
        for start, stop in have:
            self.data[start:stop] = old[start:stop]
        self.mtime_ns = 1
        self.fail_at: int | None = None
        self.error: OSError = OSError(28, "No space left on device")
        self.prefix = 0
        self.ended: End | None = None
        self.written = 0
        self._wanted: bytes | None = None

    def recognise(self, mtime_ns: int) -> bool:
        """Whether it is the file that the test says."""
        return mtime_ns == self.mtime_ns

    def write(self, offset: int, data: memoryview) -> None:
        """Copy, or fail as the test says."""
        if self.fail_at is not None and offset + len(data) > self.fail_at:
            raise self.error
        self.data[offset : offset + len(data)] = data
        self.written += len(data)

    def reached(self, prefix: int) -> None:
        """Remember."""
        self.prefix = prefix

    def finish(self, digest: bytes) -> None:
        """Remember what it should be."""
        self._wanted = digest

    def verdict(self) -> Verdict | None:
        """Compare."""
        import hashlib

        if self._wanted is None:
            return None
        digest = hashlib.sha256(self.data).digest()
        if digest != self._wanted:
            return Verdict(End.HASH_MISMATCH)
        return Verdict(End.DONE, path="memory", digest=digest)

    def close(self, end: End) -> Verdict | None:
        """Remember."""
        self.ended = end
        return None


class Network:
    """Virtual time, and what is on its way in it."""

    def __init__(self, seed: int) -> None:
        self.now = 1000.0
        self.random = random.Random(seed)
        self._arrivals: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0

    def at(self, when: float, act: Callable[[float], None]) -> None:
        """Do something at an instant."""
        self._count += 1
        heapq.heappush(self._arrivals, (when, self._count, act))

    def next_arrival(self) -> float | None:
        """When the next thing happens by itself."""
        return self._arrivals[0][0] if self._arrivals else None

    def happen(self) -> None:
        """Let all that is due now happen."""
        while self._arrivals and self._arrivals[0][0] <= self.now:
            heapq.heappop(self._arrivals)[2](self.now)


class Transfer:
    """
    A file on its way from a server to a client over two bad links.

    The seed decides everything. `run` returns the events that the client saw; `check` asserts what
    must hold after every transfer that ended well.
    """

    def __init__(
        self,
        data: bytes,
        *,
        seed: int = 1,
        down: Weather = Weather(),
        up: Weather | None = None,
        make_controller: ControllerFactory = Cubic,
        pause_half_way: bool = False,
        source: MemorySource | None = None,
        sink: MemorySink | None = None,
        rtt: float = 0.0,
        auto_proceed: bool = True,
        timer_slack: float = 0.0,
        max_rate: float = math.inf,
        stalls: tuple[float, float] = (math.inf, 0.0),
    ) -> None:
        self.seed = seed
        self.server_machine = Machine(seed, *stalls)
        self.client_machine = Machine(seed + 1000, *stalls)
        self.network = Network(seed)
        self.random = self.network.random
        self.source = source if source is not None else MemorySource(data)
        self.sink = sink if sink is not None else MemorySink(len(data))
        self.data = data
        self.auto_proceed = auto_proceed
        self.timer_slack = timer_slack
        now = self.network.now
        self.started_at = now
        # What the server draws leaves the weather alone.
        draw = random.Random(seed + 2000).randbytes
        self.demux = Demux(make_controller, Admissions(), draw, Allowance(max_rate), now)
        self.ticket: Ticket = self.demux.admit(Taker("alice", host="client"), self.source, now)
        self.served = self.demux._transfers[self.ticket.connection_id]
        self.sender = self.served.sender
        self.receiver = Receiver(
            self.ticket, len(data), self.sink, now, pause_half_way=pause_half_way, rtt=rtt
        )
        self.down = Link(down, self.random, lambda *_: None)
        self.up = Link(
            up if up is not None else replace(down, rate=max(down.rate, 1.25e6)),
            self.random,
            lambda *_: None,
        )
        self.client_address: object = ("client", 1)
        self.events: list[Event] = []
        self.server_events: list[object] = []
        self.largest_burst = 0
        self.breaks_trains = False
        """Whether the server's kernel damages trains that it is handed whole."""
        self.asleep = False
        """Whether the client's computer sleeps: it hears nothing and does nothing."""
        self.ended_at: float | None = None
        self.on_step: Callable[[Transfer], None] = lambda _: None
        self._server_wakes: float | None = None
        self._client_wakes: float | None = None

    # ---- one step after another

    def run(self, until: float = 4000.0, steps: int = 3_000_000) -> list[Event]:
        """Go on until both sides are done, or for `until` seconds of virtual time."""
        self._serve_server()
        self._serve_client()
        for _ in range(steps):
            if self.receiver.closed and not len(self.demux):
                return self.events
            instants = [
                self.network.next_arrival(),
                self._deadline(self.demux),
                self._deadline(self.receiver),
            ]
            following = min((instant for instant in instants if instant is not None), default=None)
            if following is None or following > self.started_at + until:
                self.network.now = self.started_at + until
                return self.events
            self.network.now = max(self.network.now, following)
            self.step()
        raise AssertionError(f"seed {self.seed}: no end in sight after {steps} steps")

    def step(self) -> None:
        """Everything that is due at this instant."""
        now = self.network.now
        self.network.happen()
        if self._due(self.demux, now):
            self.demux.on_timer(now)
            self._serve_server()
        if self._due(self.receiver, now):
            self.receiver.on_timer(now)
            self._serve_client()
        self.on_step(self)

    def run_and_time_the_first_byte(self) -> float:
        """Run to the end; return after how many seconds something of the file was there."""
        arrived: list[float] = []

        def watch(transfer: Transfer) -> None:
            if transfer.sink.written and not arrived:
                arrived.append(transfer.network.now - transfer.started_at)

        self.on_step = watch
        self.run()
        return arrived[0]

    def call(self, act: Callable[[Receiver, float], None]) -> None:
        """Do something to the receiver as its user."""
        act(self.receiver, self.network.now)
        self._serve_client()

    def at(self, after: float, act: Callable[[Receiver, float], None]) -> None:
        """The same, so many seconds after the beginning."""
        self.network.at(self.started_at + after, lambda _: self.call(act))

    def _deadline(self, engine: Demux | Receiver) -> float | None:
        deadline = engine.next_timer()
        if deadline is None or (self.asleep and engine is self.receiver):
            return None
        machine = self.client_machine if engine is self.receiver else self.server_machine
        return machine.free_at(deadline + self.timer_slack)

    def _due(self, engine: Demux | Receiver, now: float) -> bool:
        deadline = self._deadline(engine)
        return deadline is not None and deadline <= now

    # ---- what the adapters do on real sockets

    def _serve_server(self) -> None:
        now = self.network.now
        burst = 0
        for train, address in self.demux.trains_to_send(now):
            damaged = self.breaks_trains and train.joined and len(train.data) > train.segment
            for datagram in train.datagrams():
                burst += len(datagram)
                if not damaged:
                    self.down.send(bytes(datagram), now, self._to_client(address))
        self.largest_burst = max(self.largest_burst, burst)
        while (happened := self.demux.next_event()) is not None:
            self.server_events.append(happened[1])

    def _serve_client(self) -> None:
        if self.asleep:
            return
        now = self.network.now
        for train in self.receiver.trains_to_send(now):
            for datagram in train.datagrams():
                self.up.send(bytes(datagram), now, self._to_server())
        while (event := self.receiver.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, Ended):
                self.ended_at = now
            if type(event).__name__ == "Paused" and self.auto_proceed:
                self.network.at(now + 0.5, lambda _: self.call(lambda r, t: r.proceed(t)))
        self.receiver.sink_ready(now)
        if (event := self.receiver.next_event()) is not None:
            self.events.append(event)
            self.ended_at = now
            self._serve_client()

    def _to_client(self, address: object) -> Callable[[float, bytes], None]:
        def arrive(datagram: bytes, waited: float) -> None:
            if address == self.client_address and not self.asleep:
                train = Train(memoryview(datagram), len(datagram))
                self.receiver.receive(train, self.network.now, waited)
                self._serve_client()

        return self._when_free(self.client_machine, arrive)

    def _to_server(self) -> Callable[[float, bytes], None]:
        address = self.client_address

        def arrive(datagram: bytes, waited: float) -> None:
            train = Train(memoryview(datagram), len(datagram))
            self.demux.receive(train, address, self.network.now, waited)
            self._serve_server()

        return self._when_free(self.server_machine, arrive)

    def _when_free(
        self, machine: Machine, arrive: Callable[[bytes, float], None]
    ) -> Callable[[float, bytes], None]:
        """What comes to a machine at an instant is read when it has time for it."""

        def come(when: float, datagram: bytes) -> None:
            read_at = machine.free_at(when)
            self.network.at(read_at, lambda _: arrive(datagram, read_at - when))

        return come

    # ---- what must hold afterwards

    @property
    def end(self) -> End | None:
        """How it ended for the client."""
        return next((event.end for event in self.events if isinstance(event, Ended)), None)

    @property
    def duration(self) -> float:
        """Virtual seconds from the first packet to the end."""
        assert self.ended_at is not None, f"seed {self.seed}: it has not ended"
        return self.ended_at - self.started_at

    def check(self, end: End = End.DONE) -> None:
        """The file is right, both sides are done, nothing is in flight, no timer is left."""
        hint = f"seed {self.seed}"
        assert self.end is end, f"{hint}: ended {self.end!r}, events {self.events}"
        assert sum(isinstance(event, Ended) for event in self.events) == 1, hint
        assert self.receiver.closed and self.receiver.next_timer() is None, hint
        assert len(self.demux) == 0 and self.demux.next_timer() is None, hint
        assert self.source.closed and self.sink.ended is end, hint
        if end is End.DONE:
            assert bytes(self.sink.data) == self.data, f"{hint}: the file differs"
            assert self.sender.in_flight == 0, f"{hint}: {self.sender.in_flight} bytes in flight"


def seeds(count: int) -> Iterator[int]:
    """Seeds for a test that wants several."""
    return iter(range(1, count + 1))
