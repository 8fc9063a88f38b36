"""A server's bad week in minutes: what people do, what enemies do, and what must be left of it.

Everything happens in one thread with one `poll`, in rounds. During a round people talk through a
relay that cuts their connections, others come for a moment, download, vanish, flood, stall and send
garbage. After each round all go, but for the talkers, who fall silent; the server comes to rest,
and is measured. What a server leaks shows as a difference between two rounds.
"""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.helpers.crash import Server, Talker
from tests.helpers.processes import PATIENCE, Running, environment
from tests.helpers.tls import secure
from tests.test_console import CLIENT
from tests.test_reconnect import socket_when_open

HOST: Final = "127.0.0.1"

REST_SECONDS: Final = 60.0 + PATIENCE
"""How long a server may take to come to rest: a download whose client was killed is given up after
half a minute of silence, and so is its address. Only what is broken needs longer than a minute."""

TURN_SECONDS: Final = 0.1
"""How often something new begins."""

MAX_GROWTH: Final = 8 << 20
"""Bytes of memory that the server may have gained from its first rest to its last. Caches fill up
for a while, and the allocator keeps what it once had."""


MAX_NEW_DESCRIPTORS: Final = 2
"""Those that are neither sockets nor shared files, of which there may be no more at all: the log
opens its files when it first needs them."""

MAX_NEW_THREADS: Final = 9
"""The reactor's pool has ten, and begins one more whenever something is asked of it before the last
one has said that it is free again."""

GROWTH: Final = {"descriptors": MAX_NEW_DESCRIPTORS, "threads": MAX_NEW_THREADS}
"""What may be more at the last rest than at the first."""


@dataclass(frozen=True)
class Rest:
    """The server at rest."""

    memory: int
    """Resident, in bytes."""
    descriptors: int
    threads: int
    people: int
    """Those who are here, besides the one who asks."""
    open_files: int
    """Shared files that it has open: one for each transfer."""
    sockets: int


@dataclass
class Tally:
    """What has happened."""

    cuts: int = 0
    restarts: int = 0
    visits: int = 0
    downloads: int = 0
    killed_downloads: int = 0
    enemies: dict[str, int] = field(default_factory=dict)
    rests: list[Rest] = field(default_factory=list)


class Relay(threading.Thread):
    """Carries TCP to a server, and can cut: all at once, with a reset, or by carrying nothing."""

    def __init__(self, port: int) -> None:
        super().__init__(name="relay", daemon=True)
        self._to = port
        self._listener = socket.create_server((HOST, 0), backlog=200)
        self.port: int = self._listener.getsockname()[1]
        self._wake, self._waker = socket.socketpair()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._do: list[Callable[[], object]] = []
        self._stalled = False
        self._ended = False
        self.start()

    def cut(self) -> None:
        """Cut everything, as a router that restarts does."""
        self._call(self._cut)

    def stall(self, stalled: bool) -> None:
        """Carry nothing for a while, or go on."""
        self._call(lambda: setattr(self, "_stalled", stalled))

    def close(self) -> None:
        """End."""
        self._call(lambda: setattr(self, "_ended", True))
        self.join(PATIENCE)

    def _cut(self) -> None:
        for one in list(self._pairs):
            self._drop(one, reset=True)

    def _call(self, what: Callable[[], object]) -> None:
        self._do.append(what)
        self._waker.send(b"x")

    def run(self) -> None:
        """Carry."""
        while not self._ended:
            carried = [] if self._stalled else list(self._pairs)
            ready, _, _ = select.select([self._wake, self._listener, *carried], [], [])
            for one in ready:
                if one is self._wake:
                    one.recv(100)
                    while self._do:
                        self._do.pop(0)()
                elif one is self._listener:
                    self._accept()
                elif one in self._pairs:
                    self._carry(one)
        for one in list(self._pairs):
            self._drop(one)
        for one in (self._listener, self._wake, self._waker):
            one.close()

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection((HOST, self._to), timeout=5)
        except OSError:
            near.close()
            return
        self._pairs[near], self._pairs[far] = far, near

    def _carry(self, one: socket.socket) -> None:
        try:
            data = one.recv(1 << 16)
            self._pairs[one].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._drop(one)

    def _drop(self, one: socket.socket, *, reset: bool = False) -> None:
        other = self._pairs.pop(one, None)
        if other is None:
            return
        del self._pairs[other]
        for each in (one, other):
            if reset:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()


