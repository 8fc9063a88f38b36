"""Attacks: what each gets the attacker, and that a bystander talks on as if nothing happened.

All of these are in virtual time but the last. How fast a bystander is served is counted in turns of
the reactor: as many under attack as before. A turn reads at most 64 KiB of each connection, so what
an attack may cost in one is bounded, too.

====================  ========================  =================================================
attack                here                      and elsewhere
====================  ========================  =================================================
slow loris            `ConnectionAttacks`       `test_limits`: the time to log in
TLS without a         `TlsAttacks`
handshake
half-open thousands   `ConnectionAttacks`       `test_hostile`: real sockets; `test_limits`: out of
                                                descriptors
joins without end     `JoinAttacks`             `test_limits`: who waits, and for how long
login flood           `ConnectionAttacks`,      `test_hostile`: real sockets
                      `AccountAttacks`
a line of a gigabyte  `ConnectionAttacks`       `test_hostile`: real sockets
PING storm            `ConnectionAttacks`       `test_hostile`: real sockets
costly requests       `ConnectionAttacks`       `test_limits`: what they cost
ticket guessing       `DatagramAttacks`         `test_demux`: each kind of datagram by itself
off-path datagrams    `DatagramAttacks`         `test_demux`, `test_fuzz`
amplification         `DatagramAttacks`         `test_hostile`: real sockets
path tricks           `PathAttacks`             `test_shelf`: links, devices, races
terminal escapes      `TerminalAttacks`         `test_fuzz`: whatever a server may send to a client
name look-alikes      `NameAttacks`             `test_names`
password guessing     `AccountAttacks`          `test_accounts`, `test_login`: real processes
TLS downgrade         `PlainAttacks`,           `test_tls`: old versions, other keys; `test_login`:
                      `test_tls_is_stripped`    no password where others listen
permissions                                     `test_permissions`: every cell
====================  ========================  =================================================
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.accounts import (
    ADDRESS_BURST,
    ADDRESS_SECONDS,
    MAX_CHECKING,
    MAX_WAITING,
    AccountGate,
)
from chatbox.chat.gate import Gate
from chatbox.chat.limits import ANSWER_BYTES, MAX_TURNED_AWAY, Limits
from chatbox.chat.names import LocalNames
from chatbox.chat.room import Room
from chatbox.chat.server import LINGER_SECONDS, MAX_SKIPPED_BYTES, MAX_VISITS, ChatFactory
from chatbox.chat.sharing import Downloads, Files, RecentFiles
from chatbox.chat.turn import Turn
from chatbox.chat.wire import MAX_REQUEST_BYTES, Message, format_line
from chatbox.client import words
from chatbox.client.chat.session import ClientSession
from chatbox.client.exits import Exit
from chatbox.downloads import ShelfDownloads
from chatbox.errors import LocalError
from chatbox.log import open_log
from chatbox.rdt.admissions import Taker
from chatbox.rdt.demux import Demux, File
from chatbox.rdt.packet import Kind, Open, Train, pack_control, pack_open
from chatbox.rdt.seal import client_keys, seal_packet, server_keys
from chatbox.rdt.service import TransferService
from chatbox.shelf import Shelf
from chatbox.sparing import SPAN_SECONDS
from chatbox.text import is_printable
from tests.helpers import vectors
from tests.helpers.chat import NOON, FakeShelf
from tests.helpers.chat import File as Listed
from tests.helpers.processes import PATIENCE
from tests.link import Network, Transfer, Weather
from tests.test_server import Connection, producer_of
from tests.test_shelf import HOSTILE_NAMES, NO_SUCH_NAMES
from tests.test_tls import chatbox
from tests.test_transport import with_tls

READ_BYTES = 1 << 16
"""What a turn of the reactor reads of one connection (twisted.internet.abstract)."""

SEND_BYTES = 1 << 16
"""What a transport keeps before it pushes back (the same)."""

MAX_TURNS = 20


class Enemy(Connection):
    """A connection that sends without end, as far as it is read from."""

    def __init__(self, factory: ChatFactory, peer: str, *, reads: bool = True) -> None:
        super().__init__(factory, peer=peer)
        self.taken = 0
        """Bytes that the server has taken."""
        self.gone = False
        self._reads = reads
        self._pieces: Iterator[bytes] = iter(())

    def pour(self, pieces: Iterable[bytes]) -> None:
        """Send all of these, one a turn."""
        self._pieces = iter(pieces)

    def turn(self) -> None:
        """What the reactor does with this connection in one turn."""
        if self.gone:
            return
        if self.transport.producerState == "producing":
            piece = next(self._pieces, b"")
            assert len(piece) <= READ_BYTES
            self.taken += len(piece)
            self.protocol.dataReceived(piece)
        if not self._reads and len(self.transport.value()) > SEND_BYTES:
            producer_of(self).pauseProducing()
        if self.transport.disconnecting:
            self.gone = True
            self.lose()

    def codes(self) -> Counter[str | None]:
        """With which words it was refused since this was last asked; None for what was granted."""
        return Counter(one.error for one in self.messages())


class AttackTestCase(SynchronousTestCase):
    """A server, a bystander who talks, and enemies."""

    limits = Limits()

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOON)
        self.enemies: list[Enemy] = []
        log = open_log("memory:", now=self.clock.seconds)
        turn = Turn(lambda work: self.clock.callLater(0, work))
        chance = random.Random(1)
        room = Room(log, LocalNames(lambda: chance.randbytes(16).hex()), turn)
        files, downloads = self.shelf()
        self.factory = ChatFactory(
            room, files, downloads, self.clock, self.gate(), limits=self.limits
        )
        self.factory.gate.start()
        self.said = 0
        self.bystander = self.guest("bystander")
        self.normal = self.latency()

    def shelf(self) -> tuple[Files, Downloads]:
        """What can be downloaded."""
        shelf = FakeShelf(Listed("a.txt", 5))
        return shelf, shelf

    def gate(self) -> Gate | None:
        """Who is let in."""
        return None

    def guest(self, name: str, peer: str = "198.51.100.1", fields: str = "") -> Connection:
        """Somebody who means well."""
        guest = Connection(self.factory, peer=peer)
        guest.send(f"<s:{name}>{fields}<t:connect>")
        for _ in range(MAX_TURNS):
            self.turn()
            if heard := guest.messages():
                self.assertEqual(heard[0].text, "True", heard[0])
                return guest
        raise AssertionError(f"{name} does not get in")

    def enemy(self, peer: str = "192.0.2.66", *, reads: bool = True) -> Enemy:
        """Somebody who does not."""
        self.enemies.append(Enemy(self.factory, peer, reads=reads))
        return self.enemies[-1]

    def turn(self, seconds: float = 0) -> None:
        """Let a turn of the reactor pass, and some time before it."""
        for enemy in self.enemies:
            enemy.turn()
        self.clock.advance(seconds)

    def latency(self) -> int:
        """How many turns it takes the bystander to say something and to hear it."""
        self.said += 1
        self.bystander.send(f"<r:all><t:message_request><m:number {self.said}><q:{self.said}>")
        heard: list[Message] = []
        for turns in range(1, MAX_TURNS):
            self.turn()
            heard += self.bystander.messages()
            if ("message_response", "True", self.said) in [
                (one.response, one.text, one.sequence) for one in heard
            ]:
                self.assertIn(f"number {self.said}", [one.text for one in heard])
                return turns
        raise AssertionError(f"the bystander hears nothing in {MAX_TURNS} turns")

    def is_undisturbed(self) -> None:
        """The bystander is served as before."""
        self.assertEqual(self.latency(), self.normal)

    def names(self) -> list[str]:
        """Who is here."""
        return self.factory.room.names()


class ConnectionAttacks(AttackTestCase):
    """Connections and lines, more than anybody needs."""

    def test_slow_loris(self) -> None:
        """As many as may come from one address, each a byte a second: a minute, then they go."""
        peer = "192.0.2.66"
        line = b"<s:mallory" + b"x" * 1000
        for _ in range(self.limits.connections_per_address):
            self.enemy(peer).pour(bytes([byte]) for byte in line)
        one_more = self.enemy(peer)
        self.turn()
        self.assertEqual(one_more.codes(), {"too-many-from-address": 1})
        for second in range(int(self.limits.login_timeout) + 1):
            self.turn(1)
            if second % 10 == 0:
                self.is_undisturbed()
        self.turn()
        for enemy in self.enemies[:-1]:
            self.assertEqual(enemy.codes(), {"login-timeout": 1})
            self.assertTrue(enemy.gone)
            self.assertLess(enemy.taken, 100)
        self.is_undisturbed()
        self.guest("neighbour", peer)

    def test_half_open_thousands(self) -> None:
        """Three thousand from twenty addresses say nothing, and keep nobody out."""
        for number in range(3000):
            self.enemy(f"192.0.2.{number % 20}")
        self.is_undisturbed()
        self.guest("newcomer")
        vanished = self.enemies[::10]
        for enemy in vanished:
            enemy.lose()
            enemy.gone = True
        self.turn(self.limits.login_timeout)
        self.turn()
        self.assertTrue(all(enemy.gone for enemy in self.enemies))
        told = sum((enemy.codes() for enemy in self.enemies if enemy not in vanished), Counter())
        self.assertEqual(told, {"login-timeout": 2700})
        self.is_undisturbed()
        self.assertEqual(self.names(), ["bystander", "newcomer"])

    def test_too_many_in_all(self) -> None:
        """When there is no room for more, who is in talks on."""
        self.factory.connections.limit(100)
        for number in range(150):
            self.enemy(f"192.0.2.{number}")
        self.turn()
        told = sum((enemy.codes() for enemy in self.enemies), Counter())
        self.assertEqual(told, {"too-many-connections": 51})
        self.is_undisturbed()

    def test_login_flood(self) -> None:
        """Twenty ask for names as fast as they are read from: each as often as may be, in vain."""
        names = ["bystander", "BYSTANDER", "", "all", "server:x", "a" * 40, "x\u202ey", "192.0.2.1"]
        lines = "".join(f"<s:{name}><t:connect>\n" for name in names).encode() * 100
        for _ in range(20):
            self.enemy().pour(repeat(lines))
        seconds = 10
        for _ in range(seconds * 10):
            self.turn(0.1)
            self.assertLess(max(enemy.taken for enemy in self.enemies), 3 * READ_BYTES)
        self.is_undisturbed()
        most = self.limits.burst + self.limits.rate * (seconds + 1)
        for enemy in self.enemies:
            codes = enemy.codes()
            self.assertNotIn(None, codes)
            self.assertLessEqual(sum(codes.values()), most)
            self.assertGreater(sum(codes.values()), self.limits.burst)
        self.assertEqual(self.names(), ["bystander"])

    def test_a_line_of_a_gigabyte(self) -> None:
        """It is read for a megabyte, and answered with why not, and the end."""
        enemy = self.enemy()
        enemy.pour(repeat(b"x" * READ_BYTES, (1 << 30) // READ_BYTES))
        while not enemy.gone:
            self.is_undisturbed()
        self.assertLess(enemy.taken, MAX_REQUEST_BYTES + MAX_SKIPPED_BYTES + 2 * READ_BYTES)
        self.assertEqual(enemy.codes(), {"too-long": 2})

    def test_ping_storm(self) -> None:
        """It is answered at the rate that all are told; what is not read is not answered."""
        quiet, deaf = self.enemy(), self.enemy(reads=False)
        pings = b"<t:ping>\n" * (READ_BYTES // 9)
        for enemy in (quiet, deaf):
            enemy.pour(islice(repeat(pings), 1000))
        for _ in range(100):
            self.turn(0.1)
            self.assertLess(quiet.taken, 2 * READ_BYTES)
        self.is_undisturbed()
        answers = len(quiet.messages())
        self.assertLessEqual(answers, self.limits.burst + self.limits.rate * 11)
        self.assertLess(len(deaf.transport.value()), 2 * SEND_BYTES)

    def test_costly_requests(self) -> None:
        """History, and lists of people and files, are counted by what they make the server say."""
        guests = [self.guest(f"guest-{number}-{'x' * 20}") for number in range(150)]
        speaker = self.enemy("192.0.2.67")
        speaker.pour([b"<s:speaker><t:connect>\n"])
        for _ in range(100):
            speaker.protocol.dataReceived(b"<r:all><t:message_request><m:%s>\n" % (b"y" * 1000))
            self.turn(1)
        speaker.read()
        for request in (b"<t:history>", b"<t:get_user_list>"):
            enemy = self.enemy()
            enemy.pour([b"<s:mallory><t:connect>\n", *repeat((request + b"\n") * 1000, 50)])
            for _ in range(100):
                self.turn(0.1)
                for guest in guests:
                    guest.read()
            self.is_undisturbed()
            said = len(enemy.read())
            tokens = self.limits.burst + self.limits.rate * 11
            self.assertLess(said, tokens * ANSWER_BYTES * 2)
            self.assertGreater(said, tokens * ANSWER_BYTES / 2)
            enemy.lose()
            enemy.gone = True
            self.turn()


class TlsAttacks(AttackTestCase):
    """Connections to a port with TLS that never shake hands, so that they can be told nothing."""

    limits = Limits(connections=60, connections_per_address=10)

    def setUp(self) -> None:
        super().setUp()
        folder = Path(os.path.abspath(self.mktemp()))
        folder.mkdir()
        self.sealed = with_tls(self.factory, folder)
        self.silent: list[tuple[Any, StringTransport]] = []

    def knock(self, peer: str) -> None:
        """Connect, and say nothing."""
        transport = StringTransport(peerAddress=IPv4Address("TCP", peer, 40000))
        protocol = self.sealed.buildProtocol(transport.getPeer())
        protocol.makeConnection(transport)
        self.silent.append((protocol, transport))

    def left(self) -> int:
        """Let those go whose connections were cut; return how many are still there."""
        cut = [one for one in self.silent if one[1].disconnected]
        self.silent = [one for one in self.silent if not one[1].disconnected]
        for protocol, _ in cut:
            protocol.connectionLost(Failure(ConnectionAborted()))
        return len(self.silent)

    def test_no_handshake(self) -> None:
        """One address takes its own places only, and none for longer than the time to log in."""
        for _ in range(120):
            self.knock("192.0.2.66")
        self.assertEqual(self.left(), self.limits.connections_per_address + MAX_TURNED_AWAY)
        self.is_undisturbed()
        self.turn(LINGER_SECONDS)
        self.assertEqual(self.left(), self.limits.connections_per_address)
        self.guest("newcomer")
        self.turn(self.limits.login_timeout)
        self.assertEqual(self.left(), 0)
        self.is_undisturbed()
        self.knock("192.0.2.66")
        self.assertEqual(self.left(), 1)

    def test_no_handshake_and_no_room(self) -> None:
        """Who comes when there is no room leaves at once or soon, and counts for nothing."""
        for number in range(120):
            self.knock(f"192.0.2.{number}")
        most = self.limits.connections - 1  # and the bystander
        self.assertEqual(self.left(), most + MAX_TURNED_AWAY)
        self.turn(LINGER_SECONDS)
        self.assertEqual(self.left(), most)
        self.turn(self.limits.login_timeout)
        self.assertEqual(self.left(), 0)
        self.guest("newcomer")

    def test_refused_in_words(self) -> None:
        """Who shakes hands hears why there is no room, as long as that are not too many at once."""
        for _ in range(self.limits.connections_per_address):
            self.knock("192.0.2.66")
        for _ in range(2 * MAX_TURNED_AWAY):
            self.knock("192.0.2.66")
            protocol, transport = self.silent[-1]
            client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
            client.set_connect_state()
            for _ in range(4):
                with contextlib.suppress(SSL.WantReadError):
                    client.do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    protocol.dataReceived(client.bio_read(READ_BYTES))
                if transport.value():
                    client.bio_write(transport.value())
                    transport.clear()
            self.assertIn(b"<e:too-many-from-address>", client.recv(READ_BYTES))
            client.shutdown()
            protocol.dataReceived(client.bio_read(READ_BYTES))
            protocol.connectionLost(Failure(ConnectionDone()))
            self.silent.pop()


class JoinAttacks(AttackTestCase):
    """Coming and going, which everybody hears."""

    def test_revolving_door(self) -> None:
        """One address comes and goes as fast as it can: the others hear of it at a rate."""
        seconds, heard = 60, 0
        lines = 0
        with capturedLogs() as events:
            for number in range(seconds * 100):
                enemy = self.enemy()
                enemy.pour([f"<s:m{number}><t:connect>\n".encode()])
                self.turn()
                self.turn(0.01)
                enemy.lose()
                self.enemies.clear()
                heard += self.bystander.read().count(b"<p:presence>")
            lines = len(events)
        most = self.limits.join_burst + self.limits.join_rate * (seconds + 1)
        self.assertGreater(heard, self.limits.join_burst)
        self.assertLessEqual(heard, 2 * most)
        self.assertLess(lines, seconds / SPAN_SECONDS * 4 * (MAX_VISITS + 1))
        self.is_undisturbed()
        self.assertEqual(self.names(), ["bystander"])
        self.guest("newcomer")

    def test_crowd_that_stays(self) -> None:
        """As many as may come from one address, again and again: others come in as always."""
        for _ in range(3):
            crowd = [self.enemy() for _ in range(self.limits.connections_per_address)]
            for number, enemy in enumerate(crowd):
                enemy.pour([f"<s:m{number}><t:connect>\n".encode()])
            self.turn()
            self.guest("newcomer").lose()
            self.is_undisturbed()
            for enemy in crowd:
                enemy.lose()
            self.enemies.clear()


class CheapServerAttacks(AttackTestCase):
    """The same where the operator has lifted the limits of the rate."""

    limits = Limits(rate=0)

    def test_ping_storm_that_nobody_reads(self) -> None:
        """What is taken and what waits is bounded by what a transport holds, and no more."""
        enemy = self.enemy(reads=False)
        enemy.pour(repeat(b"<t:ping>\n" * (READ_BYTES // 9)))
        for _ in range(1000):
            self.turn(0.01)
        self.is_undisturbed()
        self.assertLess(enemy.taken, 3 * READ_BYTES)
        self.assertEqual(enemy.transport.producerState, "paused")


class AccountTestCase(AttackTestCase):
    """A server with accounts; a check takes as long as it does."""

    CHECK_SECONDS = 0.025

    allow_plain = True

    def setUp(self) -> None:
        self.checks = self.checking = self.most_checking = 0
        super().setUp()

    def gate(self) -> Gate:
        """Who has the password, which is the same for all."""

        def check(name: str, password: str, answer: Callable[[bool | None], None]) -> None:
            self.checks += 1
            self.checking += 1
            self.most_checking = max(self.most_checking, self.checking)

            def done() -> None:
                self.checking -= 1
                answer(password == "right")

            self.clock.callLater(self.CHECK_SECONDS, done)

        folder = os.path.abspath(self.mktemp())
        return AccountGate(check, folder, self.clock.seconds, allow_plain=self.allow_plain)

    def guest(self, name: str, peer: str = "198.51.100.1", fields: str = "<m:right>") -> Connection:
        """Somebody with the password. The time that checking it takes passes."""
        guest = Connection(self.factory, peer=peer)
        guest.send(f"<s:{name}>{fields}<t:connect>")
        for _ in range(1000):
            self.turn(self.CHECK_SECONDS)
            if heard := guest.messages():
                self.assertEqual(heard[0].text, "True", heard[0])
                return guest
        raise AssertionError(f"{name} does not get in")


class AccountAttacks(AccountTestCase):
    """Guessing passwords."""

    def test_login_flood(self) -> None:
        """Hundreds guess at once: two are checked at a time, the others wait or are sent away."""
        flood = MAX_WAITING + MAX_CHECKING + 50
        for number in range(flood):
            self.enemy(f"192.0.{2 + number // 250}.{number % 250}").pour(
                [b"<s:name%d><m:wrong><t:connect>\n" % number]
            )
        self.turn()
        self.is_undisturbed()
        began = self.clock.seconds()
        self.turn(self.CHECK_SECONDS)
        self.guest("alice")
        waited = self.clock.seconds() - began
        self.assertLessEqual(waited, (MAX_WAITING / MAX_CHECKING + 3) * self.CHECK_SECONDS)
        told = sum((enemy.codes() for enemy in self.enemies), Counter())
        self.assertEqual(told, {"wrong-password": flood - 50, "busy": 50})
        self.assertEqual(self.most_checking, MAX_CHECKING)
        self.is_undisturbed()

    def test_a_day_of_guessing(self) -> None:
        """Whoever guesses whenever that is allowed has so many guesses a day, and no more."""
        day = 86_400
        most = ADDRESS_BURST + day / ADDRESS_SECONDS
        began, before = self.clock.seconds(), self.checks
        while (past := self.clock.seconds() - began) < day:
            enemy = Connection(self.factory, peer="192.0.2.66")
            enemy.send(f"<s:name{self.checks}><m:wrong><t:connect>")
            self.turn(self.CHECK_SECONDS)
            self.turn()
            [answer] = enemy.messages()
            self.assertIn(answer.error, ("wrong-password", "try-later"))
            enemy.lose()
            self.turn(answer.count or 0)
            if past % 3600 < ADDRESS_SECONDS:
                self.is_undisturbed()
            self.assertLessEqual(self.checks - before, most)
        self.assertGreater(self.checks - before, most - 5)

    def test_nobody_is_locked_out(self) -> None:
        """While a hundred addresses guess one name, its owner comes in from where they were."""
        self.guest("alice").lose()
        for number in range(100):
            self.enemy(f"192.0.2.{number}").pour(
                repeat(b"<s:alice><m:wrong><t:connect>\n", ADDRESS_BURST)
            )
        for _ in range(200):
            self.turn(self.CHECK_SECONDS)
        self.assertIn("try-later", sum((enemy.codes() for enemy in self.enemies), Counter()))
        self.guest("alice")
        self.is_undisturbed()


class PlainAttacks(AccountTestCase):
    """The same server, where a password is not taken over what others can read."""

    allow_plain = False

    def guest(self, name: str, peer: str = "127.0.0.1", fields: str = "<m:right>") -> Connection:
        """Somebody on the server's own machine."""
        return super().guest(name, "127.0.0.1", fields)

    def test_without_tls(self) -> None:
        """Nothing that comes from afar without TLS is ever checked, a right password neither."""
        before = self.checks
        for number in range(50):
            self.enemy(f"192.0.2.{number}").pour(
                [b"<s:alice><m:right><t:connect>\n<s:alice><k:" + b"x" * 32 + b"><t:connect>\n"]
            )
        self.turn()
        told = sum((enemy.codes() for enemy in self.enemies), Counter())
        self.assertEqual(told, {"tls-needed": 100})
        self.assertEqual(self.checks, before)
        self.is_undisturbed()


