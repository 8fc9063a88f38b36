"""Bytes in, bytes out: lines in pieces, limits, push-back, half-closed and lost connections."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from chatbox.chat.closing import ANSWER_SECONDS
from chatbox.chat.codes import Code
from chatbox.chat.gate import Admission, Refusal, Visitor
from chatbox.chat.limits import NO_LIMITS
from chatbox.chat.names import MAX_NAME_CHARACTERS, LocalNames
from chatbox.chat.outbox import MAX_QUEUED_BYTES
from chatbox.chat.pipeline import MAX_BYTES_IN_PROGRESS, MAX_IN_PROGRESS
from chatbox.chat.room import Room
from chatbox.chat.server import (
    LAST_LINGER_SECONDS,
    LINGER_SECONDS,
    MAX_COMPLAINTS,
    MAX_SKIPPED_BYTES,
    MAX_VISITS,
    ChatFactory,
    ChatProtocol,
)
from chatbox.chat.service import ChatService
from chatbox.chat.turn import Turn
from chatbox.chat.wire import MAX_REQUEST_BYTES, TEXT_BYTES_CEILING, Message, parse_line
from chatbox.errors import CannotStart, LocalError
from chatbox.log import MessageLog, open_log
from chatbox.sparing import SPAN_SECONDS
from tests.helpers.chat import NOON, DelayedLog, FakeShelf, File, tokens
from tests.helpers.processes import PATIENCE

reactor: Any = _reactor


def make_factory(clock: Any, log: MessageLog | None = None) -> ChatFactory:
    """Put a server together."""
    log = log or open_log("memory:", now=lambda: NOON)
    room = Room(log, LocalNames(tokens()), Turn(lambda work: clock.callLater(0, work)))
    shelf = FakeShelf(File("a.txt", 5))
    return ChatFactory(room, shelf, shelf, clock)


class Connection:
    """A connection in memory, seen from the client."""

    def __init__(
        self, factory: ChatFactory, host: str = "192.0.2.1", peer: str = "192.0.2.7"
    ) -> None:
        self.transport = StringTransport(
            hostAddress=IPv4Address("TCP", host, 50000),
            peerAddress=IPv4Address("TCP", peer, 40000),
        )
        protocol = factory.buildProtocol(None)
        assert protocol is not None
        self.protocol: ChatProtocol = protocol
        self.protocol.makeConnection(self.transport)
        self.transcript = b""

    def send(self, *lines: str) -> None:
        """Send lines, all in one piece."""
        self.protocol.dataReceived("".join(f"{line}\r\n" for line in lines).encode())

    def read(self) -> bytes:
        """Return what has come since the last time."""
        data = self.transport.value()
        self.transport.clear()
        self.transcript += data
        return bytes(data)

    def messages(self) -> list[Message]:
        """Return the lines that have come since the last time."""
        return [parse_line(line) for line in self.read().splitlines(keepends=True)]

    def lose(self) -> None:
        """Cut the connection."""
        self.protocol.connectionLost(Failure(ConnectionDone()))


def producer_of(connection: Connection) -> Any:
    """What the transport pauses and resumes."""
    return connection.transport.producer


class ServerTests(SynchronousTestCase):
    """One server, connections in memory, and a clock that goes when told."""

    def setUp(self) -> None:
        """Start it."""
        self.clock = Clock()
        self.factory = make_factory(self.clock)

    def connect(self, name: str | None = None) -> Connection:
        """Come, under a name if there is one."""
        connection = Connection(self.factory)
        if name is not None:
            connection.send(f"<s:{name}><r:server:x><t:connect>")
            self.turn()
            self.assertEqual(connection.messages()[0].text, "True")
        return connection

    def turn(self) -> None:
        """Let a turn of the reactor pass."""
        self.clock.advance(0)

    def answer(self, connection: Connection) -> Message:
        """Return the one line that comes."""
        self.turn()
        [message] = connection.messages()
        return message

    def test_server_name(self) -> None:
        """The server goes by the address that the client has reached."""
        for host in ("192.0.2.1", "::1"):
            connection = Connection(self.factory, host)
            connection.send("<t:ping>")
            self.assertEqual(self.answer(connection).sender, f"server:{host}")

    def test_fault_in_sending(self) -> None:
        """Whoever a bug keeps from being sent to is cut off, and not left without some lines."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.patch(bob.transport, "write", lambda _: 1 / 0)
        alice.read()
        with capturedLogs() as logs:
            alice.send("<r:all><t:message_request><m:hi>")
            self.turn()
        self.assertEqual([m.text for m in alice.messages()], ["hi", "True"])
        self.assertTrue(bob.transport.disconnecting)
        self.assertFalse(alice.transport.disconnecting)
        [told] = [formatEvent(event) for event in logs if event["log_level"] is LogLevel.error]
        self.assertIn("192.0.2.7 port 40000 is cut off", told)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        bob.lose()
        self.turn()
        self.assertIn(b"left", alice.read())

    def test_unix_socket(self) -> None:
        """A transport without hosts will do."""
        transport = StringTransport(UNIXAddress("/tmp/x"), UNIXAddress(None))
        protocol = self.factory.buildProtocol(None)
        assert protocol is not None
        protocol.makeConnection(transport)
        protocol.dataReceived(b"<t:ping>\n")
        self.turn()
        self.assertTrue(transport.value().startswith(b"<s:server:local>"))

    def test_interfaces(self) -> None:
        """Twisted finds what it asks for."""
        verifyObject(IHalfCloseableProtocol, self.connect().protocol)

    # Lines.

    conversation = (
        b"<s:alice><r:server:x><t:connect><q:1>\r\n"
        b"<r:all><t:message_request><m:h\xc3\xa9llo \\<\\n\\>><q:2>\n"
        b"not a line\r\n"
        b"\n"
        b"\xff\xfe\n"
        b"<t:get_user_list><q:3>\r\n" + b"x" * (MAX_REQUEST_BYTES + 1) + b"\r\n"
        b"<t:ping><q:4>\n"
    )

    def transcript(self, pieces: list[bytes]) -> bytes:
        """Hold the conversation in pieces and return what was answered."""
        self.setUp()
        connection = self.connect()
        for piece in pieces:
            connection.protocol.dataReceived(piece)
        for _ in range(5):
            self.turn()
        connection.protocol.dataReceived(b"<t:disconnect>\n")
        self.turn()
        return connection.read()

    def test_whole(self) -> None:
        """The conversation has the answers that it should."""
        answers = [parse_line(line) for line in self.transcript([self.conversation]).splitlines()]
        self.assertEqual(
            [(m.response, m.error) for m in answers],
            [
                ("connect_response", None),
                ("presence", None),
                ("message_received", None),
                ("message_response", None),
                ("error", "bad-line"),
                ("error", "bad-line"),
                ("error", "not-utf8"),
                ("user_list", None),
                ("error", "too-long"),
                ("ping_response", None),
                ("disconnect_response", None),
            ],
        )

    def test_byte_by_byte(self) -> None:
        """The same answers come if the bytes come one by one."""
        whole = self.transcript([self.conversation])
        bytes_ = [bytes([byte]) for byte in self.conversation]
        self.assertEqual(self.transcript(bytes_), whole)

    @given(st.lists(st.integers(0, len(conversation))))
    def test_any_pieces(self, cuts: list[int]) -> None:
        """And if they come in any pieces."""
        whole = self.transcript([self.conversation])
        at = [0, *sorted(cuts), len(self.conversation)]
        pieces = [self.conversation[a:b] for a, b in pairwise(at)]
        self.assertEqual(self.transcript(pieces), whole)

    def test_longest_line(self) -> None:
        """A line as long as it may be is read; one byte more is too long."""
        connection = self.connect("a")
        line = b"<t:ping><x:" + b"x" * (MAX_REQUEST_BYTES - 12) + b">"
        connection.protocol.dataReceived(line + b"\n")
        self.assertEqual(self.answer(connection).response, "ping_response")
        connection.protocol.dataReceived(line[:-1] + b"x>\n")
        self.assertEqual(self.answer(connection).error, "too-long")

    def test_too_long_then_more(self) -> None:
        """What follows a line that is too long in the same piece is served."""
        connection = self.connect("a")
        long = b"x" * (MAX_REQUEST_BYTES * 3) + b"\n"
        connection.protocol.dataReceived(long + long + b"<t:ping>\n" + long + b"<t:ping><q:1>\n")
        self.turn()
        self.assertEqual(
            [m.error or m.response for m in connection.messages()],
            ["too-long", "too-long", "ping_response", "too-long", "ping_response"],
        )

    def test_endless_line(self) -> None:
        """A line that never ends is told so at once, is not kept, and is cut off in the end."""
        connection = self.connect("a")
        piece = b"x" * 65536
        connection.protocol.dataReceived(piece)
        self.assertEqual(self.answer(connection).error, "too-long")
        for _ in range(MAX_SKIPPED_BYTES // len(piece) - 1):
            connection.protocol.dataReceived(piece)
        self.assertFalse(connection.transport.disconnecting)
        connection.protocol.dataReceived(piece)
        self.assertEqual(self.answer(connection).error, "too-long")
        self.assertTrue(connection.transport.disconnecting)
        connection.protocol.dataReceived(piece)
        self.turn()
        self.assertEqual(connection.read(), b"")

    def test_deaf_after_hanging_up(self) -> None:
        """What comes when the conversation is over is neither read nor kept."""
        complaints: list[object] = []
        self.patch(self.factory, "complain", lambda _, **fields: complaints.append(fields))
        connection = self.connect()
        connection.send("nonsense", "<t:disconnect>", "nonsense")
        connection.send("nonsense", "x" * MAX_REQUEST_BYTES)
        self.assertLess(len(connection.protocol._lines.rest), MAX_REQUEST_BYTES)
        connection.protocol.readConnectionLost()
        self.assertEqual(len(complaints), 1)

    def test_many_long_lines(self) -> None:
        """The bound on what is skipped is one line's."""
        connection = self.connect("a")
        for _ in range(3):
            connection.protocol.dataReceived(b"x" * (MAX_SKIPPED_BYTES - 1000))
            connection.protocol.dataReceived(b"\n")
        self.assertFalse(connection.transport.disconnecting)

    # Reading and writing.

    def test_one_write_a_turn(self) -> None:
        """All answers of a turn leave at its end, in one write."""
        connection = self.connect("a")
        writes: list[bytes] = []
        connection.transport.write = writes.append  # type: ignore[method-assign]  # to count
        connection.send("<t:ping>", "<r:all><t:message_request><m:1>", "<t:ping>")
        self.assertEqual(writes, [])
        self.turn()
        self.assertEqual(len(writes), 1)

    def test_not_read_from_while_busy(self) -> None:
        """A client with too many unanswered requests is not read from until the log catches up."""
        log = DelayedLog()
        self.factory = make_factory(self.clock, log)
        connection = Connection(self.factory)
        connection.send("<s:a><t:connect>")
        self.turn()
        log.commit()
        total = MAX_IN_PROGRESS * 3
        connection.send(*["<r:all><t:message_request><m:x>"] * total)
        rounds = 0
        answers = 0
        while answers < total:
            self.assertEqual(
                connection.transport.producerState,
                "paused" if total - answers >= MAX_IN_PROGRESS else "producing",
            )
            rounds += 1
            self.turn()
            batch = log.appended[0]
            self.assertLessEqual(len(batch), MAX_IN_PROGRESS)
            log.commit()
            self.turn()
            answers += sum(m.response == "message_response" for m in connection.messages())
        self.assertEqual((rounds, connection.transport.producerState), (3, "producing"))

    def test_not_read_from_while_not_reading(self) -> None:
        """A client that does not read its answers is not read from."""
        connection = self.connect("a")
        producer = producer_of(connection)
        producer.pauseProducing()
        self.assertEqual(connection.transport.producerState, "paused")
        connection.send("<t:ping>")
        self.turn()
        self.assertEqual(connection.read(), b"")
        producer.resumeProducing()
        self.assertEqual(connection.transport.producerState, "producing")
        self.assertEqual(self.answer(connection).response, "ping_response")

    def test_a_heap_of_answers(self) -> None:
        """However many answers one piece of bytes asks for, only so many are made at once."""
        for number in range(100):
            self.connect(f"somebody with a long name {number:03}")
        connection = self.connect("a")
        writes: list[bytes] = []
        connection.transport.write = writes.append  # type: ignore[method-assign]  # to see each
        connection.send(*["<t:get_user_list>"] * 1000)
        self.turn()
        self.assertEqual(b"".join(writes).count(b"user_list"), 1000)
        self.assertLess(max(map(len, writes)), 80_000)

    def test_a_heap_of_answers_after_one_that_takes_time(self) -> None:
        """What waits behind a slow request is not answered all at once when that is."""
        log = DelayedLog()
        self.factory = make_factory(self.clock, log)
        for number in range(100):
            Connection(self.factory).send(f"<s:somebody with a long name {number:03}><t:connect>")
        self.turn()
        log.commit()
        connection = Connection(self.factory)
        writes: list[bytes] = []
        connection.transport.write = writes.append  # type: ignore[method-assign]  # to see each
        connection.send("<s:a><t:connect>", *["<t:get_user_list>"] * 200)
        for _ in range(3):
            self.turn()
            connection.send("<r:all><t:message_request><m:x>", *["<t:get_user_list>"] * 40)
            log.settle()
        self.turn()
        log.settle()
        self.turn()
        self.assertEqual(b"".join(writes).count(b"user_list"), 200 + 3 * 40)
        self.assertLess(max(map(len, writes)), 80_000)

    def test_long_requests(self) -> None:
        """A client with few unanswered requests is not read from if those are long."""
        log = DelayedLog()
        self.factory = make_factory(self.clock, log)
        self.factory.limits = replace(NO_LIMITS, text=TEXT_BYTES_CEILING)
        connection = Connection(self.factory)
        connection.send("<s:a><t:connect>")
        self.turn()
        log.commit()
        line = "<r:all><t:message_request><m:{}>".format("x" * TEXT_BYTES_CEILING)
        at_once = -(-MAX_BYTES_IN_PROGRESS // len(line))
        connection.send(*[line] * (at_once + 1))
        self.turn()
        self.assertEqual(connection.transport.producerState, "paused")
        self.assertEqual(len(log.appended[0]), at_once)
        log.commit()
        self.turn()
        self.assertEqual(connection.transport.producerState, "producing")
        self.assertEqual(len(log.appended[0]), 1)

    def test_too_slow(self) -> None:
        """Who does not read past a bound is told, cut off, and gone; the others chat on."""
        slow, fast = self.connect("slow"), self.connect("fast")
        slow.read()
        producer_of(slow).pauseProducing()
        text = "x" * 4000
        for _ in range(MAX_QUEUED_BYTES // 4000 // 10 + 1):
            fast.send(*[f"<r:all><t:message_request><m:{text}>"] * 10)
            self.turn()
        self.assertEqual([m.error for m in slow.messages()], ["too-slow"])
        self.assertTrue(slow.transport.disconnecting)
        self.turn()
        self.assertIn(("slow", "left"), [(m.sender, m.text) for m in fast.messages()])
        self.clock.advance(LINGER_SECONDS)
        self.assertTrue(slow.transport.disconnected)

    # Coming and going.

    def test_lost(self) -> None:
        """A lost connection frees the name and leaves nothing behind."""
        alice, bob = self.connect("alice"), self.connect("bob")
        alice.send("<r:all><t:message_request><m:x>")
        alice.lose()
        self.turn()
        self.assertEqual([m.text for m in bob.messages()], ["x", "left"])
        self.connect("alice")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_disconnect(self) -> None:
        """After goodbye the server closes, and cuts if the client never does."""
        connection = self.connect("a")
        producer = producer_of(connection)
        connection.send("<t:disconnect>", "<t:ping>")
        self.assertTrue(connection.transport.disconnecting)
        producer.pauseProducing()
        producer.resumeProducing()
        self.assertEqual([m.response for m in connection.messages()], ["disconnect_response"])
        self.assertIsNone(connection.transport.producer)
        connection.lose()
        self.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_half_closed(self) -> None:
        """A client that has ended its side gets all its answers, then the server closes."""
        connection = self.connect()
        connection.send("<s:a><r:server:x><t:connect>", "<s:a><r:all><t:message_request><m:hi>")
        connection.protocol.readConnectionLost()
        connection.protocol.readConnectionLost()
        self.assertFalse(connection.transport.disconnecting)
        self.turn()
        self.assertEqual(
            [m.response for m in connection.messages()],
            ["connect_response", "presence", "message_received", "message_response"],
        )
        self.assertTrue(connection.transport.disconnecting)

    def test_half_a_line(self) -> None:
        """A line without its end is not obeyed: it may have been cut off."""
        connection = self.connect("a")
        connection.protocol.dataReceived(b"<r:all><t:message_request><m:I like it>")
        connection.protocol.readConnectionLost()
        self.turn()
        self.assertEqual([m.error for m in connection.messages()], ["bad-line"])
        self.assertTrue(connection.transport.disconnecting)

    def test_resume(self) -> None:
        """A ghost is told and closed when its owner comes back."""
        ghost = self.connect()
        ghost.send("<s:a><t:connect>")
        self.turn()
        key = ghost.messages()[0].key
        connection = self.connect()
        connection.send(f"<s:a><t:connect><k:{key}>")
        self.assertEqual(self.answer(connection).text, "True")
        self.assertEqual([m.error for m in ghost.messages()], ["replaced"])
        self.assertTrue(ghost.transport.disconnecting)

    def test_stop(self) -> None:
        """Everybody is told, nobody hears of the others leaving, and the end is known."""
        connections = [self.connect("alice"), self.connect("bob"), self.connect()]
        for connection in connections:
            connection.read()
        stopped = self.factory.stop()
        self.assertIsNone(self.factory.buildProtocol(None))
        self.turn()
        for connection in connections:
            self.assertEqual([m.error for m in connection.messages()], ["server-stopping"])
            self.assertTrue(connection.transport.disconnecting)
            self.assertNoResult(stopped)
            connection.lose()
        self.assertIs(self.successResultOf(stopped), None)
        self.assertIs(self.factory.stop(), stopped)
        self.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_before_it_begins(self) -> None:
        """Who was held back by a wrapper, and begins when the server stops, is sent away too."""
        alice = self.connect("alice")
        protocols = [self.factory.buildProtocol(None) for _ in range(2)]
        stopped = self.factory.stop()
        for protocol in protocols:
            assert protocol is not None
            transport = StringTransport()
            protocol.makeConnection(transport)
            self.turn()
            self.assertTrue(transport.disconnecting)
            self.assertIn(b"<e:server-stopping>", transport.value())
            self.assertNoResult(stopped)
            protocol.connectionLost()
        alice.lose()
        self.successResultOf(stopped)

    def test_stop_with_nobody_there(self) -> None:
        """An empty server stops at once."""
        stopped = self.factory.stop()
        self.turn()
        self.successResultOf(stopped)

    def test_stop_answers_first(self) -> None:
        """What was asked is answered, and heard by all, before anybody is sent away."""
        log = DelayedLog()
        self.factory = make_factory(self.clock, log)
        alice, bob = Connection(self.factory), Connection(self.factory)
        alice.send("<s:alice><t:connect>")
        bob.send("<s:bob><t:connect>")
        self.turn()
        log.settle()
        self.turn()
        alice.send("<r:all><t:message_request><m:one><q:1>")
        for one in (alice, bob):
            one.read()
        self.factory.stop(Code.RESTARTING)
        self.turn()
        self.assertEqual(alice.transport.producerState, "paused")
        alice.send("<r:all><t:message_request><m:two><q:2>")  # it was on its way: too late
        self.clock.advance(ANSWER_SECONDS / 2)
        self.assertEqual((alice.read(), bob.read()), (b"", b""))
        log.settle()
        self.turn()
        self.assertEqual(
            [(m.response, m.text, m.error) for m in alice.messages()],
            [
                ("message_received", "one", None),
                ("message_response", "True", None),
                ("error", Code.RESTARTING.sentence, "restarting"),
            ],
        )
        self.assertEqual([m.text or m.error for m in bob.messages()][:1], ["one"])
        alice.lose()
        bob.lose()
        self.turn()
        self.assertEqual(list(log.appended), [], "nobody has left")

    def test_stop_has_limits(self) -> None:
        """A log that stands still does not keep the server from stopping, nor does a client."""
        log = DelayedLog()
        self.factory = make_factory(self.clock, log)
        alice = Connection(self.factory)
        alice.send("<s:alice><t:connect>")
        self.turn()
        stopped = self.factory.stop()
        self.clock.advance(ANSWER_SECONDS)
        self.assertEqual([m.error for m in alice.messages()], ["server-stopping"])
        self.assertFalse(alice.transport.disconnected)
        self.clock.advance(LAST_LINGER_SECONDS)
        self.assertTrue(alice.transport.disconnected)
        alice.lose()
        self.successResultOf(stopped)

    def test_cut(self) -> None:
        """Who has no patience gets everything closed at once, and the register all the same."""
        alice = self.connect("alice")
        noted: list[str] = []
        stopped = self.factory.stop(note=lambda people: noted.extend(n.text for n, _ in people))
        self.factory.cut()
        self.assertTrue(alice.transport.disconnected)
        alice.lose()
        self.successResultOf(stopped)
        self.assertEqual(noted, ["alice"])
        self.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_service(self) -> None:
        """The service ends when everybody has gone and the log has let go."""
        log = DelayedLog()
        self.factory = make_factory(self.clock, log)
        service = ChatService(self.factory, log)
        service.startService()
        connection = Connection(self.factory)
        connection.send("<s:a><t:connect>")
        self.turn()
        stopped = service.stopService()
        log.settle()
        self.turn()
        self.assertNoResult(stopped)
        connection.lose()
        self.successResultOf(stopped)
        self.assertEqual(list(log.appended), [])

    # The operator's log.

    def test_joining_and_leaving_are_logged(self) -> None:
        """Who comes and goes, from where, with nothing that a terminal obeys."""
        with capturedLogs() as events:
            self.connect("alice").lose()
        told = [(e["log_format"], e["name"], e["peer"]) for e in events if "name" in e]
        self.assertEqual([name for _, name, _ in told], ["alice", "alice"])
        self.assertEqual(told[0][2], "192.0.2.7 port 40000")

    def test_bad_peers_are_logged_up_to_a_rate(self) -> None:
        """Bad lines are warned of, only so many at a time, and the rest is counted."""
        connection = self.connect("a")
        with capturedLogs() as events:
            connection.send(*["\x1b[31m"] * (MAX_COMPLAINTS + 30))
            self.clock.advance(SPAN_SECONDS)
            connection.send("again")
        warnings = [e for e in events if e["log_level"].name == "warn"]
        self.assertEqual(len(warnings), MAX_COMPLAINTS + 2)
        self.assertEqual(warnings[-2]["count"], 30)

    def test_wrong_passwords_are_logged(self) -> None:
        """With the account, behind all that says where it was tried from, and nothing else: not
        what follows a plus, what nobody could be called, or the password."""

        class Shut:
            def start(self) -> None:
                """There is nothing to do."""

            def admit(
                self, visitor: Visitor, answer: Callable[[Admission | Refusal], None]
            ) -> None:
                """Refuse."""
                answer(Refusal(Code.WRONG_PASSWORD))

        self.factory.gate = Shut()
        longest = "x" * MAX_NAME_CHARACTERS
        with capturedLogs() as events:
            connection = Connection(self.factory)
            for name in ("alice+phone", "x\N{ARABIC LETTER ALEF}\u202e", longest, longest + "x"):
                connection.send(f"<s:{name}><t:connect><m:secret>")
        told = [formatEvent(event) for event in events if "error" in event]
        start = "bad peer 192.0.2.7 port 40000: wrong-password: "
        self.assertEqual(told, [start + name for name in ("alice", longest)])

    def test_downloads_that_cannot_be_offered_are_logged_up_to_a_rate(self) -> None:
        """However many ask, there are no more lines about it than about bad peers."""
        connection = self.connect("a")
        cast(FakeShelf, self.factory.downloads).error = OSError(24, "Too many open files")
        with capturedLogs() as events:
            for _ in range(MAX_COMPLAINTS + 30):
                connection.send("<t:download><m:a.txt>")
            self.clock.advance(SPAN_SECONDS)
            connection.send("<t:download><m:a.txt>")
        warnings = [str(formatEvent(e)) for e in events if e["log_level"].name == "warn"]
        self.assertEqual(len(warnings), MAX_COMPLAINTS + 2)
        self.assertIn("no download can be offered: [Errno 24]", warnings[0])

    def test_visits_are_logged_up_to_a_rate(self) -> None:
        """So are those who come and go; lines about connections are counted for themselves."""
        with capturedLogs() as events:
            for _ in range(MAX_VISITS):
                self.connect("alice").lose()
            self.clock.advance(SPAN_SECONDS)
            self.connect("bob")
        for level in ("info", "debug"):
            lines = [e for e in events if e["log_level"].name == level]
            self.assertEqual(len(lines), MAX_VISITS + 2)
            self.assertEqual(lines[-2]["count"], MAX_VISITS)

    # Everybody at once.

    def test_fifty_people(self) -> None:
        """Fifty people talk at random, come and go; all who were there have heard the same."""
        for seed in range(3):
            with self.subTest(seed=seed):
                self.setUp()
                _fifty_people_talk(self, random.Random(seed))


def _fifty_people_talk(tests: ServerTests, rng: random.Random) -> None:
    regulars = [tests.connect(f"user{number}") for number in range(50)]
    tests.turn()
    for connection in regulars:
        connection.read()
        connection.transcript = b""
    passing: list[Connection] = []
    waiting: dict[Connection, bytes] = dict.fromkeys(regulars, b"")
    sent = 0
    for step in range(600):
        connection = rng.choice(regulars)
        to = "all" if rng.random() < 0.8 else f"USER{rng.randrange(50)}"
        sent += 1
        waiting[connection] += (
            f"<r:{to}><t:message_request><m:{step} {rng.random()}><q:{step}>\n".encode()
        )
        if rng.random() < 0.05:
            passing.append(tests.connect(f"guest{step}"))
        if passing and rng.random() < 0.05:
            passing.pop(rng.randrange(len(passing))).lose()
        for connection in rng.sample(regulars, 10):
            data = waiting[connection]
            cut = rng.randrange(len(data) + 1)
            connection.protocol.dataReceived(data[:cut])
            waiting[connection] = data[cut:]
        if rng.random() < 0.1:
            victim = producer_of(rng.choice(regulars))
            victim.pauseProducing()
            tests.turn()
            victim.resumeProducing()
        elif rng.random() < 0.3:
            tests.turn()
    for connection, data in waiting.items():
        connection.protocol.dataReceived(data)
    tests.turn()
    public: list[list[Message]] = []
    true = private = 0
    for number, connection in enumerate(regulars):
        connection.read()
        heard = [parse_line(line) for line in connection.transcript.splitlines()]
        public.append([m for m in heard if m.recipient == "all"])
        mine = [m for m in heard if m.response == "message_response"]
        tests.assertEqual([m.sequence for m in mine], sorted(m.sequence or 0 for m in mine))
        true += sum(m.text == "True" for m in mine)
        own = [m for m in heard if m.response == "message_received" and m.recipient != "all"]
        tests.assertEqual({m.recipient for m in own} - {f"user{number}"}, set())
        private += len(own)
        places = [m.sequence or 0 for m in heard if m.response in ("message_received", "presence")]
        tests.assertEqual(places, sorted(set(places)))
    tests.assertEqual(true, sent)
    for transcript in public[1:]:
        tests.assertEqual(transcript, public[0])
    said = [m for m in public[0] if m.response == "message_received"]
    tests.assertEqual(len(said) + private, sent)
    tests.assertGreater(len(public[0]), len(said))


# With sockets.


class ChatServiceTests(SynchronousTestCase):
    """The log and the room as one service."""

    def test_a_log_that_cannot_be_had(self) -> None:
        """A log that cannot start ends the program with a sentence that says where to look."""

        class Locked(DelayedLog):
            def start(self) -> None:
                raise LocalError("Another server writes to it")

        log = Locked()
        service = ChatService(make_factory(Clock(), log), log)
        end = self.assertRaises(CannotStart, service.startService)
        self.assertEqual(
            str(end),
            "chatbox cannot keep messages: Another server writes to it. See --log and --state-dir.",
        )


class Talker(Protocol):
    """A client of the plainest kind."""

    def __init__(self) -> None:
        self.data = b""
        self.closed: Deferred[None] = Deferred()
        self._awaited: tuple[bytes, Deferred[None]] | None = None

    def dataReceived(self, data: bytes) -> None:
        """Remember it."""
        self.data += data
        if self._awaited is not None and self._awaited[0] in self.data:
            awaited, self._awaited = self._awaited[1], None
            awaited.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note it."""
        self.closed.callback(None)

    def until(self, data: bytes) -> Deferred[None]:
        """Wait until some bytes have come."""
        awaited: Deferred[None] = Deferred()
        self._awaited = (data, awaited)
        self.dataReceived(b"")
        return awaited.addTimeout(PATIENCE, reactor)


async def _served() -> tuple[ChatFactory, Any]:
    factory = make_factory(reactor)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    return factory, port


async def _talker(port: Any) -> Any:
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    return await connectProtocol(endpoint, Talker())


@pytest_twisted.ensureDeferred
async def test_two_clients_over_tcp() -> None:
    """Two clients talk over TCP, one vanishes, and the server stops."""
    factory, port = await _served()
    alice, bob = await _talker(port), await _talker(port)
    alice.transport.write(b"<s:alice><r:server:x><t:connect>\n")
    await alice.until(b"joined")
    assert alice.data.startswith(b"<s:server:127.0.0.1><r:alice><m:True><p:connect_response><k:")
    bob.transport.write(b"<s:bob><r:server:x><t:connect>\n")
    await alice.until(b"<s:bob><r:all><m:joined><p:presence>")
    bob.transport.write(b"<s:bob><r:all><t:message_request><m:hello>\n")
    await alice.until(b"<s:bob><r:all><m:hello><p:message_received>")
    await bob.until(b"<m:True><p:message_response>")
    alice.transport.write(b"<r:bob><t:message_request><m:psst>\n")
    await bob.until(b"<s:alice><r:bob><m:psst><p:message_received>")
    bob.transport.abortConnection()
    await alice.until(b"<s:bob><r:all><m:left><p:presence>")
    stopped = port.stopListening()
    await factory.stop()
    await stopped
    await alice.closed
    assert b"<e:server-stopping>" in alice.data


@pytest_twisted.ensureDeferred
async def test_netcat() -> None:
    """A client that writes and ends its side, as netcat does, is answered in full."""
    factory, port = await _served()
    client = await _talker(port)
    client.transport.write(b"<s:a><r:server:x><t:connect>\n<s:a><r:all><t:message_request><m:hi>\n")
    client.transport.loseWriteConnection()
    await client.closed
    answers = [parse_line(line) for line in client.data.splitlines()]
    assert [(m.response, m.text) for m in answers] == [
        ("connect_response", "True"),
        ("presence", "joined"),
        ("message_received", "hi"),
        ("message_response", "True"),
    ]
    await port.stopListening()
    await factory.stop()


@pytest_twisted.ensureDeferred
async def test_dead_peers_are_looked_for() -> None:
    """The kernel is asked to find peers that have vanished, soon enough."""
    factory, port = await _served()
    client = await _talker(port)
    client.transport.write(b"<t:ping>\n")
    await client.until(b"ping_response")
    [connection] = factory._connections
    handle = cast(Any, connection.transport).getHandle()
    assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000
    client.transport.loseConnection()
    await client.closed
    await port.stopListening()
    await factory.stop()
