"""Limits: what one client, one address and all together may take, and what they hear of it."""

from __future__ import annotations

import contextlib
import resource
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import UNIXAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.codes import Code
from chatbox.chat.limits import (
    ANSWER_BYTES,
    LONGEST_WAIT,
    NO_LIMITS,
    Bucket,
    ConnectionCount,
    Limits,
)
from chatbox.chat.names import Name
from chatbox.chat.people import Seat
from chatbox.chat.room import Room
from chatbox.chat.server import ChatFactory
from chatbox.chat.turn import Turn
from chatbox.chat.turnstile import LONGEST_ROW_SECONDS
from chatbox.openfiles import OTHER_FILES, OpenFiles, allow_open_files
from tests.helpers.chat import DelayedLog, DelayedNames, FakeShelf, tokens
from tests.helpers.processes import PATIENCE, Running, script
from tests.helpers.server import free_port
from tests.test_server import Connection, producer_of

JOIN = "<s:{}><t:connect>"


class BucketTests(SynchronousTestCase):
    """How fast is fast."""

    def test_burst_then_rate(self) -> None:
        """So many at once, then one whenever there is one."""
        bucket = Bucket(rate=4, burst=3, now=100.0)
        self.assertEqual([bucket.take(100.0) for _ in range(3)], [0, 0, 0.25])
        self.assertEqual(bucket.take(100.25), 0.25)
        self.assertEqual([bucket.take(200.0) for _ in range(3)], [0, 0, 0.25])

    def test_several_at_once(self) -> None:
        """What costs more is waited for, but for no longer than an empty bucket needs to fill."""
        bucket = Bucket(10, 5, 0.0)
        self.assertEqual(bucket.take(0.0, 4), 0.0)
        self.assertAlmostEqual(bucket.take(0.0, 3), 0.3)
        self.assertAlmostEqual(bucket.take(0.3, 100), 0.5)
        slow = Bucket(0.5, 500, 0.0)
        for _ in range(100):
            slow.take(0.0, 5)
        self.assertAlmostEqual(slow.take(2.0, 1000), LONGEST_WAIT)
        self.assertAlmostEqual(Bucket(0.01, 1, 0.0).take(0.0, 1000), 100)

    @given(
        st.floats(0.1, 1000),
        st.integers(1, 1000),
        st.lists(st.floats(0, 10), min_size=1, max_size=200),
    )
    def test_never_more_than_that(self, rate: float, burst: int, gaps: list[float]) -> None:
        """Whoever takes one whenever that is allowed gets the burst and the rate, no more."""
        now = start = 1_000_000.0
        bucket = Bucket(rate, burst, now)
        for taken, gap in enumerate(gaps, 1):
            delay = bucket.take(now)
            self.assertLessEqual(taken, burst + (now - start) * rate + 1e-3)
            now += delay + gap


class ConnectionCountTests(SynchronousTestCase):
    """Who may be connected."""

    def test_in_all_and_by_address(self) -> None:
        """Each limit has its word; who is refused takes no room, and who goes makes some."""
        count = ConnectionCount(Limits(connections=4, connections_per_address=2))
        self.assertEqual([count.enter("a"), count.enter("a")], [None, None])
        self.assertIs(count.enter("a"), Code.TOO_MANY_FROM_ADDRESS)
        self.assertEqual([count.enter("b"), count.enter("")], [None, None])
        self.assertIs(count.enter("c"), Code.TOO_MANY_CONNECTIONS)
        for address in ("a", "b", ""):
            count.leave(address)
        self.assertIsNone(count.enter("a"))
        self.assertEqual(dict(count._by_network), {"a": 2})

    def test_no_limits(self) -> None:
        """0 is no limit; but there are never more than files may be open."""
        count = ConnectionCount(NO_LIMITS)
        self.assertEqual([count.enter("a") for _ in range(50)], [None] * 50)
        count.limit(50)
        self.assertIs(count.enter("a"), Code.TOO_MANY_CONNECTIONS)
        count = ConnectionCount(Limits(connections=2))
        count.limit(50)
        self.assertEqual([count.enter("a") for _ in range(2)], [None, None])
        self.assertIs(count.enter("a"), Code.TOO_MANY_CONNECTIONS)