class Person(Talker):
    """A talker who takes a breath between two messages."""

    breath: float = 0.1
    speak_at: float = 0.0

    def tick(self, now: float) -> None:
        """Speak, if it is time."""
        self.connect(now)
        if self.connection and not self.catching_up and not self.text and now >= self.speak_at:
            super()._speak()

    def _speak(self) -> None:
        self.speak_at = time.monotonic() + self.breath
        if self.text:  # it was cut off, or refused: again
            super()._speak()


Script = Iterator[float]
"""What somebody does: it yields how many seconds to wait for the next step."""


class Soak:
    """One server and all who deal with it. `breath` is in seconds, for each of `people`.

    With a `tls_port` all speak TLS, but for some enemies.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        udp_port: int,
        *,
        seed: int,
        people: int,
        breath: float,
        kill_downloads: bool = True,
        tls_port: int = 0,
        log: str = "sqlite:",
    ) -> None:
        self.chance = random.Random(seed)
        self.tally = Tally()
        self._folder = folder
        self._port = tls_port or port
        self._tls = bool(tls_port)
        self._udp_port = udp_port
        self._kill_downloads = kill_downloads
        self.server = Server(
            folder,
            port,
            *("--udp-ports", str(udp_port), "--max-rate", "4MB"),
            *("--state-dir", str(folder / "state"), "--grace", "1", "--log", log),
            *self._tls * ("--listen", f"tls-self-signed:tcp:{tls_port}:interface={HOST}"),
        )
        (folder / "shelf" / "film.bin").write_bytes(self.chance.randbytes(2_000_000))
        self.server.start()
        self.relay = Relay(self._port)
        self.people = [Person(f"person{number}", [self.relay.port]) for number in range(people)]
        for person in self.people:
            person.breath = breath
            if self._tls:
                person.wrap = secure
        self._scripts: list[tuple[float, Script]] = []
        self._sockets: set[socket.socket] = set()
        self._count = 0
        with self._secured(socket_when_open(self._port)) as one:
            _wait_for_its_log(one)
            self._idle_sockets = _count_sockets(self._descriptors()) - 1  # it is the only one

    def round(self, seconds: float, *, restart_after: float | None = None) -> Rest:
        """Let it all happen for a while, with a restart after so many seconds, then measure.

        On a slow machine it takes longer: there is a turn for each tenth of a second, and in the
        end everybody has been heard. Guests who are here at the restart are expected back, and gone
        45 seconds later.
        """
        self._drive(lambda: all(p.connection and not p.catching_up for p in self.people))
        restart_at = None if restart_after is None else round(restart_after / TURN_SECONDS)
        before = [len(person.acknowledged) for person in self.people]
        for person in self.people:
            person.quiet = False
        for turn in range(round(seconds / TURN_SECONDS)):
            if turn == restart_at:
                self._restart()
            now = time.monotonic()
            self._begin_something(now)
            self._drive(lambda until=now + TURN_SECONDS: time.monotonic() >= until)  # type: ignore[misc]
        self._drive(
            lambda: all(
                len(p.acknowledged) > count for p, count in zip(self.people, before, strict=True)
            )
        )
        self.rest()
        return self.tally.rests[-1]

    def rest(self) -> None:
        """Let everybody come to an end, and measure."""
        for person in self.people:
            person.quiet = True
        self._drive(lambda: not self._scripts)
        self._drive(lambda: all(not p.text and not p.catching_up for p in self.people))
        newest = max(person.last_id for person in self.people)
        self._drive(lambda: all(p.last_id >= newest for p in self.people))
        people = len(self.people)
        expected = people, 0, self._idle_sockets + people
        give_up = time.monotonic() + REST_SECONDS
        calm = 0
        while calm < 3:
            rest = self._measure()
            found = rest.people, rest.open_files, rest.sockets
            calm = calm + 1 if found == expected else 0
            in_time = calm or time.monotonic() < give_up
            assert in_time, f"the server does not come to rest: {rest}"
            until = time.monotonic() + 0.3
            self._drive(lambda until=until: time.monotonic() >= until)  # type: ignore[misc]
        self.tally.rests.append(rest)

    def close(self) -> None:
        """End everything."""
        for one in (*self._sockets, *(p.connection for p in self.people)):
            if one is not None:
                one.close()
        self.relay.close()
        self.server.kill()

    # What happens.

    def _drive(self, until: Callable[[], bool]) -> None:
        give_up = time.monotonic() + PATIENCE + REST_SECONDS
        while not until():
            now = time.monotonic()
            assert now < give_up, "it takes too long"
            for person in self.people:
                person.tick(now)
            self._step(now)
            poll = select.poll()
            by_fd = {p.connection.fileno(): p for p in self.people if p.connection is not None}
            for descriptor in by_fd:
                poll.register(descriptor, select.POLLIN)
            for descriptor, _ in poll.poll(10):
                if by_fd[descriptor].connection is not None:
                    by_fd[descriptor].readable()

    def _step(self, now: float) -> None:
        due = [script for at, script in self._scripts if at <= now]
        self._scripts = [one for one in self._scripts if one[0] > now]
        for script in due:
            with suppress(OSError, StopIteration):
                self._scripts.append((now + next(script), script))

    def _begin_something(self, now: float) -> None:
        chance = self.chance
        if chance.random() < 0.03:
            self.tally.cuts += 1
            self.relay.cut()
        if chance.random() < 0.02:
            self._scripts.append((now, self._stall_network()))
        if chance.random() < 0.1 and sum(1 for _ in self._scripts) < 50:
            self._scripts.append((now, self._download()))
        if chance.random() < 0.5:
            self._scripts.append((now, self._visit()))
        if chance.random() < 0.7:
            enemy = chance.choice(ENEMIES)
            name = enemy.__name__.strip("_")
            self.tally.enemies[name] = self.tally.enemies.get(name, 0) + 1
            self._scripts.append((now, enemy(self)))

    def _restart(self) -> None:
        self.tally.restarts += 1
        self.server.stop()
        self.server.start()

    def _connect(self, receive_buffer: int = 0, *, raw: bool = False) -> socket.socket:
        one = socket.socket()
        if receive_buffer:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        one.settimeout(1)
        one.connect((HOST, self._port))
        if self._tls and not raw:
            one = secure(one)
        one.setblocking(False)
        self._sockets.add(one)
        return one

    def _hang_up(self, one: socket.socket, *, reset: bool = False) -> None:
        if reset:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
        self._sockets.discard(one)

    def _name(self) -> str:
        self._count += 1
        return f"guest{self._count}"

    def _stall_network(self) -> Script:
        self.relay.stall(True)
        yield self.chance.random()
        self.relay.stall(False)

    def _visit(self) -> Script:
        """Somebody looks in, says something, and leaves, or vanishes."""
        self.tally.visits += 1
        name, one = self._name(), self._connect()
        one.send(f"<s:{name}><t:connect>\n<t:get_user_list>\n<t:get_file>\n".encode())
        yield self.chance.random()
        one.send(f"<r:all><t:message_request><m:{name} was here>\n<t:history><n:50>\n".encode())
        yield self.chance.random()
        with suppress(BlockingIOError):
            one.recv(1 << 16)
        if self.chance.random() < 0.5:
            one.send(b"<t:disconnect>\n")
            yield 0.2
        self._hang_up(one, reset=self.chance.random() < 0.5)

    def _download(self) -> Script:
        """Somebody fetches the film; some change their mind, some machines die."""
        self.tally.downloads += 1
        target = self._folder / self._name()
        host = f"{'tls:' * self._tls}{HOST}:{self._port}"
        command = [*CLIENT, "get", "-q", host, "film.bin", "-o", str(target)]
        known = environment(XDG_STATE_HOME=str(self._folder / "client"))
        with Running(command, cwd=self._folder, env=known) as client:
            patience = self.chance.random() * 3
            if self.chance.random() < 0.5:
                yield patience
                killed = self._kill_downloads and self.chance.random() < 0.5
                self.tally.killed_downloads += killed
                client.send(signal.SIGKILL if killed else signal.SIGINT)
            while client.running:
                yield 0.1
        for suffix in ("", ".part", ".part.journal"):
            Path(f"{target}{suffix}").unlink(missing_ok=True)

    def _flood(self) -> Script:
        """Somebody asks as fast as the network takes it, and reads nothing."""
        one = self._connect()
        one.send(f"<s:{self._name()}><t:connect>\n".encode())
        yield 0.1
        for _ in range(10):
            with suppress(BlockingIOError):
                one.send(self.chance.choice((b"<t:ping>\n", b"<t:get_user_list>\n")) * 3000)
            yield 0.1
        self._hang_up(one, reset=True)

    def _storm(self) -> Script:
        """Somebody says a lot in one breath, and does not wait to hear it."""
        name, one = self._name(), self._connect()
        one.send(f"<s:{name}><t:connect>\n".encode())
        yield 0.1
        lines = (f"<r:all><t:message_request><m:{name} storms {n}>\n" for n in range(100))
        with suppress(BlockingIOError):
            one.send("".join(lines).encode())
        yield 1.0
        self._hang_up(one)

    def _stall(self) -> Script:
        """Somebody stops reading."""
        one = self._connect(receive_buffer=2048)
        one.send(f"<s:{self._name()}><t:connect>\n".encode())
        one.send(b"<t:history><n:1000>\n" * 20)
        yield 3.0
        self._hang_up(one)

    def _garbage(self) -> Script:
        """Somebody sends what is no protocol at all, with TLS or without it."""
        one = self._connect(raw=self._tls and self.chance.random() < 0.5)
        for _ in range(5):
            with suppress(BlockingIOError):
                one.send(self.chance.randbytes(self.chance.randrange(1, 5000)))
            yield 0.05
        self._hang_up(one)

    def _endless_line(self) -> Script:
        """Somebody sends a line that does not end."""
        one = self._connect()
        for _ in range(30):
            with suppress(BlockingIOError):
                one.send(b"<m:" + b"x" * 60_000)
            yield 0.02
        self._hang_up(one)

    def _half_a_line(self) -> Script:
        """Somebody begins a line, and goes away without a word."""
        one = self._connect()
        one.send(b"<s:al")
        yield 2.0
        self._hang_up(one)

    def _knock(self) -> Script:
        """Somebody opens connections, and lets them go. Of those with TLS few shake hands."""
        knocks = [self._connect(raw=number >= 5) for number in range(30)]
        yield 0.3
        for one in knocks:
            self._hang_up(one, reset=self.chance.random() < 0.5)

    def _datagrams(self) -> Script:
        """Somebody throws things at the port of the downloads."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            for _ in range(5):
                for _ in range(50):
                    data = self.chance.randbytes(self.chance.randrange(1, 1500))
                    one.sendto(data, (HOST, self._udp_port))
                yield 0.05

    # What is left.

    def _measure(self) -> Rest:
        targets = self._descriptors()
        status = dict(
            line.split(":", 1) for line in (self._proc / "status").read_text().splitlines() if line
        )
        return Rest(
            memory=int(status["VmRSS"].split()[0]) * 1024,
            descriptors=len(targets),
            threads=int(status["Threads"]),
            people=self._count_people(),
            open_files=sum("/shelf/" in target for target in targets),
            sockets=_count_sockets(targets),
        )

    @property
    def _proc(self) -> Path:
        """What the system says of the server."""
        assert self.server.process is not None
        return Path(f"/proc/{self.server.process.pid}")

    def _descriptors(self) -> list[str]:
        """What the server's descriptors are of."""
        targets = []
        for link in (self._proc / "fd").iterdir():
            with suppress(OSError):
                targets.append(os.readlink(link))
        return targets

    def _count_people(self) -> int:
        """Who is here besides us; -1 if there is no room for us at the moment."""
        said = ""
        with suppress(OSError), self._secured(self._plain()) as one:
            one.sendall(b"<s:the counter><t:connect>\n<t:get_user_list>\n<t:disconnect>\n")
            with one.makefile("rb") as answers:
                said = answers.read().decode()
        listed = [line for line in said.splitlines() if "<p:user_list>" in line]
        return listed[0].count("'") // 2 - 1 if listed else -1

    def _plain(self) -> socket.socket:
        return socket.create_connection((HOST, self._port), PATIENCE)

    def _secured(self, plain: socket.socket) -> socket.socket:
        return secure(plain) if self._tls else plain


