"""A client that is cut off comes back: its name, what it missed, and what it had not been told."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from chatbox.chat.wire import Message, format_line
from chatbox.client.chat.events import (
    Back,
    Cut,
    Event,
    Failed,
    Gap,
    JoinRefused,
    Lost,
    Presence,
    Said,
    Succeeded,
)
from chatbox.client.chat.session import State
from chatbox.client.connect.connection import ANSWER_TIMEOUT, ChatConnection
from chatbox.client.connect.reconnector import Reconnector
from tests.helpers.client import Server
from tests.helpers.crash import Server as RealServer
from tests.helpers.processes import PATIENCE, Running
from tests.helpers.server import free_port
from tests.test_console import CLIENT


class SurvivingTestCase(SynchronousTestCase):
    """Alice's session, which has joined; the test is the server."""

    def setUp(self) -> None:
        self.server = Server()
        self.session = self.server.connection.session
        self.session.survive()
        self.events: list[Event] = []
        self.server.connection.listen(self.events.append)

    def happened(self) -> list[Event]:
        """What has happened since this was last called."""
        events, self.events[:] = list(self.events), []
        return events

    def say(self, id: int, text: str = "") -> None:
        """Let bob say something."""
        self.server.send(
            Message("bob", "all", text=text or str(id), response="message_received", sequence=id)
        )

    def texts(self) -> list[str]:
        """What was heard; other events by their class."""
        return [e.text if isinstance(e, Said) else type(e).__name__ for e in self.happened()]

    def cut(self) -> None:
        """Cut the connection."""
        self.server.close()

    def reconnect(self) -> list[Message]:
        """Give the session another connection, and return what it asks."""
        self.server.transport = StringTransport()
        self.server.connection.makeConnection(self.server.transport)
        self.session.rejoin("192.0.2.1")
        self.server.connection.flush()
        return self.server.requests()

    def let_in(self, request: Message) -> Message:
        """Let alice in; return how she asks for what she has missed."""
        self.server.answer(request.sequence, "connect_response", text="True", key="token")
        [question] = self.server.requests()
        return question

    def answer_history(self, question: Message, *ids: int, more: int | None = None) -> None:
        """Tell what was missed, in one piece."""
        lines = [
            format_line(
                Message("bob", "all", text=str(id), response="message_received", sequence=id)
            )
            for id in ids
        ]
        answer = Message(
            text=str(len(ids)), response="history_response", sequence=question.sequence, after=more
        )
        self.server.connection.dataReceived(b"".join(lines) + format_line(answer))