class ServerLimitTests(SynchronousTestCase):
    """The server keeps to its limits, and clients hear of them."""

    def start(self, log: Any = None, **limits: Any) -> None:
        """Start a server; what is not named has no limit."""
        self.clock = Clock()
        self.log = log or DelayedLog()
        turn = Turn(lambda work: self.clock.callLater(0, work))
        self.names = DelayedNames(tokens())
        room = Room(self.log, self.names, turn, limits.get("users", 0))
        shelf = FakeShelf()
        self.factory = ChatFactory(
            room, shelf, shelf, self.clock, limits=replace(NO_LIMITS, **limits)
        )

    def connect(self, *lines: str) -> Connection:
        """Come, and say something."""
        connection = Connection(self.factory)
        connection.send(*lines)
        self.settle()
        return connection

    def settle(self, seconds: float = 0) -> None:
        """Let some time pass, and everything happen."""
        self.clock.advance(seconds)
        self.log.settle()
        self.clock.advance(0)

    def test_told(self) -> None:
        """Whoever joins hears the limits."""
        self.start(rate=2.5, burst=10)
        answer, _ = self.connect(JOIN.format("alice")).messages()
        told = "line=9216 text=4096 name=32 open=64"
        self.assertEqual(answer.limits, f"{told} rate=2 burst=10 answer=4096")
        self.start()
        answer, _ = self.connect(JOIN.format("alice")).messages()
        self.assertEqual(answer.limits, told)
        self.start(text=10_000, name=8, users=5)
        answer, _ = self.connect(JOIN.format("alice")).messages()
        self.assertEqual(answer.limits, "line=21024 text=10000 name=8 open=64 users=5")

    def test_long_texts(self) -> None:
        """A text may have as many bytes as the operator says; what has a few more is refused."""
        for most in (3, 60_000):
            self.start(text=most)
            alice = self.connect(JOIN.format("alice"))
            alice.read()
            for text in ("<" * most, "x" * (most + 1), "x" * 3000):
                escaped = text.replace("<", r"\<")
                alice.send(f"<r:all><t:message_request><q:7><m:{escaped}>")
                self.settle()
            answers = [
                (one.sequence, one.error)
                for one in alice.messages()
                if one.response == "message_response"
            ]
            last = None if most > 3000 else "text-too-long"
            self.assertEqual(answers, [(7, None), (7, "text-too-long"), (7, last)])

    def test_long_names(self) -> None:
        """A name may have as many characters as the operator says; a device's is not counted."""
        self.start(name=4)
        for name, error in (("anna", None), ("berta", "name-too-long"), ("carl+phone", None)):
            answer = self.connect(JOIN.format(name)).messages()[0]
            self.assertEqual((answer.text, answer.error), (str(error is None), error))

    def test_full_room(self) -> None:
        """So many may be here; who is here already may come back, and who goes makes room."""
        self.start(users=2)
        alice, _ = (self.connect(JOIN.format(name)) for name in ("alice", "bob"))
        token = alice.messages()[0].key
        carol = self.connect(JOIN.format("carol"))
        [answer] = carol.messages()
        self.assertEqual((answer.text, answer.error), ("False", "room-full"))
        back = self.connect(f"<s:alice><t:connect><k:{token}>")
        self.assertEqual(back.messages()[0].text, "True")
        carol.send(JOIN.format("bob"), JOIN.format("carol"))
        self.settle()
        self.assertEqual([one.error for one in carol.messages()], ["name-taken", "room-full"])
        back.lose()
        self.settle()
        carol.send(JOIN.format("alice"))
        self.settle()
        self.assertEqual(carol.messages()[0].text, "True")
        self.assertEqual(self.factory.room.names(), ["bob", "alice"])

    def test_flood(self) -> None:
        """A flooder is not read from; all its requests are answered in order, at the rate."""
        self.start(rate=10, burst=5)
        flooder = self.connect(JOIN.format("eve"), *(f"<t:ping><q:{n}>" for n in range(30)))
        bystander = self.connect(JOIN.format("bob"))
        bystander.read()
        answers: list[int | None] = []
        for tenth in range(27):
            answers += [
                one.sequence for one in flooder.messages() if one.response == "ping_response"
            ]
            # The first of the burst was the connect, and the last sets the time of the next.
            self.assertEqual(answers, list(range(4 + tenth)))
            self.assertEqual(flooder.transport.producerState, "paused")
            self.settle(0.1 + 1e-9)
        self.assertEqual(flooder.transport.producerState, "producing")
        bystander.send("<t:ping>")
        self.settle()
        self.assertEqual(bystander.messages()[-1].response, "ping_response")

    def history(self, burst: int) -> tuple[Connection, int]:
        """Ask for a long page with a full bucket; return how many bytes it has."""
        self.start(rate=10, burst=burst)
        alice = self.connect(JOIN.format("alice"))
        for _ in range(60):
            alice.send(f"<r:alice><t:message_request><m:{'x' * 900}>")
            self.settle(1)
        self.settle(burst / 10)
        alice.read()
        alice.send("<t:history>")
        self.settle()
        return alice, len(alice.read())

    def test_long_answers_count(self) -> None:
        """A page of history costs as if it had been said."""
        alice, size = self.history(burst=100)
        tokens_left = 100 - 1 - size // ANSWER_BYTES
        self.assertLess(tokens_left, 90)
        alice.send(*["<t:ping>"] * 100)
        self.settle()
        self.assertEqual(alice.read().count(b"ping_response"), tokens_left)
        self.assertEqual(alice.transport.producerState, "paused")

    def test_one_answer_costs_a_burst_at_most(self) -> None:
        """Nobody has to wait for longer than that."""
        alice, size = self.history(burst=5)
        self.assertGreater(size, 10 * ANSWER_BYTES)
        self.assertEqual(alice.transport.producerState, "paused")
        self.settle(0.19)
        self.assertEqual(alice.transport.producerState, "paused")
        self.settle(0.02)
        self.assertEqual(alice.transport.producerState, "producing")

    def test_long_answer_for_who_is_gone(self) -> None:
        """Nobody has to wait any more whose page of history comes too late."""
        alice, _ = self.history(burst=5)
        self.settle(60)
        alice.send("<t:history>", *["<t:ping>"] * 4)
        self.clock.advance(0)
        self.assertEqual(alice.transport.producerState, "paused")
        alice.lose()
        self.log.reply()
        self.settle()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_flooder_goes(self) -> None:
        """Nothing is left of a flooder whose connection is lost, or who hung up."""
        self.start(rate=1, burst=1)
        flooder = self.connect(JOIN.format("eve"), "<t:ping>")
        flooder.lose()
        self.settle()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bad_lines_count(self) -> None:
        """Garbage is no way around the limit."""
        self.start(rate=1, burst=3)
        eve = self.connect(*["garbage"] * 10)
        self.assertEqual(len(eve.messages()), 3)

    def test_too_many(self) -> None:
        """Whoever is too much hears why and is closed; those who are here stay."""
        self.start(connections=3, connections_per_address=2)
        alice, bob = (self.connect(JOIN.format(name)) for name in ("alice", "bob"))
        for connection in (alice, bob):
            self.assertEqual(connection.messages()[0].text, "True")
        eve = self.connect(JOIN.format("eve"))
        [refusal] = eve.messages()
        self.assertEqual((refusal.response, refusal.error), ("error", "too-many-from-address"))
        self.assertTrue(eve.transport.disconnecting)
        self.assertFalse(alice.transport.disconnecting)
        eve.lose()
        bob.lose()
        self.assertEqual(self.connect(JOIN.format("bob")).messages()[0].text, "True")

    def test_network_of_ipv6(self) -> None:
        """Whoever has a network has all of its addresses; it counts as one."""
        self.start(connections_per_address=2)
        peers = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"]
        told = [Connection(self.factory, peer=peer).transport.disconnecting for peer in peers]
        self.assertEqual(told, [False, False, True, False])

    def test_unix_sockets_have_no_address(self) -> None:
        """They are counted in all, but not against each other."""
        self.start(connections_per_address=1)
        for _ in range(3):
            transport = StringTransport(UNIXAddress("/tmp/x"), UNIXAddress(None))
            protocol = self.factory.buildProtocol(None)
            assert protocol is not None
            protocol.makeConnection(transport)
            self.assertFalse(transport.disconnecting)

    def test_login_timeout(self) -> None:
        """Who has no name in time is sent away, whatever else they say."""
        self.start(login_timeout=30)
        early = self.connect()
        self.settle(10)
        late = self.connect()
        alice = self.connect(JOIN.format("alice"))
        self.settle(19)
        early.send("<t:ping>", "<s:all><t:connect>")
        self.settle(0)
        self.assertEqual(len(early.messages()), 2)
        self.settle(1)
        [farewell] = early.messages()
        self.assertEqual((farewell.response, farewell.error), ("error", "login-timeout"))
        self.assertTrue(early.transport.disconnecting)
        self.assertFalse(late.transport.disconnecting)
        self.settle(10)
        self.assertEqual(late.messages()[-1].error, "login-timeout")
        self.settle(1000)
        self.assertFalse(alice.transport.disconnecting)
        for connection in (early, late, alice):
            connection.lose()
        self.settle()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_login_timeout_while_the_log_is_slow(self) -> None:
        """Who waits for us is not sent away, but gets no second chance for nothing."""
        self.start(login_timeout=30)
        alice = Connection(self.factory)
        alice.send(JOIN.format("alice"))
        self.clock.advance(31)
        self.assertFalse(alice.transport.disconnecting)
        self.log.fail()
        self.clock.advance(0)
        self.assertEqual(alice.messages()[-1].error, "log-unavailable")
        self.clock.advance(30)
        self.assertEqual(alice.messages()[-1].error, "login-timeout")

    def test_joins(self) -> None:
        """Of one network so many come in at once, and then one after the other, in their order."""
        self.start(join_rate=2, join_burst=3)
        crowd = [self.connect(JOIN.format(f"guest{number}")) for number in range(6)]
        self.settle()
        for seconds, there in ((0, 3), (0.5, 4), (0.5, 5), (0.5, 6)):
            self.settle(seconds)
            names = [f"guest{number}" for number in range(there)]
            self.assertEqual(self.factory.room.names(), names)
        self.assertEqual([one.read().count(b"<m:True>") for one in crowd], [1] * 6)
        for one in crowd:
            one.lose()
        self.settle()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_joins_of_others(self) -> None:
        """Other networks do not wait with them; of IPv6, a whole /64 is one."""
        self.start(join_rate=0.1, join_burst=1)
        peers = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
        for number, peer in enumerate(peers):
            Connection(self.factory, peer=peer).send(JOIN.format(f"guest{number}"))
            self.settle()
        self.assertEqual(self.factory.room.names(), ["guest0", "guest1", "guest2", "guest4"])
        for name in (b"local", b"locals"):
            transport = StringTransport(UNIXAddress("/tmp/x"), UNIXAddress(None))
            protocol = self.factory.buildProtocol(None)
            assert protocol is not None
            protocol.makeConnection(transport)
            protocol.dataReceived(b"<s:%b><t:connect>\n" % name)
            self.settle()
            self.assertIn(name.decode(), self.factory.room.names())

    def test_who_waits_is_not_read_from(self) -> None:
        """What somebody asks who waits to come in waits too, and is bounded; then all is done."""
        self.start(join_rate=1, join_burst=1)
        self.connect(JOIN.format("alice"))
        bob = self.connect(JOIN.format("bob"), *["<t:ping>"] * 200)
        self.assertEqual(bob.read(), b"")
        self.assertEqual(bob.transport.producerState, "paused")
        self.settle(1)
        self.assertEqual(bob.read().count(b"ping_response"), 200)

    def test_too_many_joins(self) -> None:
        """Who would wait for too long hears for how long, and may ask again; it is no bad login."""
        self.start(join_rate=1, join_burst=1, login_timeout=LONGEST_ROW_SECONDS + 5)
        row = int(LONGEST_ROW_SECONDS)
        crowd = [self.connect(JOIN.format(f"guest{number}")) for number in range(row + 2)]
        *_, late = crowd
        [answer] = late.messages()
        self.assertEqual((answer.text, answer.error), ("False", "too-many-joins"))
        self.assertEqual(answer.count, row + 1)
        for _ in range(row):
            self.settle(1)
        self.assertEqual(len(self.factory.room.names()), row + 1)
        late.send(JOIN.format("late"))
        self.settle(1)
        self.assertEqual(late.messages()[0].text, "True")

    def test_joins_that_fail_cost_nothing(self) -> None:
        """Whose name is taken, who is gone before their turn: others need not wait for that."""
        self.start(join_rate=1, join_burst=2)
        alice = self.connect(JOIN.format("alice"))
        for _ in range(10):
            [answer] = self.connect(JOIN.format("ALICE")).messages()
            self.assertEqual(answer.error, "name-taken")
        self.connect(JOIN.format("bob"))
        gone = [self.connect(JOIN.format(f"gone{number}")) for number in range(10)]
        self.connect(JOIN.format("carol"))
        for one in gone:
            one.lose()
        self.settle(1)
        self.assertEqual(self.factory.room.names(), ["alice", "bob", "carol"])
        self.assertNotIn(b"gone", alice.read())

    def test_who_goes_before_the_log_fails(self) -> None:
        """Nobody hears of those whose coming was not stored, whether they still wait or not."""
        self.start(join_rate=0.01, join_burst=2)
        gone, alice = Connection(self.factory), Connection(self.factory)
        gone.send(JOIN.format("gone"))
        alice.send(JOIN.format("alice"))
        gone.lose()
        self.clock.advance(0)
        while self.log.appended:
            self.log.fail()
        self.clock.advance(0)
        self.assertEqual(alice.messages()[0].error, "log-unavailable")
        for name in ("bob", "carol"):
            self.assertEqual(self.connect(JOIN.format(name)).messages()[0].text, "True")
        [answer] = self.connect(JOIN.format("dave")).messages()
        self.assertEqual(answer.error, "too-many-joins")

    def test_who_goes_before_the_names_answer(self) -> None:
        """Nobody hears of them, so nobody waits for that; it is the same with who comes back."""
        self.start(join_rate=1, join_burst=2)
        alice = self.connect(JOIN.format("alice"))
        token = alice.messages()[0].key
        self.names.delayed = True
        back = f"<s:alice><t:connect><k:{token}>"
        for line in (JOIN.format("bob"), JOIN.format("alice"), back):
            self.connect(line).lose()
            self.names.give()
        self.names.delayed = False
        self.connect(JOIN.format("carol"))
        self.connect(JOIN.format("dave"))
        self.assertEqual(self.factory.room.names(), ["alice", "carol"])
        self.assertNotIn(b"bob", alice.read())

    def test_joins_and_a_bug(self) -> None:
        """If one of a row cannot come in, the others do, and those who come after them."""
        self.start(join_rate=1, join_burst=1)
        join = self.factory.room.join

        def fail(name: Name, token: str | None, seat: Seat) -> None:
            if name.text == "victim":
                raise ZeroDivisionError
            join(name, token, seat)

        self.patch(self.factory.room, "join", fail)
        for name in ("alice", "victim", "bob"):
            self.connect(JOIN.format(name))
        for name in ("carol", "dave"):
            self.settle(1)
            self.settle(1)
            self.connect(JOIN.format(name))
        self.settle(1)
        self.assertEqual(self.factory.room.names(), ["alice", "bob", "carol", "dave"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_never_reads(self) -> None:
        """Whoever asks and never reads costs one transport buffer and one answer."""
        self.start()
        for number in range(200):
            self.connect(JOIN.format(f"{number}-{'x' * 20}")).read()
        eve = self.connect(JOIN.format("eve"))
        eve.read()
        many = ["<t:get_user_list>"] * 1000
        eve.protocol.dataReceived("".join(f"{line}\n" for line in many).encode())
        waiting = eve.protocol._outbox._own_bytes
        self.assertEqual(eve.transport.producerState, "paused")
        self.settle()
        producer_of(eve).pauseProducing()
        self.assertEqual(eve.transport.producerState, "paused")
        self.assertLess(waiting, (64 << 10) + 10_000)


class OpenFilesTests(SynchronousTestCase):
    """As many files as may be open."""

    def setUp(self) -> None:
        """Leave the limit as it was."""
        self.limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, self.limits)

    def test_raised(self) -> None:
        """The soft limit goes up as far as needed, and never down."""
        hard = self.limits[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        self.assertEqual(allow_open_files(100), 200)
        self.assertEqual(allow_open_files(300), 300)
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (300, hard))
        told: list[int] = []
        OpenFiles(300, 10, told.append).privilegedStartService()
        self.assertEqual(told, [300])
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 310 + OTHER_FILES)

    def test_what_cannot_be(self) -> None:
        """If the limit cannot be raised so far, fewer clients fit, and the operator hears why."""
        hard = self.limits[1]
        told: list[int] = []
        with capturedLogs() as logs:
            OpenFiles(hard + 1, 10, told.append).privilegedStartService()
        self.assertEqual(told, [hard - 10 - OTHER_FILES])
        self.assertIn("LimitNOFILE", logs[0]["log_format"])


