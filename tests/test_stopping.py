"""The order in which a server stops, in virtual time."""

from __future__ import annotations

import signal
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.codes import Code
from chatbox.stopping import Server


class Part(Service):
    """Stands for the transfers, the chat and its factory; notes what is asked of it."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.setName(name)
        self.notes = notes
        self.under_way = 0
        self.farewell = Code.SERVER_STOPPING
        self.stopped: Deferred[None] = Deferred()

    def refuse(self, code: str, sentence: str) -> None:
        """Note it."""
        self.notes.append(f"refuse: {code}")

    def cut(self) -> None:
        """Note it, and be done."""
        self.notes.append(f"cut {self.name}")
        if not self.stopped.called:
            self.stopped.callback(None)

    def stopService(self) -> Deferred[None]:
        """Note it."""
        super().stopService()
        self.notes.append(f"stop {self.name}: {self.farewell}")
        return self.stopped


class StoppingTests(SynchronousTestCase):
    """One server."""

    def make(self, *, grace: float = 2.0, sockets_stay: bool = False) -> Server:
        """Put one together, and start it."""
        self.notes: list[str] = []
        self.reactor = MemoryReactorClock()
        self.transfers, self.chat = Part("transfers", self.notes), Part("chat", self.notes)
        parts: Any = (self.transfers, self.chat, self.chat)
        server = Server(self.reactor, *parts, grace=grace, sockets_stay=sockets_stay)
        listener = Part("listener", self.notes)
        listener.cut()
        listener.setServiceParent(server)
        server.startService()
        self.notes.clear()
        return server

    def test_nothing_to_wait_for(self) -> None:
        """Downloads are refused first; then listening ends, the chat, and the transfers."""
        stopped = self.make().stopService()
        self.assertEqual(
            self.notes,
            [
                "refuse: server-stopping",
                "stop listener: server-stopping",
                "stop chat: server-stopping",
                "stop transfers: server-stopping",
            ],
        )
        self.assertNoResult(stopped)
        self.chat.cut()
        self.transfers.cut()
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_grace(self) -> None:
        """Transfers are waited for until they have ended, or until the grace has."""
        for ends in (True, False):
            server = self.make()
            self.transfers.under_way = 1
            server.stopService()
            self.reactor.pump([0.1] * 15)
            self.assertEqual(self.notes, ["refuse: server-stopping"])
            if ends:
                self.transfers.under_way = 0
                self.reactor.advance(0.1)
            else:
                self.reactor.pump([0.1] * 6)
            self.assertEqual(len(self.notes), 4)

    def test_hurry(self) -> None:
        """Whoever hurries it ends the waiting, at any point."""
        server = self.make()
        self.transfers.under_way = 1
        stopped = server.stopService()
        server.hurry()
        self.reactor.advance(0.1)
        self.assertEqual(self.notes[-2:], ["cut transfers", "cut chat"])
        self.successResultOf(stopped)
        server = self.make(grace=0.0)
        stopped = server.stopService()
        server.hurry()
        self.successResultOf(stopped)

    def test_sockets_that_stay(self) -> None:
        """Where somebody keeps the sockets, every end is half a restart."""
        self.make(sockets_stay=True).stopService()
        self.assertEqual(self.notes[0], "refuse: restarting")
        self.assertIn("stop chat: restarting", self.notes)

    def test_signals(self) -> None:
        """The first signal is Twisted's, the next ones are ours; all is as before in the end."""
        heard: list[int] = []

        def handler(number: int, frame: object) -> None:
            heard.append(number)

        before = {each: signal.signal(each, handler) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            server = self.make()
            calls: list[Any] = []

            def call_from_thread(*call: Any) -> None:
                calls.append(call)

            self.reactor.callFromThread = call_from_thread  # type: ignore[attr-defined]  # it has none
            for call, arguments, keywords in self.reactor.whenRunningHooks:
                call(*arguments, **keywords)
            signal.raise_signal(signal.SIGTERM)
            # Whatever the signal has interrupted goes on first.
            self.assertEqual(heard, [])
            call, *arguments = calls.pop()
            call(*arguments)
            self.assertEqual(heard, [signal.SIGTERM])
            stopped = server.stopService()
            self.assertIn("stop chat: restarting", self.notes)
            signal.raise_signal(signal.SIGINT)
            self.assertEqual((heard, calls), ([signal.SIGTERM], [(server.hurry,)]))
            self.assertIs(signal.getsignal(signal.SIGTERM), signal.SIG_DFL)
            server.hurry()
            self.successResultOf(stopped)
        finally:
            for each, old in before.items():
                signal.signal(each, old)

    def test_signals_are_given_back(self) -> None:
        """A server that has stopped leaves the signals as it found them."""
        before = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, heard := lambda *_: None)
        try:
            server = self.make()
            for call, arguments, keywords in self.reactor.whenRunningHooks:
                call(*arguments, **keywords)
            self.assertIsNot(signal.getsignal(signal.SIGTERM), heard)
            server.stopService()
            server.hurry()
            self.assertIs(signal.getsignal(signal.SIGTERM), heard)
        finally:
            signal.signal(signal.SIGTERM, before)