class SurvivingTests(SurvivingTestCase):
    """What the session does when its connection is cut."""

    def test_the_whole_story(self) -> None:
        """The name, what was missed, what was not answered, in this order and once."""
        self.say(5)
        answered = self.session.say("one")
        unanswered = self.session.say("two", "bob")
        self.session.ask_users()
        self.server.connection.flush()
        self.server.requests()
        self.server.answer(answered, "message_response", text="True")
        self.happened()
        self.cut()
        cut, failed = self.happened()
        self.assertEqual(cut, Cut())
        assert isinstance(failed, Failed)
        self.session.say("three")
        [connect] = self.reconnect()
        self.assertEqual(
            (connect.sender, connect.key, connect.request), ("alice", "token", "connect")
        )
        question = self.let_in(connect)
        self.assertEqual((question.request, question.after), ("history", 5))
        self.say(9)  # heard at once, and in the page too
        self.say(12)
        self.assertEqual(self.texts(), [])
        self.answer_history(question, 6, 8, more=8)
        [question] = self.server.requests()
        self.assertEqual(question.after, 8)
        self.answer_history(question, 9, 11)
        self.assertEqual(self.texts(), ["6", "8", "9", "11", "12", "Back"])
        two, three = self.server.requests()
        self.assertEqual((two.text, two.recipient, two.sequence), ("two", "bob", unanswered))
        self.assertEqual(three.text, "three")
        self.server.answer(two.sequence, "message_response", text="True")
        [done] = self.happened()
        assert isinstance(done, Succeeded)
        self.say(13)
        self.assertEqual(self.texts(), ["13"])

    def test_restart(self) -> None:
        """A server that says that it restarts makes for one quiet event at each end."""
        self.server.send(Message(text="Back soon.", response="error", error="restarting"))
        self.assertEqual(self.happened(), [])
        self.cut()
        self.assertEqual(self.happened(), [Cut(restarting=True)])
        self.answer_history(self.let_in(self.reconnect()[0]))
        self.assertEqual(self.happened(), [Back(restarted=True)])
        self.cut()
        self.assertEqual(self.happened(), [Cut()])

    def test_cut_again_while_catching_up(self) -> None:
        """What was heard too early is not shown before what was missed."""
        self.say(5)
        self.cut()
        question = self.let_in(self.reconnect()[0])
        self.say(12)
        self.cut()
        self.assertEqual(self.texts(), ["5", "Cut"])
        question = self.let_in(self.reconnect()[0])
        self.assertEqual(question.after, 5)
        self.answer_history(question, 7, 12)
        self.assertEqual(self.texts(), ["7", "12", "Back"])

    def test_refused_while_catching_up(self) -> None:
        """What a connection brings that is given up comes again by the next one."""
        self.say(5)
        self.cut()
        question = self.let_in(self.reconnect()[0])
        number = question.sequence
        refusal = Message(response="error", error="log-unavailable", sequence=number)
        news = Message("bob", "all", text="12", response="message_received", sequence=12)
        self.server.connection.dataReceived(format_line(refusal) + format_line(news))
        self.say(13)
        self.cut()
        question = self.let_in(self.reconnect()[0])
        self.assertEqual(question.after, 5)
        self.answer_history(question, 7, 12, 13)
        self.assertEqual(self.texts(), ["5", "Cut", "7", "12", "13", "Back"])

    def test_no_history_to_catch_up_with(self) -> None:
        """A server that does not know what history is will not know it the next time, either."""
        self.say(5)
        self.session.say("one")
        self.cut()
        question = self.let_in(self.reconnect()[0])
        self.server.answer(question.sequence, "error", text="unknown request")
        self.assertEqual([request.text for request in self.server.requests()], ["one"])
        self.say(13)
        self.assertEqual(self.texts(), ["5", "Cut", "Back", "13"])

    def test_heard_before_the_name_is_ours(self) -> None:
        """What comes too early, as letters do from older servers, is no reason to miss others."""
        self.say(5)
        self.cut()
        [connect] = self.reconnect()
        self.say(12)
        question = self.let_in(connect)
        self.assertEqual(question.after, 5)
        self.answer_history(question, 7, 12)
        self.assertEqual(self.texts(), ["5", "Cut", "7", "12", "Back"])

    def test_gap(self) -> None:
        """A mark stands where the server no longer has what was missed."""
        self.say(5)
        self.cut()
        question = self.let_in(self.reconnect()[0])
        self.server.send(Message("server", "all", text="gone", response="gap", sequence=70))
        self.answer_history(question, 71)
        self.assertEqual(self.texts(), ["5", "Cut", "Gap", "71", "Back"])

    def test_gap_among_what_was_missed(self) -> None:
        """The mark is shown where the server put it."""
        self.say(5)
        self.cut()
        question = self.let_in(self.reconnect()[0])
        self.say(12)
        for id in (6, 9):
            self.say(id)
            self.server.send(Message("server", "all", text="", response="gap", sequence=id + 1))
        self.say(11)
        self.server.answer(question.sequence, "history_response", text="3")
        self.assertEqual(self.texts(), ["5", "Cut", "6", "Gap", "9", "Gap", "11", "12", "Back"])

    def test_a_server_that_forgets_everything(self) -> None:
        """One that counts anew is heard from its beginning, with a mark."""
        self.say(500)
        self.cut()
        question = self.let_in(self.reconnect()[0])
        self.server.send(Message("alice", "all", text="joined", response="presence", sequence=1))
        self.answer_history(question)
        self.say(2)
        happened = self.happened()
        self.assertEqual(happened[2:-2], [Gap(), Presence("alice", True)])
        self.assertEqual(happened[-2:], [Back(), Said("bob", "all", "2", 2)])

    def test_refused_for_now(self) -> None:
        """A server that cannot let us in yet is tried again."""
        self.cut()
        for code in ("log-unavailable", "room-full"):
            [connect] = self.reconnect()
            self.server.answer(connect.sequence, "connect_response", text="False", error=code)
            self.assertEqual(self.session.state, State.AWAY)
            self.assertTrue(self.server.transport.disconnecting)
        self.assertEqual(self.happened(), [Cut()])

    def test_the_name_is_somebody_elses(self) -> None:
        """Then there is nothing to come back to."""
        self.session.say("one")
        self.cut()
        [connect] = self.reconnect()
        self.server.answer(connect.sequence, "connect_response", text="False", error="name-taken")
        _, refused, lost = self.happened()
        assert isinstance(refused, JoinRefused) and isinstance(lost, Lost)
        self.assertEqual([request.text for request in lost.unanswered], ["one"])
        self.assertEqual(self.session.state, State.ENDED)

    def test_replaced(self) -> None:
        """Two connections of one person do not fight for the name."""
        self.server.send(Message(text="Replaced.", response="error", error="replaced"))
        self.cut()
        self.assertIsInstance(self.happened()[-1], Lost)

    def test_goodbye_is_final(self) -> None:
        """Who has left does not come back."""
        self.session.leave()
        self.cut()
        [lost] = self.happened()
        assert isinstance(lost, Lost)
        self.assertTrue(lost.expected)


