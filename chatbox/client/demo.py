"""``chatbox demo``: the whole thing on one machine, in less than a minute.

A server and two clients run as processes of their own, just as people would start them, in a
temporary folder. Between bob's client and the server's UDP port stands a relay that loses, doubles,
delays and reorders datagrams, by a seeded chance. The demo types what alice and bob type, waits for
what they should read, prints both, and checks the file that arrives. Whatever happens, it ends the
processes that it started and removes the folder; if anything went wrong, it shows the server's log.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shlex
import sys
import tempfile
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.protocol import DatagramProtocol, ProcessProtocol
from twisted.python.failure import Failure

import chatbox
from chatbox.client.exits import Exit, Stop

__all__ = ["Actor", "BadLink", "demo"]

HOST: Final = "127.0.0.1"
FILE: Final = "holiday film.mp4"
FILE_BYTES: Final = 3 << 20
PATIENCE: Final = 30.0
"""Seconds that anything in the story may take; all of it takes a few."""
MAX_DATAGRAM: Final = 1 << 16
STOP_PATIENCE: Final = 5.0
"""Seconds that a process may take to end when asked to."""

# What the link does to a datagram, each with this chance, and how many seconds it takes. One that
# makes a detour arrives after others that were sent later.
LOSS: Final = 0.10
DOUBLING: Final = 0.03
DELAY: Final = (0.002, 0.006)
DETOUR: Final = 0.05
DETOUR_DELAY: Final = (0.01, 0.03)


class StoryError(Exception):
    """The story did not go as told."""


class Actor(ProcessProtocol):
    """A process that reads what we type, and says what we wait for."""

    def __init__(self, reactor: Any, name: str, *, aloud: bool) -> None:
        self.name = name
        self.said: list[str] = []
        """Every line of its output, also printed as it comes if `aloud`."""
        self.status: int | None = None
        """Its exit status, None while it runs; that of a signal is negative."""
        self._reactor = reactor
        self._aloud = aloud
        self._process: Any = None
        self._unfinished = b""
        self._heard = 0  # how many lines the story has come to
        self._unread: BrokenPipeError | None = None  # nobody reads what we print
        self._news: Deferred[None] = Deferred()

    def start(self, command: list[str], folder: Path, env: dict[str, str]) -> None:
        """Begin."""
        self._process = self._reactor.spawnProcess(
            self, command[0], command, env, str(folder), childFDs={0: "w", 1: "r", 2: 1}
        )

    def type(self, line: str) -> None:
        """Type a line."""
        show(f"{self.name} types", line)
        self._process.write(f"{line}\n".encode())

    async def reads(self, pattern: str) -> str:
        """Wait for a line with `pattern` in it, after the last one waited for; return it."""
        while True:
            while self._heard < len(self.said):
                self._heard += 1
                if re.search(pattern, self.said[self._heard - 1]):
                    return self.said[self._heard - 1]
            if self.status is not None:
                raise StoryError(f"{self.name} ended before a line with {pattern!r} came.")
            await self._wait(f"a line with {pattern!r}")

    async def leaves(self) -> None:
        """Type no more, and wait until the process has ended as it should."""
        self._process.closeStdin()
        while self.status is None:
            await self._wait("the end")
        if self.status != 0:
            raise StoryError(f"{self.name} ended with the status {self.status}.")

    async def stop(self) -> None:
        """End the process if it runs."""
        for name in ("TERM", "KILL"):
            if self._process is None or self.status is not None:
                return
            self._process.signalProcess(name)
            with suppress(StoryError, BrokenPipeError):
                while self.status is None:
                    await self._wait("the end", STOP_PATIENCE)

    async def _wait(self, what: str, patience: float = PATIENCE) -> None:
        """Wait for another line or the end."""
        self._news = Deferred()
        try:
            await self._news.addTimeout(patience, self._reactor)
        except TimeoutError:
            raise StoryError(f"{self.name}: {what} has not come in {patience:.0f} s.") from None
        if self._unread is not None:
            raise self._unread

    def _tell(self) -> None:
        if not self._news.called:
            self._news.callback(None)

    # What Twisted calls

    def outReceived(self, data: bytes) -> None:
        """The process says something."""
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        for line in lines:
            self.said.append(line.decode("utf-8", "replace"))
            if self._aloud and self._unread is None:
                try:
                    show(f"{self.name} reads", self.said[-1])
                except BrokenPipeError as error:
                    self._unread = error
        self._tell()

    def processEnded(self, reason: Failure) -> None:
        """The process is gone."""
        code = getattr(reason.value, "exitCode", None)
        self.status = code if code is not None else -(getattr(reason.value, "signal", None) or 1)
        self._tell()


class BadLink:
    """A UDP relay between one client and a server that mistreats what it carries, both ways."""

    def __init__(self, reactor: Any, seed: int, server: tuple[str, int]) -> None:
        self.fates: Counter[str] = Counter()
        """How many datagrams were carried, lost, doubled, sent by a detour."""
        self._reactor = reactor
        self._chance = random.Random(seed)
        self._server = server
        self._client: tuple[str, int] | None = None
        self._near = _Side(self._from_client)
        self._far = _Side(self._from_server)
        sides = (self._near, self._far)
        self._ports = [reactor.listenUDP(0, side, HOST, MAX_DATAGRAM) for side in sides]
        self.port: int = self._ports[0].getHost().port
        """Where the client has to send to."""

    def close(self) -> None:
        """Carry no more."""
        for port in self._ports:
            port.stopListening()

    def _from_client(self, data: bytes, address: tuple[str, int]) -> None:
        self._client = address
        self._carry(self._far, data, self._server)

    def _from_server(self, data: bytes, address: tuple[str, int]) -> None:
        if address == self._server and self._client is not None:
            self._carry(self._near, data, self._client)

    def _carry(self, side: _Side, data: bytes, address: tuple[str, int]) -> None:
        chance = self._chance
        self.fates["carried"] += 1
        if chance.random() < LOSS:
            self.fates["lost"] += 1
            return
        copies = 1
        if chance.random() < DOUBLING:
            self.fates["doubled"] += 1
            copies = 2
        for _ in range(copies):
            delay = chance.uniform(*DELAY)
            if chance.random() < DETOUR:
                self.fates["overtaken by others"] += 1
                delay += chance.uniform(*DETOUR_DELAY)
            self._reactor.callLater(delay, side.send, data, address)


class _Side(DatagramProtocol):
    """One socket of the relay."""

    def __init__(self, receive: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._receive = receive

    def datagramReceived(self, data: bytes, address: tuple[str, int]) -> None:
        """Pass it on."""
        self._receive(data, address)

    def send(self, data: bytes, address: tuple[str, int]) -> None:
        """Send it, unless the relay is closed or the kernel has no room: that is a loss, too."""
        if self.transport is not None:
            with suppress(OSError):
                self.transport.write(data, address)


def show(who: str, what: str) -> None:
    """Print a line of the story."""
    print(f"{who:>12} | {what}", flush=True)


async def demo(reactor: Any, options: Namespace) -> Exit:
    """``chatbox demo``: play the story; OK if all of it came true."""
    started_at = reactor.seconds()
    server = Actor(reactor, "server", aloud=False)
    people = [Actor(reactor, name, aloud=True) for name in ("alice", "bob")]
    with tempfile.TemporaryDirectory(prefix="chatbox-demo-") as name:
        try:
            await _play(reactor, options.seed, Path(name), server, people)
        except StoryError as problem:
            show("demo", f"FAILED: {problem}")
            for line in server.said:
                show("server log", line)
            return Exit.FAILED
        finally:
            for actor in (*people, server):
                await actor.stop()
    show("demo", f"All went well, in {reactor.seconds() - started_at:.0f} s.")
    return Exit.OK


async def _play(reactor: Any, seed: int, folder: Path, server: Actor, people: list[Actor]) -> None:
    """Build the stage and play the story on it. Raises StoryError where it goes wrong."""
    digest = _make_shelf(folder / "shelf", seed)
    (folder / "bob").mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("CHATBOX_")}
    root = str(Path(chatbox.__file__).resolve().parents[1])
    env["CHATBOX_CONFIG"] = os.devnull  # the demo has its own settings
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")]))

    serve = f"--listen tcp:0:interface={HOST} --files shelf --udp-ports 0 --log memory:"
    show("demo", f"$ twistd -n chatbox {serve}")
    twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n"]
    server.start([*twistd, "--pidfile=", "chatbox", *serve.split()], folder, env)
    tcp_port = await _port_of(server, "Chat")
    udp_port = await _port_of(server, "RDT on UDP")
    show("demo", f"The server is on TCP port {tcp_port} and UDP port {udp_port}.")
    link = BadLink(reactor, seed, (HOST, udp_port))
    show("demo", f"A bad link on UDP port {link.port}: it loses {LOSS:.0%} of all datagrams.")

    try:
        await _talk(link, f"{HOST}:{tcp_port}", folder, env, digest, people)
    finally:
        link.close()


async def _talk(
    link: BadLink,
    host: str,
    folder: Path,
    env: dict[str, str],
    digest: str,
    people: list[Actor],
) -> None:
    """What the people in the story do."""
    alice, bob = people
    client = [sys.executable, "-m", "chatbox.client.main", "join", host, "--name"]
    for person, extra in ((alice, []), (bob, ["--udp-via", f"{HOST}:{link.port}"])):
        show("demo", f"$ {shlex.join(['chatbox', *client[3:], person.name, *extra])}")
        where = folder / "bob" if person is bob else folder
        person.start([*client, person.name, *extra], where, env)
        await person.reads("You are in")

    alice.type("Hello, who is here?")
    await bob.reads("alice: Hello")
    bob.type("/online")
    await bob.reads("Online.*alice.*bob")
    bob.type("Hi Alice, it's me.")
    await alice.reads("bob: Hi")
    alice.type("/msg bob The film is for you only.")
    await bob.reads("private.*alice.*film")
    bob.type("/files")
    await bob.reads(re.escape(FILE))
    bob.type(f'/download "{FILE}"')
    await bob.reads("stands half way")
    _show_fates(link)
    bob.type("Half of it is here. Shall I go on?")
    await alice.reads("bob: Half")
    alice.type("Yes, do!")
    await bob.reads("alice: Yes")
    bob.type("/proceed")
    line = await bob.reads("sha-256|did not arrive")
    _show_fates(link)
    if digest not in line:
        raise StoryError("The download has not succeeded.")
    if _sha256(folder / "bob" / FILE) != digest:
        raise StoryError("The file that arrived is not the one that was sent.")
    show("demo", "The sha-256 of the file on the server is the same.")
    bob.type("Here it is. Bye!")
    await alice.reads("bob: Here")
    bob.type("/quit")
    await bob.leaves()
    await alice.reads("bob left")
    await alice.leaves()


def _make_shelf(shelf: Path, seed: int) -> str:
    """Make the files that the server shares; returns the sha-256 of the large one. Raises Stop."""
    try:
        shelf.mkdir()
        (shelf / "read me.txt").write_text("A small file beside a large one.\n")
        (shelf / FILE).write_bytes(random.Random(seed).randbytes(FILE_BYTES))
    except OSError as error:
        raise Stop(
            Exit.FAILED,
            f"The demo's files cannot be made in {shelf}: {error.strerror}. It takes 25 MB of room;"
            " $TMPDIR may name another folder.",
        ) from None
    return _sha256(shelf / FILE)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def _port_of(server: Actor, what: str) -> int:
    """The port that the system has given to a part of the server, once it listens there."""
    return int((await server.reads(rf"{what} starting on \d+$")).rpartition(" ")[2])


def _show_fates(link: BadLink) -> None:
    fates = ", ".join(f"{count} {fate}" for fate, count in link.fates.items())
    show("bad link", f"datagrams so far: {fates}")
