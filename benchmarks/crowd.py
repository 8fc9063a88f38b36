"""A crowd of clients in one process: the load that ``fanout.py`` puts on a chat server.

It speaks two dialects, chatbox's and IRC's, and does the same with both: people join one room, some
of them talk, everybody reads. All sockets are plain, in one epoll set, read with one system call
each, and what many people received alike is looked at once: so the crowd takes a fraction of what
any server takes to serve it. (Inside TLS it takes more, for it has to open what the server sealed.)
A message is on its way from just before it is written until the last person who should hear it has
been read from.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import re
import resource
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable

from common import Missing

TEXT_BYTES = 60
READ_BYTES = 1 << 18
BATCH = 64
"""Sockets read between two looks at the clock: what a time may be late by, some 0.2 ms."""


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How one kind of server is talked to."""

    hello: Callable[[str], bytes]
    """Say who one is."""
    known: bytes
    """Found in what somebody receives who has done so."""
    enter: bytes
    """Enter the room, if that is a thing of its own; sent along with `hello`."""
    entered: bytes
    """Found in what somebody receives who is in the room."""
    say: Callable[[str, bytes, int], bytes]
    """A line that says something to somebody, or to the whole room under the name ``all``."""
    heard: bytes
    """Found once in each message that somebody hears."""
    acknowledged: bytes | None
    """Found once in each word of the server that it has a message; None if there are none."""
    echoes: bool
    """Whether a speaker hears their own words."""
    ping: bytes


CHATBOX = Dialect(
    hello=lambda name: b"<s:%b><t:connect>\r\n" % name.encode(),
    known=b"<p:connect_response>",
    enter=b"",
    entered=b"<p:connect_response>",
    say=lambda to, text, number: (
        b"<r:%b><t:message_request><m:%b><q:%d>\r\n" % (to.encode(), text, number)
    ),
    heard=b"<p:message_received>",
    acknowledged=b"<m:True><p:message_response>",
    echoes=True,
    ping=b"<t:ping>\r\n",
)

IRC = Dialect(
    hello=lambda name: b"NICK %b\r\nUSER u 0 * :u\r\n" % name.encode(),
    known=b" 001 ",
    enter=b"JOIN #room\r\n",
    entered=b" 366 ",
    say=lambda to, text, _: (
        b"PRIVMSG %b :%b\r\n" % (b"#room" if to == "all" else to.encode(), text)
    ),
    heard=b" PRIVMSG ",
    acknowledged=None,
    echoes=False,
    ping=b"PING :here\r\n",
)

_find_ids = re.compile(rb"@(\d{9})@").findall


@dataclasses.dataclass
class Talk:
    """What a stretch of talking came to."""

    seconds: float = 0.0
    messages: int = 0
    """How many were said and heard by all who should hear them."""
    deliveries: int = 0
    times: list[float] = dataclasses.field(default_factory=list)
    """From sending a message to its last receipt, in seconds."""
    load: float = 0.0
    """Processor time of the crowd itself for each second."""


