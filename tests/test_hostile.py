"""Enemies of one server: what they get, and that a bystander talks on meanwhile."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.session import REQUESTS
from chatbox.chat.wire import parse_line
from tests.helpers.processes import PATIENCE, Running, script
from tests.helpers.server import free_port
from tests.helpers.talk import Talker
from tests.test_server import Connection, make_factory

HOST = "127.0.0.1"

SEED = 20

MAX_GROWTH = 16 << 20
"""Bytes of memory that an attack may leave behind, caches and all."""

values = st.one_of(
    st.sampled_from(["alice", "bob", "all", "True", "a.txt", "../a.txt", "server", "0", "-1"]),
    st.text("<>\\:'\"[],\0\x1b\r\u202eé", max_size=5),
    st.integers(-(2**70), 2**70).map(str),
    st.text("x", max_size=20).map(lambda text: text * 300),
)
fields = st.tuples(st.sampled_from("msrtpqekdzhanX"), values).map(lambda f: f"<{f[0]}:{f[1]}>")
requests = st.tuples(st.sampled_from([*REQUESTS, "nonsense"]), st.lists(fields, max_size=4)).map(
    lambda r: "".join((f"<t:{r[0]}>", *r[1]))
)
lines = st.one_of(
    requests.map(str.encode),
    st.lists(fields, max_size=5).map(lambda all_of_them: "".join(all_of_them).encode()),
    st.binary(max_size=40),
    st.integers(1, 3).map(lambda n: b"<m:" + b"x" * (n * 4000)),
)
ends = st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b"", b"\0\n"])


class FuzzTests(SynchronousTestCase):
    """One enemy in the same room, in memory."""

    @settings(max_examples=150)
    @given(
        st.lists(st.tuples(lines, ends), max_size=12),
        st.lists(st.integers(1, 3000), max_size=6),
        st.booleans(),
        st.booleans(),
    )
    def test_any_bytes(
        self,
        sent: list[tuple[bytes, bytes]],
        cuts: list[int],
        logged_in: bool,
        ends_input: bool,
    ) -> None:
        """Every line that comes back is well formed, nothing breaks, and bob is not disturbed."""
        clock = Clock()
        factory = make_factory(clock)
        with capturedLogs() as logs:
            bob, enemy = Connection(factory), Connection(factory)
            bob.send("<s:bob><t:connect>")
            if logged_in:
                enemy.send("<s:mallory><t:connect>")
            clock.advance(0)
            data = b"".join(line + end for line, end in sent)
            while data:
                size = cuts.pop() if cuts else len(data)
                enemy.protocol.dataReceived(data[:size])
                data = data[size:]
                clock.advance(0)
            if ends_input:
                enemy.protocol.readConnectionLost()
            clock.advance(1)
            enemy.messages()
            bob.messages()
            bob.send("<r:all><t:message_request><m:still here><q:1>")
            clock.advance(1)
            self.assertIn(
                ("message_response", "True", 1),
                [(m.response, m.text, m.sequence) for m in bob.messages()],
            )
            enemy.lose()
            bob.lose()
            clock.advance(0)
        self.assertEqual([e for e in logs if e["log_level"] >= LogLevel.error], [])
        self.assertEqual(factory.room.names(), [])


class Target:
    """A real server with a bystander in it."""

    def __init__(self, server: Running, port: int, udp_port: int) -> None:
        self.server = server
        self.port = port
        self.udp_port = udp_port
        self.bystander = Talker(port, "bystander")
        self._number = 0
        self._at_first = self._memory()

    def connect(self) -> socket.socket:
        """Another enemy."""
        return socket.create_connection((HOST, self.port), timeout=PATIENCE)

    def is_undisturbed(self) -> None:
        """The bystander says something and hears it, and the server's memory is bounded."""
        self._number += 1
        self.bystander.say(f"number {self._number}", self._number)
        assert self._memory() - self._at_first < MAX_GROWTH
        assert self.server.running

    def _memory(self) -> int:
        status = Path(f"/proc/{self.server.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1]) * 1024


@pytest.fixture(name="target", scope="module")
def _target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "files").mkdir()
    (folder / "files" / "a.txt").write_text("hello")
    tcp, udp = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    command = [
        *script("twistd"),
        *("-n", "--pidfile=", f"--logfile={folder / 'log'}", "chatbox", "--log", "memory:"),
        *("--state-dir", "state", "--udp-ports", str(udp), "--no-announce", "--grace", "0"),
        *("--listen", f"tcp:{tcp}:interface={HOST}"),
    ]
    with Running(command, cwd=folder) as server:
        while not (folder / "log").exists() or "Chat starting" not in (folder / "log").read_text():
            assert server.running
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                target = Target(server, tcp, udp)
                break
        yield target
        target.bystander.close()
        server.stop()
    log = (folder / "log").read_text()
    assert "Traceback" not in log, log[log.index("Traceback") :][:2000]
    assert len(log) < 1 << 20, "enemies fill the operator's disk"


