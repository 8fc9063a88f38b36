"""Clients that talk to a server which is killed, and what must be true afterwards.

They know the wire and nothing else of ours. Each client numbers its messages, sends one when the
last is acknowledged, and when its connection is cut comes back with its token: it asks for what it
has missed and sends again, under its old number, what was not acknowledged.
"""

from __future__ import annotations

import random
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chatbox.chat.wire import Message, format_line, parse_line
from tests.helpers.processes import PATIENCE, environment, script


class Server:
    """A `twistd` that can be killed and started again, on the same port and with the same log."""

    def __init__(
        self, folder: Path, port: int, *options: str, program: Sequence[str] = script("twistd")
    ) -> None:
        self.folder = folder
        self.port = port
        (folder / "shelf").mkdir(exist_ok=True, parents=True)
        self._command = [
            *program,
            *("-n", "--pidfile=", f"--logfile={folder / 'twistd.log'}", "chatbox"),
            *("--files", str(folder / "shelf"), "--udp-ports", "0"),
            *("--listen", f"tcp:{port}:interface=127.0.0.1", "--join-rate", "0", *options),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it listens some time later."""
        self.process = subprocess.Popen(
            self._command,
            cwd=self.folder,
            env=environment(XDG_STATE_HOME=str(self.folder)),
            stdin=subprocess.DEVNULL,
        )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """End it politely."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(PATIENCE)


@dataclass
class Talker:
    """One client. `places` are the servers' ports; it takes them in turn, one after each cut."""

    name: str
    places: Sequence[int]
    wrap: Callable[[socket.socket], socket.socket] = lambda plain: plain
    """What a connection becomes before it is used, in the time that it has left. May raise OSError.
    """
    connection: socket.socket | None = None
    token: str | None = None
    number: int = 0
    text: str = ""
    """What is not acknowledged yet; empty if everything is."""
    acknowledged: list[str] = field(default_factory=list)
    refused: int = 0
    heard: list[tuple[int, str]] = field(default_factory=list)
    """Places and texts of everything heard or caught up with, in the order of hearing."""
    last_id: int = 0
    catching_up: bool = False
    cuts: int = 0
    retry_at: float = 0.0
    said: int = 0
    quiet: bool = False
    """Whether to begin nothing new."""
    _tries: int = 0
    _buffer: bytes = b""
    _live: list[Message] = field(default_factory=list)

    def connect(self, now: float) -> None:
        """Try to come back, without waiting."""
        if self.connection is not None or now < self.retry_at:
            return
        self.retry_at = now + 0.05
        try:
            place = "127.0.0.1", self.places[self._tries % len(self.places)]
            connection = self.wrap(socket.create_connection(place, timeout=5))
        except OSError:
            self._tries += 1
            return
        connection.setblocking(False)
        self.connection = connection
        self._buffer = b""
        self._live.clear()
        self.catching_up = True
        self._send(Message(sender=self.name, request="connect", key=self.token))

    def lost(self) -> None:
        """The connection is cut."""
        if self.connection is not None:
            self.connection.close()
        self.connection = None
        self.cuts += 1
        self._tries += 1

    def readable(self) -> None:
        """Read what has come."""
        assert self.connection is not None
        try:
            data = self.connection.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.lost()
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._hear(parse_line(line))
            if self.connection is None:
                return

    def _hear(self, message: Message) -> None:
        match message.response:
            case "connect_response":
                if message.text == "True":
                    self.token = message.key
                    self._catch_up()
                else:
                    self.lost()  # the dead server's ghost still has the name
            case "error":
                self.lost()  # the log cannot be reached, or the server wants us to come again
            case "message_received":
                if self.catching_up:
                    self._live.append(message)
                else:
                    self._note(message)
            case "history_response":
                self._caught_up(message)
            case "message_response":
                if message.sequence != self.number:
                    return
                if message.text == "True":
                    self.acknowledged.append(self.text)
                    self.text = ""
                else:
                    self.refused += 1
                self._speak()

    def _catch_up(self) -> None:
        self._send(Message(request="history", after=self.last_id, count=1000))

    def _caught_up(self, answer: Message) -> None:
        # The page comes in one piece right before its answer; what was heard before is news.
        count = int(answer.text or 0)
        start = len(self._live) - count
        for message in self._live[start:]:
            self._note(message)
        del self._live[start:]
        if answer.after is not None:
            self._catch_up()
            return
        for message in self._live:
            if (message.sequence or 0) > self.last_id:
                self._note(message)
        self._live.clear()
        self.catching_up = False
        self._speak()

    def _note(self, message: Message) -> None:
        assert message.sequence is not None and message.text is not None
        self.heard.append((message.sequence, message.text))
        self.last_id = max(self.last_id, message.sequence)

    def _speak(self) -> None:
        """Say the next thing, or again what is not acknowledged."""
        if self.catching_up or self.connection is None:
            return
        if not self.text:
            if self.quiet:
                return
            self.number += 1
            self.said += 1
            self.text = f"{self.name} says {self.said}"
        self._send(
            Message(
                recipient="all", request="message_request", text=self.text, sequence=self.number
            )
        )

    def _send(self, message: Message) -> None:
        assert self.connection is not None
        try:
            self.connection.sendall(format_line(message))
        except OSError:
            self.lost()


def drive(talkers: Sequence[Talker], until: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Let them talk until something is true; AssertionError if it does not come true."""
    give_up = time.monotonic() + patience
    while not until():
        now = time.monotonic()
        assert now < give_up, "it takes too long"
        for talker in talkers:
            talker.connect(now)
        poll = select.poll()
        by_fd = {t.connection.fileno(): t for t in talkers if t.connection is not None}
        for descriptor in by_fd:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(20):
            if by_fd[descriptor].connection is not None:
                by_fd[descriptor].readable()


def _have_all_heard(talkers: Sequence[Talker]) -> None:
    """Let them talk until everybody has had an answer from a server that lives.

    One answer may have been on its way when a server was killed, but not two.
    """
    enough = {talker.name: len(talker.acknowledged) + 2 for talker in talkers}
    drive(talkers, lambda: all(len(t.acknowledged) >= enough[t.name] for t in talkers))


def talk_through_kills(
    servers: Sequence[Server],
    people: int,
    kills: int,
    rng: random.Random,
    *,
    pause: float = 0.3,
    kill: Callable[[int], None] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Talker]:
    """Have `people` talk while servers are killed at random moments and started again at once.

    `kill`, if given, is called instead, with the number of the kill. In the end everybody has heard
    everything that was acknowledged, and is connected.
    """
    for server in servers:
        server.start()
    ports = [server.port for server in servers]
    talkers = [
        Talker(f"talker{n}", [*ports[n % len(ports) :], *ports[: n % len(ports)]])
        for n in range(people)
    ]
    try:
        for number in range(kills):
            _have_all_heard(talkers)
            moment = time.monotonic() + rng.random() * pause
            drive(talkers, lambda m=moment: time.monotonic() > m)  # type: ignore[misc]
            if kill is not None:
                kill(number)
            else:
                server = rng.choice(servers)
                server.kill()
                server.start()
            progress(number + 1)
        _have_all_heard(talkers)
        for talker in talkers:
            talker.quiet = True
        drive(
            talkers,
            lambda: all(t.connection and not t.text and not t.catching_up for t in talkers),
        )
        last = max(t.last_id for t in talkers)
        drive(talkers, lambda: all(t.last_id >= last for t in talkers))
    finally:
        for talker in talkers:
            if talker.connection is not None:
                talker.connection.close()
    return talkers


def check(talkers: Sequence[Talker], stored: Sequence[tuple[int, str]]) -> None:
    """Check what must be true: `stored` is what the log has, by place."""
    texts = [text for _, text in stored]
    assert len(texts) == len(set(texts)), "something is in the log twice"
    assert [place for place, _ in stored] == sorted({place for place, _ in stored})
    acknowledged = {text for talker in talkers for text in talker.acknowledged}
    missing = acknowledged - set(texts)
    assert not missing, f"{len(missing)} of {len(acknowledged)} are missing: {sorted(missing)[:5]}"
    for talker in talkers:
        heard = [text for _, text in talker.heard]
        assert len(heard) == len(set(heard)), f"{talker.name} heard something twice"
        first = talker.heard[0][0] if talker.heard else 0
        # Everything from when they came first, in the order of the log.
        assert talker.heard == [one for one in stored if one[0] >= first], talker.name
