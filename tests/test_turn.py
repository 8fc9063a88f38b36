"""Turns: what is done at the end of one, how often, and in which order."""

from __future__ import annotations

from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.turn import MAX_GATHERED, Turn
from tests.helpers.chat import Turns


class TurnTests(SynchronousTestCase):
    """What happens at the end of a turn."""

    def setUp(self) -> None:
        """Begin a turn."""
        self.turns = Turns()
        self.turn = Turn(self.turns.later)
        self.done: list[str] = []

    def test_once(self) -> None:
        """Work that is asked for many times is done once, by one call of the reactor."""

        def work() -> None:
            self.done.append("work")

        for _ in range(3):
            self.turn.write(work)
        self.assertEqual(self.turns.asked, 1)
        self.turns.end()
        self.assertEqual(self.done, ["work"])
        self.turn.write(work)
        self.turns.end()
        self.assertEqual(self.done, ["work", "work"])

    def test_gathering_goes_first(self) -> None:
        """Nothing is written before all is gathered, even what is gathered by gathering."""

        def gather() -> None:
            self.done.append("gather")
            self.turn.write(write)
            if self.done.count("gather") < 3:
                self.turn.gather(gather)

        def write() -> None:
            self.done.append("write")

        self.turn.write(write)
        self.turn.gather(gather)
        self.turns.end()
        self.assertEqual(self.done, ["gather"] * 3 + ["write"])
        self.assertEqual(self.turns.asked, 0)

    def test_writing_belongs_to_one_turn(self) -> None:
        """What is asked for while writing is done in the next turn."""

        def write() -> None:
            self.done.append("write")
            if len(self.done) < 3:
                self.turn.write(write)
                self.turn.gather(lambda: self.done.append("gather"))

        self.turn.write(write)
        for expected in (["write"], ["write"], ["write", "gather", "write"]):
            self.turns.end_one()
            self.assertEqual(self.done, expected)

    def test_one_more_turn_for_those_who_talk_at_once(self) -> None:
        """As long as each turn of the reactor brings more, all of it is one turn of ours."""
        for number in range(3):
            self.turn.gather(partial(self.done.append, f"gather {number}"))
            self.turn.write(lambda: self.done.append("write"))
            self.turns.end_one()
            self.assertEqual(self.done, [])
        self.turns.end_one()
        self.assertEqual(self.done, ["gather 0", "gather 1", "gather 2", *["write"] * 3])
        self.assertEqual(self.turns.asked, 0)

    def test_the_first_does_not_wait_for_ever(self) -> None:
        """A turn that has gathered a lot ends, whatever comes next."""
        for _ in range(MAX_GATHERED):
            self.assertEqual(self.done, [])
            self.turn.gather(lambda: self.done.append("gather"))
            self.turns.end_one()
        self.assertEqual(self.done, ["gather"] * MAX_GATHERED)

    def test_failure(self) -> None:
        """Work that fails is logged and does not stop the rest."""

        def fail() -> None:
            raise ZeroDivisionError

        self.turn.gather(fail)
        self.turn.write(lambda: self.done.append("write"))
        self.turns.end()
        self.assertEqual(self.done, ["write"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