def _wait_for_its_log(one: socket.socket) -> None:
    """Come in as soon as there is a log; one elsewhere has to be found first."""
    one.settimeout(PATIENCE)
    give_up = time.monotonic() + PATIENCE
    with one.makefile("rb") as answers:
        while True:
            one.sendall(b"<s:the counter><t:connect>\n")
            answer = answers.readline()
            if b"<m:True>" in answer:
                return
            assert b"log-unavailable" in answer and time.monotonic() < give_up, answer
            time.sleep(0.1)  # nobody tells when


def _count_sockets(targets: Sequence[str]) -> int:
    return sum(target.startswith("socket:") for target in targets)


ENEMIES: Final[Sequence[Callable[[Soak], Script]]] = (
    Soak._flood,
    Soak._storm,
    Soak._stall,
    Soak._garbage,
    Soak._endless_line,
    Soak._half_a_line,
    Soak._knock,
    Soak._datagrams,
)


def judge(rests: Sequence[Rest]) -> list[str]:
    """What is worse at the last rest than at the first; nothing if all is well."""
    first, last = rests[0], rests[-1]
    complaints = []
    for what in ("descriptors", "threads", "people", "open_files", "sockets"):
        before, after = getattr(first, what), getattr(last, what)
        if after > before + GROWTH.get(what, 0):
            complaints.append(f"{after - before} more {what.replace('_', ' ')}")
    if last.memory - first.memory > MAX_GROWTH:
        complaints.append(f"{(last.memory - first.memory) / 2**20:.1f} MiB more memory")
    return complaints