def everything_from(enemy: socket.socket) -> bytes:
    """All that an enemy is told until the connection is closed."""
    told = b""
    with contextlib.suppress(ConnectionError):
        while data := enemy.recv(1 << 16):
            told += data
    return told


def test_a_line_of_a_gigabyte(target: Target) -> None:
    """It is cut off long before, and the sender is told why."""
    sent = 0
    piece = b"x" * (1 << 16)
    with target.connect() as enemy:
        with contextlib.suppress(ConnectionError):
            while sent < 1 << 30:
                sent += enemy.send(piece)
        told = everything_from(enemy)
    assert sent < 32 << 20  # what the two kernels hold, and a megabyte
    # What was told may be lost with the connection: the enemy was still sending.
    assert told == b"" or b"<e:too-long>" in told
    target.is_undisturbed()


def test_control_bytes(target: Target) -> None:
    """NULs, escapes and bytes that are no text get an error each, and are sent to nobody."""
    alphabet = [bytes([n]) for n in range(32) if n != 10] + [b"\x7f", b"\x9b", b"\xff", b"\xe2\x80"]
    with target.connect() as enemy:
        enemy.sendall(b"<s:eve><t:connect>\n")
        for byte in alphabet:
            enemy.sendall(b"<r:all><t:message_request><m:a" + byte + b"b>\n")
            enemy.sendall(byte + b"\n")
        enemy.shutdown(socket.SHUT_WR)
        told = everything_from(enemy)
    for line in told.splitlines(keepends=True):
        parse_line(line)
    # One for the name; of all these bytes a text may have a TAB alone.
    assert told.count(b"<m:True>") == 2
    assert not set(told) & (set(range(32)) - {9, 10, 13})
    target.is_undisturbed()


def test_many_connections(target: Target) -> None:
    """A thousand are opened and dropped, in turn and at once, in all the ways to drop one."""
    chance = random.Random(SEED)
    for _ in range(10):
        enemies = []
        for _ in range(100):
            with contextlib.suppress(ConnectionError):
                enemies.append(target.connect())
        for enemy in enemies:
            with contextlib.suppress(ConnectionError):
                if chance.random() < 0.3:
                    enemy.sendall(chance.randbytes(50))
                if chance.random() < 0.3:
                    enemy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif chance.random() < 0.3:
                    enemy.shutdown(socket.SHUT_WR)
            enemy.close()
        target.is_undisturbed()


def test_half_open(target: Target) -> None:
    """A hundred who say nothing, or half a line, and stay, take nobody's place."""
    enemies = []
    for number in range(100):
        with contextlib.suppress(ConnectionError):
            enemy = target.connect()
            enemy.sendall(b"<s:mallory"[: number % 11])
            enemies.append(enemy)
    target.is_undisturbed()
    with Talker(target.port, "newcomer") as newcomer:
        newcomer.say("hello", 1)
    for enemy in enemies:
        enemy.close()
    target.is_undisturbed()


def test_ping_storm_that_nobody_reads(target: Target) -> None:
    """Whoever does not read answers is not read from: what it can send is bounded."""
    with target.connect() as enemy:
        enemy.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError, ConnectionError):
            while sent < 1 << 30:
                sent += enemy.send(b"<t:ping>\n" * 1000)
        assert sent < 64 << 20
        target.is_undisturbed()


def test_login_flood(target: Target) -> None:
    """Names are asked for faster than anybody can type, good ones and bad; all get an answer."""
    chance = random.Random(SEED)
    names = ["bystander", "", "all", "server:x", "a" * 40, "x\u202ey", "\u200b", "eve", "Ｅve"]
    for _ in range(50):
        with target.connect() as enemy, contextlib.suppress(ConnectionError):
            asked = [chance.choice(names) for _ in range(5)]
            enemy.sendall("".join(f"<s:{name}><t:connect>\n" for name in asked).encode())
            enemy.shutdown(socket.SHUT_WR)
            answers = everything_from(enemy).splitlines()
            assert sum(b"<p:connect_response>" in line for line in answers) == 5
    target.is_undisturbed()
    target.bystander.send("<t:get_user_list>")
    assert target.bystander.read_until("user_list").text == "['bystander']"


def test_datagrams(target: Target) -> None:
    """Whoever has no ticket gets not a byte out of the ports of the downloads."""
    chance = random.Random(SEED)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as enemy:
        enemy.bind((HOST, 0))
        for _ in range(40):
            for _ in range(100):
                size = chance.choice((0, 1, 8, 9, 28, 29, 100, 1200, 1472, 9000))
                enemy.sendto(chance.randbytes(size), (HOST, target.udp_port))
            target.is_undisturbed()
        # The server has dealt with a datagram when it sends a file that was asked for after it.
        target.bystander.send("<t:download><m:a.txt>")
        assert target.bystander.read_until("download_response").key
        enemy.setblocking(False)
        with pytest.raises(BlockingIOError):
            enemy.recv(1)
