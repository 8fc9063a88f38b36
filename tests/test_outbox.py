"""The fan-out and outboxes: how many writes, and in which order."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.outbox import MAX_OWN_BYTES, MAX_QUEUED_BYTES, Fanout, Outbox
from chatbox.chat.turn import Turn
from tests.helpers.chat import Turns, Wire


class Lost(Wire):
    """A transport whose peer is gone."""

    def send(self, data: bytes) -> int:
        """Find out."""
        raise ConnectionResetError


class Full(Wire):
    """A transport whose kernel has no room."""

    def send(self, data: bytes) -> int:
        """Take nothing."""
        return 0


class OutboxTests(SynchronousTestCase):
    """What each client gets, and when."""

    def setUp(self) -> None:
        """Have two clients who hear everything and one who is not in the room."""
        self.turns = Turns()
        self.fanout = Fanout(Turn(self.turns.later))
        self.overflows: list[str] = []
        self.changes: list[str] = []
        self.faults: list[str] = []
        self.alice, self.bob, self.guest = (self.make(name) for name in ("alice", "bob", "guest"))
        self.alice.listen()
        self.bob.listen()

    def make(self, name: str) -> Outbox:
        """Make an outbox, and a wire of that name."""
        wire = Wire()
        setattr(self, f"{name}_wire", wire)
        return Outbox(
            self.fanout,
            wire,
            on_overflow=lambda: self.overflows.append(name),
            on_change=lambda: self.changes.append(name),
            on_fault=lambda: self.faults.append(name),
        )

    alice_wire: Wire
    bob_wire: Wire
    guest_wire: Wire

    def test_one_write_of_shared_bytes(self) -> None:
        """A turn's lines are one bytes object for all, written once each."""
        self.fanout.share(b"1\n")
        self.fanout.share(b"2\n")
        self.assertEqual(self.alice_wire.writes, [])
        self.turns.end()
        self.assertEqual(self.alice_wire.writes, [b"1\n2\n"])
        self.assertIs(self.alice_wire.writes[0], self.bob_wire.writes[0])
        self.assertEqual(self.guest_wire.writes, [])

    def test_who_merely_listens(self) -> None:
        """Whoever is set aside is sent to again once there is no more reason for it."""
        sends = []
        for upset in (
            lambda: self.alice.put(b"a\n"),
            self.alice.pause,
            self.alice.resume,
            self.alice.stop_listening,
            self.alice.listen,
        ):
            for do in (upset, lambda: None, lambda: None):
                before = self.alice_wire.sends
                self.fanout.share(b"1\n")
                do()
                self.turns.end()
                sends.append(self.alice_wire.sends - before)
        self.assertEqual(
            sends,
            [*(0, 1, 1), *(0, 0, 0), *(0, 1, 1), *(0, 0, 0), *(0, 1, 1)],
        )
        self.assertEqual(self.bob_wire.sends, 15)

    def test_gone_meanwhile(self) -> None:
        """Whoever is lost while others are sent to gets nothing more."""

        wire = Lost()
        lost = Outbox(self.fanout, wire, on_overflow=lambda: None, on_change=lambda: None)
        lost.listen()
        self.alice_wire.on_write = lost.discard
        self.fanout.share(b"1\n")
        self.turns.end()
        self.assertEqual(self.bob_wire.writes, [b"1\n"])
        self.assertEqual(wire.writes, [])

    def test_failure(self) -> None:
        """A bug that one client meets is logged, ends that client, and costs the others nothing."""

        def fail() -> None:
            raise ZeroDivisionError

        full, last = Full(), Wire()
        full.on_write = fail
        self.alice_wire.on_write = self.guest_wire.on_write = fail
        for name, wire in (("full", full), ("last", last)):
            outbox = Outbox(
                self.fanout,
                wire,
                on_overflow=fail,
                on_change=fail,
                on_fault=partial(self.faults.append, name),
            )
            outbox.listen()
        self.guest.put(b"g\n")
        outbox.put(b"x" * (MAX_OWN_BYTES + 1))
        self.bob.put(b"x" * (MAX_OWN_BYTES + 1))
        self.fanout.share(b"1\n")
        self.turns.end()
        # Alice in a send, another in writing the rest, the guest at the end of the turn, and the
        # last when everybody had what it brought.
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 4)
        self.assertEqual([wire.take()[-2:] for wire in (last, self.bob_wire)], [b"1\n"] * 2)
        self.assertEqual(self.changes, ["bob"])
        self.assertEqual(self.faults, ["alice", "full", "guest", "last"])
        for wire in (self.alice_wire, full, self.guest_wire, last):
            wire.on_write = lambda: None
            wire.take()
        self.guest.put(b"g\n")
        self.fanout.share(b"2\n")
        self.turns.end()
        self.assertEqual(self.bob_wire.take(), b"2\n")
        for wire in (self.alice_wire, full, self.guest_wire, last):
            self.assertEqual(wire.take(), b"")

    def test_own_lines_in_their_place(self) -> None:
        """Lines of one client's own are where they were put down, in the same one write."""
        self.alice.put(b"a1\n")
        self.fanout.share(b"1\n")
        self.alice.put(b"a2\n")
        self.alice.put(b"a3\n")
        self.fanout.share(b"2\n")
        self.guest.put(b"g\n")
        self.turns.end()
        self.assertEqual(self.alice_wire.writes, [b"a1\n1\na2\na3\n2\n"])
        self.assertEqual(self.bob_wire.writes, [b"1\n2\n"])
        self.assertEqual(self.guest_wire.writes, [b"g\n"])

    def test_turns_are_apart(self) -> None:
        """Nothing is left over for the next turn."""
        self.fanout.share(b"1\n")
        self.alice.put(b"a\n")
        self.turns.end()
        self.fanout.share(b"2\n")
        self.turns.end()
        self.assertEqual(self.alice_wire.writes, [b"1\na\n", b"2\n"])
        self.assertEqual(self.bob_wire.writes, [b"1\n", b"2\n"])

    def test_listening_in_the_middle(self) -> None:
        """Who begins or ends listening in a turn hears its part of it."""
        self.fanout.share(b"1\n")
        self.guest.put(b"g\n")
        self.fanout.share(b"1b\n")
        self.guest.listen()
        self.fanout.share(b"2\n")
        self.bob.stop_listening()
        self.bob.put(b"b\n")
        self.fanout.share(b"3\n")
        self.turns.end()
        self.assertEqual(self.guest_wire.take(), b"g\n2\n3\n")
        self.assertEqual(self.bob_wire.take(), b"1\n1b\n2\nb\n")
        self.fanout.share(b"4\n")
        self.turns.end()
        self.assertEqual(self.guest_wire.take(), b"4\n")
        self.assertEqual(self.bob_wire.take(), b"")

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(
                    ["share", "put", "listen", "stop_listening", "pause", "resume", "end"]
                ),
                st.integers(0, 2),
            )
        )
    )
    def test_any_order(self, steps: list[tuple[str, int]]) -> None:
        """Whatever happens in whatever order, each gets what it should, in order."""
        self.setUp()
        outboxes = [self.alice, self.bob, self.guest]
        wires = [self.alice_wire, self.bob_wire, self.guest_wire]
        expected = [b"", b"", b""]
        listening = [True, True, False]
        for number, (step, who) in enumerate(steps):
            line = b"%d\n" % number
            if step == "share":
                self.fanout.share(line)
                for index in range(3):
                    expected[index] += line * listening[index]
            elif step == "put":
                outboxes[who].put(line)
                expected[who] += line
            elif step == "end":
                self.turns.end()
            else:
                if step == "listen" and listening[who]:
                    continue
                getattr(outboxes[who], step)()
                if "listen" in step:
                    listening[who] = step == "listen"
        self.turns.end()
        for outbox in outboxes:
            outbox.resume()
        self.assertEqual([wire.take() for wire in wires], expected)

    def test_push_back(self) -> None:
        """While the transport pushes back nothing is written; then everything."""
        self.alice.pause()
        for number in range(3):
            self.fanout.share(b"%d\n" % number)
            self.turns.end()
        self.assertEqual(self.alice_wire.writes, [])
        self.assertEqual(len(self.bob_wire.writes), 3)
        self.alice.resume()
        self.assertEqual(self.alice_wire.writes, [b"0\n", b"1\n", b"2\n"])
        self.assertEqual(self.overflows, [])

    def test_push_back_in_the_middle(self) -> None:
        """What waits leaves as far as the transport takes it, and is counted until it leaves."""
        line = b"x" * (MAX_QUEUED_BYTES // 4)
        self.alice.pause()
        for _ in range(4):
            self.fanout.share(line)
            self.turns.end()

        def enough() -> None:
            if len(self.alice_wire.writes) == 2:
                self.alice.pause()

        self.alice_wire.on_write = enough
        self.alice.resume()
        self.assertEqual(self.alice_wire.writes, [line] * 2)
        for _ in range(2):
            self.fanout.share(line)
            self.turns.end()
        self.assertEqual(self.overflows, [])
        self.fanout.share(b"one more\n")
        self.turns.end()
        self.assertEqual(self.overflows, ["alice"])

    def test_push_back_in_a_write(self) -> None:
        """A transport may push back from inside a write."""
        self.alice_wire.on_write = self.alice.pause
        self.fanout.share(b"1\n")
        self.turns.end()
        self.fanout.share(b"2\n")
        self.turns.end()
        self.assertEqual(self.alice_wire.writes, [b"1\n"])
        self.alice.resume()
        self.fanout.share(b"3\n")
        self.turns.end()
        self.assertEqual(self.alice_wire.writes, [b"1\n", b"2\n"])

    def test_overflow(self) -> None:
        """Past the bound that client alone is given up, and what waited is forgotten."""
        line = b"x" * (MAX_QUEUED_BYTES // 4)
        self.alice.pause()
        for _ in range(4):
            self.fanout.share(line)
            self.turns.end()
        self.assertEqual(self.overflows, [])
        self.fanout.share(line)
        self.turns.end()
        self.assertEqual(self.overflows, ["alice"])
        self.assertEqual(len(self.bob_wire.writes), 5)
        self.alice.put(b"bye\n")
        self.alice.close()
        self.assertEqual(self.alice_wire.take(), b"bye\n")

    def test_close(self) -> None:
        """Closing writes what there is, pushed back or not, and nothing afterwards."""
        self.alice.pause()
        self.fanout.share(b"1\n")
        self.turns.end()
        self.fanout.share(b"2\n")
        self.alice.put(b"bye\n")
        self.alice.close()
        self.assertEqual(self.alice_wire.take(), b"1\n2\nbye\n")
        self.fanout.share(b"3\n")
        self.alice.put(b"ghost\n")
        self.alice.listen()
        self.fanout.share(b"4\n")
        self.alice.close()
        self.turns.end()
        self.assertEqual(self.alice_wire.take(), b"")
        self.assertEqual(self.bob_wire.take(), b"1\n2\n3\n4\n")

    def test_discard(self) -> None:
        """Without a transport nothing is written any more."""
        self.alice.put(b"a\n")
        self.fanout.share(b"1\n")
        self.alice.discard()
        self.alice.resume()
        self.turns.end()
        self.assertEqual(self.alice_wire.writes, [])

    def test_congestion(self) -> None:
        """Push-back, or a heap of answers, means that this client should read first."""
        self.assertFalse(self.alice.congested)
        self.alice.pause()
        self.assertTrue(self.alice.congested)
        self.alice.resume()
        self.assertFalse(self.alice.congested)
        self.assertEqual(self.changes, ["alice", "alice"])
        self.bob.put(b"x" * MAX_OWN_BYTES)
        self.assertFalse(self.bob.congested)
        self.bob.put(b"x")
        self.assertTrue(self.bob.congested)
        self.turns.end()
        self.assertFalse(self.bob.congested)
        self.assertEqual(self.changes, ["alice", "alice", "bob"])

    def test_change_belongs_to_the_next_round(self) -> None:
        """What is put down because congestion ended is in its place among what follows."""

        def read_on() -> None:
            eager.put(b"a\n")
            self.fanout.share(b"2\n")

        wire = Wire()
        eager = Outbox(self.fanout, wire, on_overflow=lambda: None, on_change=read_on)
        eager.listen()
        self.fanout.share(b"1\n")
        eager.put(b"x" * (MAX_OWN_BYTES + 1))
        self.turns.end()
        self.assertEqual(wire.writes[1:], [b"a\n2\n"])
        self.assertEqual(self.bob_wire.writes, [b"1\n", b"2\n"])