class NameAttacks(AttackTestCase):
    """Being taken for somebody else."""

    def test_look_alikes(self) -> None:
        """What is the same name by the profile is taken; what cannot be seen is no name."""
        alice = self.guest("alice")
        taken = [
            *("Alice", "ALICE", " alice", "alice ", "\uff41lice", "\uff21\uff2c\uff29\uff23\uff25"),
            *("al\u2170ce", "\u24d0lice", "\U0001d41alice", "\u3000alice"),
            *("'alice'", '"alice"'),
        ]
        invalid = [
            *("alice\u200b", "al\u00adice", "\u200ealice", "alice\u200f", "\u202ealice"),
            *("al\u2060ice", "\ufeffalice", "alice\u0007", "alice\x1b[0m", "ali\u115fce"),
        ]
        reserved = [
            "all",
            "ALL",
            "server",
            "server:192.0.2.1",
            "\uff41\uff4c\uff4c",
            "address:alice",
        ]
        for names, code in (
            (taken, "name-taken"),
            (invalid, "name-invalid"),
            (reserved, "name-reserved"),
        ):
            for name in names:
                enemy = self.enemy()
                enemy.pour([f"<s:{name}><t:connect>\n".encode()])
                self.turn()
                self.assertEqual(enemy.codes(), {code: 1}, ascii(name))
                enemy.lose()
                enemy.gone = True
        self.assertEqual(self.names(), ["bystander", "alice"])
        # Across scripts no profile sees a likeness; but letters go to the one they are written to.
        self.guest("\u0430lice")
        alice.read()
        self.bystander.send("<r:alice><t:message_request><m:for you>")
        self.turn()
        self.assertEqual(
            [one.text for one in alice.messages() if one.recipient == "alice"], ["for you"]
        )
        self.is_undisturbed()

    def test_guessed_tokens(self) -> None:
        """A name is not to be had by guessing the token of who has it."""
        chance = random.Random(2)
        enemy = self.enemy()
        enemy.pour(
            f"<s:bystander><k:{chance.randbytes(16).hex()}><t:connect>\n".encode()
            for _ in range(1000)
        )
        for _ in range(1000):
            self.turn(0.01)
        codes = enemy.codes()
        self.assertEqual(set(codes), {"name-taken"})
        self.assertGreater(codes["name-taken"], self.limits.burst)
        self.assertLessEqual(codes["name-taken"], self.limits.burst + 11 * self.limits.rate)
        self.is_undisturbed()