def test_out_of_descriptors(tmp_path: Path) -> None:
    """A server that runs out of descriptors goes on, and lets people in again when some are free.

    Files that others of its parts have open can make its own estimate wrong; here nearly all are.
    """
    (tmp_path / "files").mkdir()
    port = free_port(socket.SOCK_STREAM)
    limit = OTHER_FILES + 4
    command = [
        *("sh", "-c", f'ulimit -n {limit}; exec "$0" "$@"', *script("twistd")),
        *("-n", "--pidfile=", "chatbox", "--log", "memory:", "--udp-ports", "0"),
        *("--downloads", "1", "--max-connections-per-address", "0"),
        *("--listen", f"tcp:{port}:interface=127.0.0.1"),
    ]
    with Running(command, cwd=tmp_path) as server, contextlib.ExitStack() as stack:
        server.read_until("only 1 of 10000 clients fit")
        server.read_until(f"starting on {port}")

        def join(name: str) -> tuple[Any, bytes]:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.settimeout(PATIENCE)
            stream = stack.enter_context(connection.makefile("rwb"))
            with contextlib.suppress(ConnectionError):
                stream.write(b"<s:%b><t:connect>\n" % name.encode())
                stream.flush()
                return stream, stream.readline()
            return stream, b""

        first, answer = join("first")
        assert b"<m:True><p:connect_response>" in answer
        first.readline()
        _, answer = join("second")
        assert b"<e:too-many-connections>" in answer or not answer
        # Nobody reads the refusals, and more connections come than there are descriptors.
        crowd = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            for _ in range(2 * limit)
        ]
        first.write(b"<r:all><t:message_request><m:still here><q:1>\n")
        first.flush()
        assert b"<m:still here>" in first.readline()
        assert b"<m:True>" in first.readline()
        for connection in crowd:
            connection.close()
        first.write(b"<t:disconnect>\n")
        first.flush()
        assert b"disconnect_response" in first.readline()
        assert first.readline() == b""
        # Those who were turned away may still be on their way out.
        for attempt in range(100):
            _, answer = join(f"again{attempt}")
            if b"<m:True><p:connect_response>" in answer:
                break
        else:
            raise AssertionError("nobody is let in any more")