@implementer(IStreamClientEndpoint)
class FakeEndpoint:
    """Connects when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Deferred[IProtocol]] = []

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Remember the attempt."""
        self.asked.append(Deferred())
        return self.asked[-1]


class ReconnectorTests(SurvivingTestCase):
    """The driver that brings connections."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.endpoint = FakeEndpoint()
        self.reconnector = Reconnector(self.clock, self.server.connection, self.endpoint, 100.0)

    def connect(self) -> None:
        """Let the newest attempt succeed."""
        connection: ChatConnection = self.server.connection
        self.server.transport = StringTransport()
        connection.makeConnection(self.server.transport)
        self.endpoint.asked[-1].callback(connection)

    def test_back(self) -> None:
        """After a short while it connects, and the session goes on."""
        self.cut()
        self.assertEqual(self.endpoint.asked, [])
        self.clock.advance(1.6)
        self.connect()
        [connect] = self.server.requests()
        self.answer_history(self.let_in(connect))
        self.assertEqual(self.happened(), [Cut(), Back()])
        self.clock.advance(ANSWER_TIMEOUT)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_delays_grow(self) -> None:
        """A server that stays away is asked less and less often, and given up in the end."""
        self.cut()
        times = []
        while self.session.state is State.AWAY:
            before = len(self.endpoint.asked)
            self.clock.advance(0.1)
            if len(self.endpoint.asked) > before:
                times.append(self.clock.seconds())
                self.endpoint.asked[-1].errback(OSError("no"))
        self.assertLess(times[0], 1.7)
        self.assertGreater(len(times), 4)
        self.assertGreater(times[-1] - times[-2], times[1] - times[0])
        self.assertEqual(self.happened(), [Cut(), Lost(False, ())])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silent_server(self) -> None:
        """A server that accepts the connection and says nothing is given up, and tried again."""
        self.cut()
        self.clock.advance(1.6)
        self.connect()
        self.clock.advance(ANSWER_TIMEOUT)
        self.assertTrue(self.server.transport.disconnecting)
        self.cut()
        self.clock.advance(3.0)
        self.assertEqual(len(self.endpoint.asked), 2)

    def test_stop(self) -> None:
        """Once stopped it does nothing."""
        self.cut()
        self.reconnector.stop()
        self.clock.advance(50)
        self.assertEqual(self.endpoint.asked, [])


def test_a_real_server_comes_back(tmp_path: Path) -> None:
    """A console outlives the server's crash, and shows what was said while it was away once."""
    server = RealServer(tmp_path, free_port(socket.SOCK_STREAM), "--state-dir", str(tmp_path / "s"))
    host = f"127.0.0.1:{server.port}"
    server.start()

    def join(name: str) -> Running:
        return Running([*CLIENT, "join", host, "--name", name], cwd=tmp_path)

    try:
        with socket_when_open(server.port), join("alice") as alice:
            alice.read_until("You are in")
            alice.write("before\n")
            alice.read_until("alice: before")
            server.kill()
            alice.read_until("The connection is cut")
            alice.write("meanwhile\n")
            server.start()
            alice.read_until("Back again")
            alice.read_until("alice: meanwhile")
            with join("bob") as bob:
                bob.read_until("You are in")
                bob.write("hi\n/history\n")
                bob.read_until("alice: before")
                bob.read_until("alice: meanwhile")
                alice.read_until("bob: hi")
            alice.write("/quit\n")
            assert alice.wait() == 0
            assert sum("before" in line for line in alice.said) == 1
            assert sum("alice: meanwhile" in line for line in alice.said) == 1
    finally:
        server.kill()


def socket_when_open(port: int) -> socket.socket:
    """Wait until somebody listens there."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.05)