class Crowd:
    """People connected to 127.0.0.1; with `room`, they all enter the one room."""

    def __init__(
        self,
        dialect: Dialect,
        port: int,
        *,
        room: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._dialect = dialect
        self._port = port
        self._tls = tls
        self._enter = dialect.enter if room else b""
        self._joined = dialect.entered if room else dialect.known
        self._sockets: dict[int, socket.socket] = {}
        self._names: dict[int, str] = {}
        self._rest: dict[int, bytes] = {}
        self._epoll = select.epoll()
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)
        self._number = self._named = 0
        self.lost = 0
        """How many the server has hung up on."""

    def __enter__(self) -> Crowd:
        """Nobody is here yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        for one in self._sockets.values():
            one.close()
        self._epoll.close()

    @property
    def people(self) -> list[int]:
        """Everybody, by the number of their descriptor."""
        return list(self._sockets)

    def join(self, count: int, at_once: int = 8) -> float:
        """Have so many more join, some at the same time; answer how many seconds it took.

        Those whom the server hangs up on are in `lost`.
        """
        raise_open_files(len(self._sockets) + count + 64)
        began = time.perf_counter()
        coming: set[int] = set()
        todo = count
        while todo or coming:
            while todo and len(coming) < at_once:
                todo -= 1
                coming.add(self._connect())
            for fd, chunk in self._receive(10.0):
                if fd in coming and self._joined in chunk:
                    coming.discard(fd)
            coming &= self._sockets.keys()
        return time.perf_counter() - began

    def settle(self, quiet: float = 0.5) -> None:
        """Read until nothing has come for a while."""
        while any(True for _ in self._receive(quiet)):
            pass

    def talk(
        self,
        in_flight: int,
        seconds: float,
        *,
        deaf: Iterable[int] = (),
        began: Callable[[], None] = lambda: None,
        warm_up: float = 0.5,
    ) -> Talk:
        """Keep so many messages to the room on their way, each from somebody else.

        Those who are `deaf` do not read. `began` is called when the warm-up is over.
        """
        dialect = self._dialect
        deaf = set(deaf)
        for fd in deaf:
            self._epoll.unregister(fd)
        hearing = len(self._sockets) - len(deaf)
        speakers = [fd for fd in self._sockets if fd not in deaf][:in_flight]
        to_go: dict[bytes, int] = {}
        sent: dict[bytes, tuple[int, float]] = {}
        receivers = hearing if dialect.echoes else hearing - 1

        def speak(fd: int) -> None:
            self._number += 1
            id = b"%09d" % self._number
            text = (b"@%b@ " % id).ljust(TEXT_BYTES, b"x")
            to_go[id] = receivers
            sent[id] = fd, time.perf_counter()
            self._send(fd, dialect.say("all", text, self._number))

        for fd in speakers:
            speak(fd)
        talk = Talk()
        start = time.perf_counter() + warm_up
        end = start + seconds
        warm = False
        while True:
            tally = collections.Counter(chunk for _, chunk in self._receive(10.0))
            now = time.perf_counter()
            if not warm and now >= start:
                warm, talk, start = True, Talk(), now
                spent = time.process_time()
                began()
            over = now >= end
            for chunk, times in tally.items():
                for id in _find_ids(chunk):
                    to_go[id] -= times
                    talk.deliveries += times
                    if not to_go[id]:
                        del to_go[id]
                        fd, at = sent.pop(id)
                        talk.times.append(now - at)
                        if not over:
                            speak(fd)
            if over:
                break
        talk.seconds = now - start
        talk.messages = len(talk.times)
        talk.load = (time.process_time() - spent) / talk.seconds
        while to_go:  # the last ones come too, but are not counted
            for _, chunk in self._receive(10.0):
                for id in _find_ids(chunk):
                    to_go[id] -= 1
                    if not to_go[id]:
                        del to_go[id]
        return talk

    def converse(
        self, window: int, seconds: float, *, began: Callable[[], None] = lambda: None
    ) -> tuple[Talk, int]:
        """Have everybody talk to a partner, `window` messages on their way each.

        What frees the way is the server's acknowledgement, or, if there is none, that the partner
        has heard it. Answers what was heard, and how many messages were acknowledged.
        """
        dialect = self._dialect
        people = list(self._sockets)
        partner = {}
        for one, other in zip(people[::2], people[1::2], strict=True):
            partner[one], partner[other] = other, one
        text = b"y" * TEXT_BYTES

        def speak(fd: int, many: int) -> None:
            to = self._names[partner[fd]]
            first = self._number + 1
            self._number += many
            lines = (dialect.say(to, text, n) for n in range(first, first + many))
            self._send(fd, b"".join(lines))

        for fd in people:
            speak(fd, window)
        talk, acknowledged, warm = Talk(), 0, False
        start = time.perf_counter() + 0.5
        end = start + seconds
        on_their_way = window * len(people)
        while on_their_way:
            for fd, chunk in self._receive(10.0):
                heard = chunk.count(dialect.heard)
                talk.deliveries += heard
                if dialect.acknowledged is None:
                    done, fd = heard, partner[fd]
                else:
                    done = chunk.count(dialect.acknowledged)
                    acknowledged += done
                on_their_way -= done
                if done and time.perf_counter() < end:
                    on_their_way += done
                    speak(fd, done)
            now = time.perf_counter()
            if not warm and now >= start:
                talk, acknowledged, warm, start = Talk(), 0, True, now
                began()
            if now < end:
                talk.seconds = now - start
                talk.messages = talk.deliveries
                result = talk.messages, acknowledged
        talk.messages, acknowledged = result
        return talk, acknowledged

    def idle(self, seconds: float, period: float) -> int:
        """Do nothing, but that everybody pings once a period; answer how many pings that was."""
        people = list(self._sockets)
        began = time.perf_counter()
        pings = 0
        while (now := time.perf_counter() - began) < seconds:
            for _ in range(pings, int(now / period * len(people))):
                self._send(people[pings % len(people)], self._dialect.ping)
                pings += 1
            for _ in self._receive(min(0.02, seconds)):
                pass
        return pings

    def hear_again(self, fd: int) -> None:
        """Read from somebody who was deaf."""
        self._epoll.register(fd, select.EPOLLIN)

    def _connect(self) -> int:
        one = socket.create_connection(("127.0.0.1", self._port))
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            one = self._tls.wrap_socket(one)
        one.setblocking(False)
        fd = one.fileno()
        self._named += 1
        name = f"u{self._named}"
        self._sockets[fd] = one
        self._names[fd] = name
        self._rest[fd] = b""
        self._epoll.register(fd, select.EPOLLIN)
        self._send(fd, self._dialect.hello(name) + self._enter)
        return fd

    def _send(self, fd: int, data: bytes) -> None:
        self._sockets[fd].send(data)

    def _read(self, one: socket.socket) -> bytes | None:
        """What has come, which inside TLS may be nothing yet; None if the server has hung up."""
        try:
            if self._tls is None:
                length = one.recv_into(self._buffer)
                return bytes(self._view[:length]) or None
            data = b""
            with contextlib.suppress(ssl.SSLWantReadError):
                while piece := one.recv(READ_BYTES):
                    data += piece
                return None
            return data
        except OSError:
            return None

    def _receive(self, patience: float) -> Iterable[tuple[int, bytes]]:
        """Read from some who have something to read: whole lines. Empty if nothing comes."""
        events = self._epoll.poll(patience, BATCH)
        if not events and patience >= 10.0:
            raise RuntimeError("The server has nothing to say for ten seconds")
        for fd, _ in events:
            data = self._read(self._sockets[fd])
            if data is None:
                self.lost += 1
                self._epoll.unregister(fd)
                with contextlib.suppress(KeyError):
                    self._sockets.pop(fd).close()
                continue
            if not data:
                continue
            if data[:5] == b"PING ":
                self._send(fd, b"PONG :here\r\n")
            rest = self._rest[fd]
            if rest:
                data = rest + data
            if data[-1] == 10:
                if rest:
                    self._rest[fd] = b""
            else:
                data, newline, rest = data.rpartition(b"\n")
                self._rest[fd] = rest
                data += newline
            yield fd, data


def raise_open_files(wanted: int) -> None:
    """Let this process, and those that it starts, open so many files; raises Missing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise Missing(f"only {hard} files may be open, {wanted} are needed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
