"""What drives an engine: sends, delivers, and arms one timer, in this order and in turns."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.packet import Train
from chatbox.rdt.pump import LATEST, SENT_BYTES_PER_TURN, TRAINS_PER_TURN, Pump


class ScriptedEngine:
    """An engine that has what a test gives it, and remembers what it heard."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(1))
        self.deadline: float | None = None
        self.trains: list[Train] = []
        self.heard: list[tuple[str, float]] = []

    def receive(self, train: Train, address: Hashable, now: float, waited: float) -> None:
        """Remember for how long it waited."""
        self.heard.append(("train", waited))

    def on_timer(self, now: float) -> None:
        """Remember when; there is no other deadline."""
        self.heard.append(("timer", now))
        self.deadline = None

    def next_timer(self) -> float | None:
        """What the test says."""
        return self.deadline

    def trains_to_send(self, now: float) -> Iterator[tuple[Train, Hashable]]:
        """What the test says, each once."""
        while self.trains:
            yield self.trains.pop(0), "peer"


class FakePort:
    """A port of a kernel that takes as many trains as the test says."""

    room = 1000

    def __init__(self, *_: Any, gso: bool) -> None:
        self.sent: list[Train] = []

    def startListening(self) -> None:
        """Nothing."""

    def stopListening(self) -> Deferred[None]:
        """At once."""
        return succeed(None)

    def getHost(self) -> Any:
        """Some port."""
        return SimpleNamespace(port=7)

    def write_train(self, train: Train, address: Any) -> bool:
        """Take it; say whether there is room for another."""
        self.sent.append(train)
        self.room -= 1
        return self.room > 0


def train(size: int = 10) -> Train:
    """One packet of so many bytes."""
    return Train(memoryview(bytes(size)), size)


class PumpTests(SynchronousTestCase):
    """One engine over one port."""

    def setUp(self) -> None:
        """A pump that listens."""
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.engine = ScriptedEngine()
        self.events: list[int] = []
        self.pump = Pump(self.clock, self.engine, self.deliver)
        with patch("chatbox.rdt.pump.TrainPort", FakePort):
            self.assertEqual(self.pump.listen(7, "", gso=True), 7)
        self.port: Any = self.pump._port

    def deliver(self) -> None:
        """Remember how much had left by then."""
        self.events.append(len(self.port.sent))

    def timers(self) -> list[float]:
        """When the reactor is to call."""
        return [call.getTime() for call in self.clock.getDelayedCalls()]

    def test_order(self) -> None:
        """What may leave leaves before events are delivered, and the timer comes last."""
        self.engine.trains = [train(), train()]
        self.engine.deadline = 1002.0
        self.pump.pump()
        self.assertEqual(self.events, [2])
        self.assertEqual(self.timers(), [1002.0])

    def test_one_timer(self) -> None:
        """It is the engine's next deadline, whether that moves or goes away."""
        for deadline in (1005.0, 1005.0, 1003.0, 1004.0, None, 1006.0):
            self.engine.deadline = deadline
            self.pump.pump()
            self.assertEqual(self.timers(), [] if deadline is None else [deadline])

    def test_deadline(self) -> None:
        """The engine sees its deadline come, and the pump turns."""
        self.engine.deadline = 1001.0
        self.pump.pump()
        self.clock.advance(1.0)
        self.assertEqual(self.engine.heard, [("timer", 1001.0)])
        self.assertEqual((self.events, self.timers()), ([0, 0], []))

    def test_early_timer(self) -> None:
        """A timer that fires before its time is on time, and time does not go back after it."""
        self.engine.deadline = 1001.0
        self.pump.pump()
        [call] = self.clock.getDelayedCalls()
        self.clock.rightNow = 1000.999
        call.reset(0)
        self.clock.advance(0)
        self.assertEqual(self.engine.heard, [("timer", 1001.0)])
        self.assertEqual(self.pump.now(), 1001.0)

    def test_mistake(self) -> None:
        """Whoever breaks while events are delivered does not keep the others from their time."""
        self.engine.deadline = 1001.0
        self.port.sent = None  # which breaks `deliver`
        self.assertRaises(TypeError, self.pump.pump)
        self.assertEqual(self.timers(), [1001.0])

    def test_mistake_at_a_deadline(self) -> None:
        """Whatever breaks when its time has come, the pump turns, and others have theirs."""
        self.engine.deadline = 1001.0
        self.pump.pump()
        with patch.object(self.engine, "on_timer", side_effect=ZeroDivisionError):
            self.engine.trains = [train()]
            self.assertRaises(ZeroDivisionError, self.clock.advance, 1.0)
        self.assertEqual(len(self.port.sent), 1)
        self.assertEqual(self.timers(), [1001.0])

    def test_full_kernel(self) -> None:
        """The engine is asked for no more until there is room, and no timer spins meanwhile."""
        self.port.room = 2
        self.engine.trains = [train() for _ in range(3)]
        self.engine.deadline = 1000.0
        self.pump.pump()
        self.pump.pump()
        self.assertEqual((len(self.port.sent), len(self.engine.trains)), (2, 1))
        self.assertEqual(self.timers(), [])
        self.port.room = 2
        self.pump.writable()
        self.assertEqual(len(self.port.sent), 3)
        self.assertEqual(self.timers(), [1000.0])

    def test_turns_are_short(self) -> None:
        """Other sockets get their turn after some trains, or after some bytes."""
        self.engine.trains = [train() for _ in range(3 * TRAINS_PER_TURN)]
        self.pump.pump()
        self.assertEqual(len(self.port.sent), TRAINS_PER_TURN)
        self.port.sent.clear()
        self.engine.trains = [train(SENT_BYTES_PER_TURN // 2) for _ in range(5)]
        self.pump.pump()
        self.assertEqual(len(self.port.sent), 2)

    def test_how_long_it_waited(self) -> None:
        """The engine hears it, unless a clock was set meanwhile."""
        for waited in (0.25, -1.0, LATEST + 1.0):
            self.pump.train_received(train(), "peer", waited)
        self.assertEqual(self.engine.heard, [("train", 0.25), ("train", 0.0), ("train", 0.0)])

    def test_stopped(self) -> None:
        """A port that is closed leaves no timer, and nothing makes another."""
        self.engine.deadline = 1001.0
        self.pump.pump()
        self.successResultOf(self.pump.stop())
        self.pump.stopProtocol()
        self.pump.pump()
        self.assertEqual((self.events, self.timers()), ([0], []))
        self.successResultOf(self.pump.stop())