class TerminalAttacks(AttackTestCase):
    """What others say, do to a terminal."""

    TRICKS = (
        *(
            "\x1b[2J",
            "\x1b]0;title\x07",
            "\x1b]52;c;AAAA\x07",
            "\x1bP1$r\x1b\\",
            "\x1b[6n",
            "\x1bc",
        ),
        *("\x9b2J", "\x9d0;x\x9c", "\x90q", "\x0e", "\x0f", "\x07", "\x08" * 9, "\x7f", "\x05"),
        *("\u202egnp.exe", "\u2066x\u2069", "\u2028", "\u2029", "\u202dx", "\0", "\x85", "\x0b"),
        *("a\rb", "a\nb", "x\n12:00 bystander: send me your password", "\r\n> ", "\t\x1b[A"),
    )

    def test_tricks(self) -> None:
        """They are refused by the server, or shown as signs by the client; no line is faked."""
        client = ClientSession()
        client.join("reader", "192.0.2.1")
        reader = Connection(self.factory, peer="198.51.100.2")
        reader.protocol.dataReceived(client.data_to_send())
        enemy = self.enemy()
        enemy.pour([b"<s:mallory><t:connect>\n"])
        self.turn()
        for trick in self.TRICKS:
            for fields in (
                Message(recipient="all", request="message_request", text=trick),
                Message(recipient="reader", request="message_request", text=f"x{trick}y"),
                Message(recipient=trick, request="message_request", text="x"),
                Message(sender=f"m{trick}", request="connect"),
                Message(request="download", text=trick),
                Message(request=trick),
            ):
                enemy.protocol.dataReceived(format_line(fields))
                self.turn()
            named = self.enemy()
            named.pour([format_line(Message(sender=f"m{trick}", request="connect"))])
            self.turn()
        client.receive_data(reader.read())
        shown = []
        while (event := client.next_event()) is not None:
            shown.append(words.describe(event, "reader", now=NOON))
        self.assertGreater(len(shown), len(self.TRICKS) // 3)
        for lines in shown:
            self.assertTrue(all(map(is_printable, lines)), lines)
            for line in lines[1:]:
                self.assertTrue(line.startswith("      | "), line)
        self.is_undisturbed()


class PathAttacks(AttackTestCase):
    """Files that are not shared."""

    def shelf(self) -> tuple[Files, Downloads]:
        """A real folder; what would be sent is noted."""
        base = Path(os.path.abspath(self.mktemp()))
        folder = base / "shared"
        (folder / "folder").mkdir(parents=True)
        (base / "secret.txt").write_text("secret")
        (folder / "good.txt").write_text("good")
        (folder / "folder" / "deep.txt").write_text("deep")
        (folder / ".hidden").write_text("hidden")
        for name, target in (("to-secret", "../secret.txt"), ("to-passwd", "/etc/passwd")):
            (folder / name).symlink_to(target)
        os.mkfifo(folder / "fifo")
        self.base = str(base)
        self.offered: list[str] = []
        offered = self.offered

        class Transfers:
            ports = [55000]

            def offer(self, taker: Taker, file: File, which: int | None = None) -> tuple[int, str]:
                offered.append(getattr(file, "name", ""))
                file.close()
                return 55000, vectors.TICKET_TEXT

        shelf = Shelf(folder)

        def at_once(work: Callable[[], None]) -> None:
            work()

        clock = self.clock
        files = RecentFiles(shelf, clock.seconds, clock.callLater, at_once, at_once)
        transfers: TransferService = Transfers()  # type: ignore[assignment]  # what is needed of it
        return files, ShelfDownloads(shelf, transfers)

    def test_tricks(self) -> None:
        """A hundred names, and not one gets anything but a refusal that tells nothing."""
        enemy = self.enemy()
        enemy.pour([b"<s:mallory><t:connect>\n"])
        self.turn()
        enemy.read()
        tried = 0
        for name in (*HOSTILE_NAMES, *NO_SUCH_NAMES):
            try:
                line = format_line(Message(request="download", text=name, sequence=1))
            except LocalError:  # not to be written as UTF-8
                continue
            tried += 1
            enemy.protocol.dataReceived(line)
            self.turn(1)
            [answer] = enemy.messages()
            expected = "missing-field" if not name else "bad-file-name"
            expected = "no-such-file" if name in NO_SUCH_NAMES else expected
            self.assertEqual((answer.text, answer.error), ("ERR", expected), ascii(name))
            self.assertIsNone(answer.key)
        self.assertGreater(tried, 60)
        self.assertEqual(self.offered, [])
        self.assertNotIn(self.base.encode(), enemy.transcript)
        self.assertNotIn(b"secret", enemy.transcript.replace(b"secret.txt", b""))
        enemy.send("<t:get_file>", "<t:download><m:good.txt>")
        self.turn()
        listed, offer = enemy.messages()
        self.assertEqual((listed.text, offer.text), ("['good.txt']", "55000"))
        self.assertEqual(self.offered, ["good.txt"])
        self.is_undisturbed()


DATA = random.Random(9).randbytes(400_000)

BODIES = (
    (Kind.OPEN, pack_open(Open(1400, 0.0, [], vectors.CONTROL))),
    (Kind.CONTROL, pack_control(vectors.CONTROL)),
)


class Watched(Transfer):
    """A download that is watched by somebody who can send from anywhere, and reads nothing."""

    def __init__(self) -> None:
        self.sent_to: Counter[object] = Counter()
        super().__init__(DATA, down=Weather(loss=0.01))

    def _to_client(self, address: object) -> Callable[[float, bytes], None]:
        arrive = super()._to_client(address)

        def count(when: float, datagram: bytes) -> None:
            self.sent_to[address] += len(datagram)
            arrive(when, datagram)

        return count

    def forge(self, datagram: bytes, address: object) -> None:
        """Let this come to the server as if from `address`."""
        demux: Demux = self.demux
        demux.receive(Train(memoryview(bytearray(datagram)), len(datagram)), address, self.now)
        self._serve_server()

    @property
    def now(self) -> float:
        """The virtual time."""
        network: Network = self.network
        return network.now


class DatagramAttacks(SynchronousTestCase):
    """UDP, by somebody who has no ticket; the bystander downloads."""

    def attack(self, step: Callable[[Watched, random.Random], None]) -> Watched:
        """Let `step` happen at each instant of a download, which must not feel it."""
        plain = Watched()
        plain.run()
        plain.check()
        attacked = Watched()
        chance = random.Random(4)
        step(attacked, chance)
        self.assertEqual(attacked.sent_to, {}, "somebody was answered before the client came")
        attacked.on_step = lambda _: step(attacked, chance)
        attacked.run()
        attacked.check()
        self.compare(attacked, plain)
        return attacked

    def compare(self, attacked: Watched, plain: Watched) -> None:
        """Nobody but the client was sent anything, and it had its file as soon as without.

        Each datagram wakes the server, which may then send a train in two; hence the margin.
        """
        self.assertEqual(attacked.sent_to.keys(), {attacked.client_address})
        sent, before = attacked.sent_to.total(), plain.sent_to.total()
        self.assertLess(abs(sent - before), 0.01 * before)
        self.assertLess(abs(attacked.duration - plain.duration), 0.01 * plain.duration)

    def test_ticket_guessing(self) -> None:
        """Who knows the port and the connection, and guesses the secret, changes nothing."""
        guesses = 0

        def step(watched: Watched, chance: random.Random) -> None:
            nonlocal guesses
            ticket = watched.ticket
            for kind, body in BODIES:
                keys = client_keys(chance.randbytes(32))
                number = chance.choice((0, watched.sender._heard, 1 << 30))
                packet = seal_packet(keys, kind, ticket.connection_id, number, body)
                for address in ("mallory", watched.client_address):
                    watched.forge(packet, address)
                    guesses += 1

        watched = self.attack(step)
        self.assertGreater(guesses, 1000)
        self.assertGreaterEqual(watched.demux.dropped, guesses)

    def test_off_path(self) -> None:
        """Noise, half packets and the server's own come back from anywhere: all is dropped."""
        noise = 0

        def step(watched: Watched, chance: random.Random) -> None:
            nonlocal noise
            ticket = watched.ticket
            header = bytes([Kind.CONTROL]) + ticket.connection_id.to_bytes(4, "big")
            own = seal_packet(server_keys(ticket.secret), Kind.STATUS, ticket.connection_id, 7, b"")
            for datagram in (
                chance.randbytes(chance.choice((1, 28, 29, 1200))),
                header + chance.randbytes(chance.choice((8, 24, 100))),
                own[: chance.randrange(1, len(own))],
                own,
            ):
                for address in ("mallory", watched.client_address):
                    watched.forge(datagram, address)
                    noise += 1
                train = Train(memoryview(bytearray(datagram)), len(datagram))
                if datagram is not own:
                    watched.receiver.receive(train, watched.now)

        watched = self.attack(step)
        self.assertGreaterEqual(watched.demux.dropped, noise)

    def test_replays(self) -> None:
        """What the client has said comes again, from a victim's address: the victim hears nothing.

        That is the attack in which a server would send a film to somebody who did not ask.
        """
        heard: list[bytes] = []

        def step(watched: Watched, chance: random.Random) -> None:
            for datagram in heard[-3:] + heard[:1]:
                watched.forge(datagram, "victim")

        receive = Demux.receive

        def listen(
            demux: Demux, train: Train, address: object, now: float, waited: float = 0.0
        ) -> None:
            receive(demux, train, address, now, waited)
            if address != "victim":
                heard.extend(map(bytes, train.datagrams()))

        self.patch(Demux, "receive", listen)
        plain = Watched()
        plain.run()
        heard.clear()
        attacked = Watched()
        attacked.on_step = lambda _: step(attacked, random.Random(5))
        attacked.run()
        attacked.check()
        self.assertGreater(len(heard), 20)
        self.compare(attacked, plain)


def stand_between(server: socket.socket, answer: bytes, heard: bytearray) -> None:
    """Give one client an answer to whatever it says, and note that."""
    connection, _ = server.accept()
    with connection, contextlib.suppress(ConnectionError):
        connection.settimeout(PATIENCE)
        heard.extend(connection.recv(1 << 16))
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        while data := connection.recv(1 << 16):
            heard.extend(data)


def test_tls_is_stripped(tmp_path: Path) -> None:
    """Whoever stands in between and answers in plain text, or not at all, gets no word of a login.

    The client that was told to use TLS says so and stops, whatever it is offered.
    """
    (tmp_path / "password").write_text("a secret word\n")
    (tmp_path / "password").chmod(0o600)
    for answer in (
        b"<s:server:127.0.0.1><r:alice><m:True><p:connect_response><k:" + b"x" * 22 + b">\r\n",
        b"<m:no TLS here, come again without><e:tls-needed><p:error>\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",  # a TLS alert: no such version of the protocol
        b"",
    ):
        heard = bytearray()
        with socket.create_server(("127.0.0.1", 0)) as server:
            enemy = threading.Thread(
                target=stand_between, args=(server, answer, heard), daemon=True
            )
            enemy.start()
            host = f"127.0.0.1:{server.getsockname()[1]}"
            login = ("--name", "alice", "--password-file", str(tmp_path / "password"))
            said = chatbox(tmp_path, "say", host, "hello", "--tls", *login)
            enemy.join(PATIENCE)
        assert said.returncode == Exit.NO_CONNECTION, said
        assert "does not speak TLS" in said.stderr
        assert heard[:1] == b"\x16"  # a TLS handshake
        for word in (b"secret", b"alice", b"hello", b"connect"):
            assert word not in heard
