"""Tests of how a chat ends, and of who has no name in time, without connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.closing import ANSWER_SECONDS, Closing
from chatbox.chat.codes import Code
from chatbox.chat.logins import Logins
from chatbox.chat.names import Name, parse_name
from chatbox.chat.room import Room
from chatbox.chat.session import Session
from chatbox.chat.states import State


class FakeSession:
    """Says what it was told, and has answered when the test says so."""

    def __init__(self, state: State = State.NAMELESS) -> None:
        self.state = state
        self.told: list[Code] = []
        self.answered: Callable[[], None] = lambda: None

    def finish(self, on_answered: Callable[[], None]) -> None:
        """Answer what was asked."""
        self.answered = on_answered

    def dismiss(self, code: Code) -> None:
        """Be sent away."""
        self.told.append(code)


def session_of(fake: FakeSession) -> Session:
    """What Closing and Logins ask of a session, it does."""
    return cast(Session, fake)


class ClosingTests(SynchronousTestCase):
    """The end of a chat."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.noted: list[list[tuple[Name, str]]] = []
        self.here = [(parse_name("alice"), "identity")]
        self.sessions = [FakeSession(), FakeSession()]

    def begin(self) -> Closing:
        """Begin to close."""
        return Closing(
            cast(Room, self),  # all that is asked of a room is to close
            map(session_of, self.sessions),
            self.clock,
            Code.RESTARTING,
            self.noted.append,
        )

    def close(self) -> list[tuple[Name, str]]:
        """What the room does: say who is here."""
        return self.here

    def assert_dismissed(self, *sessions: FakeSession) -> None:
        """The room was closed once, and these were told so, once."""
        self.assertEqual(self.noted, [self.here])
        self.assertEqual([each.told for each in sessions], [[Code.RESTARTING]] * len(sessions))

    def test_last_answer(self) -> None:
        """All are sent away together in the turn after it, and waited for."""
        closing, (one, other) = self.begin(), self.sessions
        one.answered()
        self.clock.advance(0)
        self.assertEqual((one.told, other.told, self.noted), ([], [], []))
        other.answered()
        self.assertEqual(self.noted, [])
        self.clock.advance(0)
        self.assert_dismissed(one, other)
        closing.gone(session_of(one))
        self.assertNoResult(closing.done)
        closing.gone(session_of(other))
        self.successResultOf(closing.done)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_gone_before_the_answer(self) -> None:
        """Who is gone owes none; and it is not over before the room was closed."""
        closing, (one, other) = self.begin(), self.sessions
        for each in (one, other):
            closing.gone(session_of(each))
        self.assertNoResult(closing.done)
        self.clock.advance(0)
        self.assert_dismissed()
        self.successResultOf(closing.done)

    def test_no_answer(self) -> None:
        """An answer is waited for so long and no longer."""
        self.begin()
        self.clock.advance(ANSWER_SECONDS / 2)
        self.assertEqual(self.noted, [])
        self.clock.advance(ANSWER_SECONDS / 2)
        self.assert_dismissed(*self.sessions)

    def test_nobody(self) -> None:
        """Where nobody is it is over in the next turn."""
        self.sessions = []
        closing = self.begin()
        self.clock.advance(0)
        self.assert_dismissed()
        self.successResultOf(closing.done)

    def test_too_late(self) -> None:
        """Who comes meanwhile goes at once and is waited for; who comes afterwards does no harm."""
        self.sessions = []
        closing, late = self.begin(), FakeSession()
        closing.came(session_of(late))
        self.assertEqual(late.told, [Code.RESTARTING])
        self.clock.advance(0)
        self.assertNoResult(closing.done)
        closing.gone(session_of(late))
        self.successResultOf(closing.done)
        closing.came(session_of(late))
        closing.gone(session_of(late))

    def test_hurry(self) -> None:
        """In a hurry no answer is waited for, and nobody is told twice."""
        closing = self.begin()
        closing.hurry()
        closing.hurry()
        self.sessions[0].answered()
        self.clock.advance(ANSWER_SECONDS)
        self.assert_dismissed(*self.sessions)


class LoginsTests(SynchronousTestCase):
    """Who has no name in time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.logins = Logins(self.clock, 60)

    def come(self, state: State = State.NAMELESS) -> FakeSession:
        """Somebody comes."""
        session = FakeSession(state)
        self.logins.begin(session_of(session))
        return session

    def test_each_in_time(self) -> None:
        """Each has so long from when they came; who has a name may stay."""
        first = self.come()
        self.clock.advance(20)
        named, second = self.come(State.HERE), self.come()
        self.clock.advance(39)
        self.assertEqual(first.told, [])
        self.clock.advance(1)
        self.assertEqual((first.told, second.told), ([Code.LOGIN_TIMEOUT], []))
        self.clock.advance(20)
        self.assertEqual((second.told, named.told), ([Code.LOGIN_TIMEOUT], []))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_our_own_delay(self) -> None:
        """Who is just being let in has as long again, for it is we who take so long."""
        slow = self.come(State.JOINING)
        self.clock.advance(60)
        slow.state = State.NAMELESS
        self.clock.advance(59)
        self.assertEqual(slow.told, [])
        self.clock.advance(1)
        self.assertEqual(slow.told, [Code.LOGIN_TIMEOUT])

    def test_gone(self) -> None:
        """Nobody is waited for who is gone; the timer goes with the last."""
        gone, other = self.come(), self.come()
        self.logins.end(session_of(gone))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.logins.end(session_of(other))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_limit(self) -> None:
        """Without a limit there is no timer."""
        self.logins = Logins(self.clock, 0)
        self.come()
        self.assertEqual(self.clock.getDelayedCalls(), [])
