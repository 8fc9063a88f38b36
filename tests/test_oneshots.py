"""Errands that ask one thing, in virtual time."""

from __future__ import annotations

import io
import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.chat.events import UserList
from chatbox.client.connect.connection import ANSWER_TIMEOUT, LEAVE_TIMEOUT
from chatbox.client.errands import oneshots
from chatbox.client.errands.oneshots import Visit, print_history
from chatbox.client.exits import Exit, Stop
from chatbox.client.words import MAYBE_MORE
from tests.helpers.client import Server


class VisitTests(SynchronousTestCase):
    """One errand at a time, in virtual time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.server = Server()
        self.visitor = Visit(self.clock, self.server.connection)

    def ask(self) -> Deferred[UserList]:
        """Ask who is there."""
        number = self.visitor.session.ask_users()
        return Deferred.fromCoroutine(self.visitor.ask(UserList, number))

    def stopped(self, asked: Deferred[UserList]) -> Exit:
        """The status of an errand that failed; no timer is left."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        status: Exit = self.failureResultOf(asked, Stop).value.status
        return status

    def test_answer(self) -> None:
        """The answer ends the wait; what others say does not."""
        asked = self.ask()
        self.server.answer(None, "message_received", sender="bob", recipient="all", text="hi")
        self.assertNoResult(asked)
        self.server.answer(self.server.requests()[0].sequence, "user_list", text="['bob']")
        self.assertEqual(self.successResultOf(asked).names, ("bob",))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_asked_ahead(self) -> None:
        """What was asked together with the name may be answered before anybody waits for it."""
        server = Server()
        number = server.connection.session.ask_users()
        server.answer(number, "user_list", text="['bob']")
        visitor = Visit(self.clock, server.connection, number)
        asked = Deferred.fromCoroutine(visitor.ask(UserList, visitor.first))
        self.assertEqual(self.successResultOf(asked).names, ("bob",))

    def test_refusal(self) -> None:
        """A refusal is told by its status."""
        asked = self.ask()
        number = self.server.requests()[0].sequence
        self.server.answer(number, "error", text="No.", error="busy")
        self.assertEqual(self.stopped(asked), Exit.REFUSED)

    def test_lost(self) -> None:
        """A connection lost before or while waiting is told."""
        asked = self.ask()
        self.server.close()
        self.assertEqual(self.stopped(asked), Exit.LOST)
        again = Deferred.fromCoroutine(self.visitor.ask(UserList, 99))
        self.assertEqual(self.stopped(again), Exit.LOST)

    def test_silence(self) -> None:
        """A server that does not answer is not waited for without end."""
        asked = self.ask()
        self.clock.advance(ANSWER_TIMEOUT)
        self.assertEqual(self.stopped(asked), Exit.LOST)

    def test_a_late_answer_is_not_the_next(self) -> None:
        """What comes after its time is up is not taken for the goodbye, nor for another answer."""
        for leaving in (True, False):
            self.setUp()
            asked = self.ask()
            [late] = self.server.requests()
            self.clock.advance(ANSWER_TIMEOUT)
            self.assertEqual(self.stopped(asked), Exit.LOST)
            self.server.answer(late.sequence, "user_list", text="['bob']")
            if leaving:
                left = Deferred.fromCoroutine(self.visitor.leave())
                self.assertNoResult(left)
                [goodbye] = self.server.requests()
                self.server.answer(goodbye.sequence, "disconnect_response", text="True")
                self.successResultOf(left)
            else:
                again = self.ask()
                self.assertNoResult(again)
                number = self.server.requests()[0].sequence
                self.server.answer(number, "user_list", text="['carol']")
                self.assertEqual(self.successResultOf(again).names, ("carol",))

    def test_history_in_pages(self) -> None:
        """More than one answer holds is asked for in pages; what is gone is no result."""
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        printed = Deferred.fromCoroutine(print_history(self.visitor, 3, 5))
        for after, ids, more in ((5, (8, 9), 9), (9, (10,), 10)):
            (asked,) = self.server.requests()
            self.assertEqual((asked.after, asked.count), (after, 3 if after == 5 else 1))
            if after == 5:
                self.server.answer(7, "gap", sender="server", text="")
            for id in ids:
                self.server.answer(id, "message_received", sender="bob", recipient="all", text="x")
            text = str(len(ids))
            self.server.answer(asked.sequence, "history_response", text=text, after=more)
        self.successResultOf(printed)
        lines = out.getvalue().splitlines()
        self.assertEqual([line.split("\t")[0] for line in lines], ["8", "9", "10"])
        self.assertEqual(err.getvalue().count("missing"), 1)

    def print_last(self, wanted: int, *pages: tuple[tuple[int, ...], int | None]) -> str:
        """Print the last messages, from pages of their numbers and of what is said before them.

        What is printed is left in `printed`, and what is complained of is returned.
        """
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        done = Deferred.fromCoroutine(print_history(self.visitor, wanted, None))
        expected_before = None
        for ids, before in pages:
            self.assertEqual(out.getvalue(), "")
            (asked,) = self.server.requests()
            self.assertEqual((asked.count, asked.before), (wanted, expected_before))
            for id in ids:
                self.server.answer(id, "message_received", sender="bob", recipient="all", text="x")
            text = str(len(ids))
            self.server.answer(asked.sequence, "history_response", text=text, before=before)
            wanted, expected_before = wanted - len(ids), before
        self.successResultOf(done)
        self.assertEqual(self.server.requests(), [])
        self.printed = [int(line.split("\t")[0]) for line in out.getvalue().splitlines()]
        return err.getvalue()

    def test_last_messages_in_pages(self) -> None:
        """The last messages are asked for backwards, and printed oldest first."""
        self.assertEqual(self.print_last(5, ((7, 9), 7), ((4, 5), 4), ((3,), 3)), "")
        self.assertEqual(self.printed, [3, 4, 5, 7, 9])

    def test_fewer_messages_than_wanted(self) -> None:
        """If the server says that these are all, that is no fault; if it says nothing, that is."""
        self.assertEqual(self.print_last(5, ((7, 9), 7), ((4,), 0)), "")
        self.assertEqual(self.printed, [4, 7, 9])
        self.assertEqual(self.print_last(5, ((7, 9), None)), MAYBE_MORE + "\n")
        self.assertEqual(self.print_last(2, ((7, 9), None)), "")

    def test_pages_that_lead_nowhere(self) -> None:
        """A server that shows the same page for ever is not asked for ever."""
        self.print_last(9, ((7, 9), 7), ((), 7))
        self.assertEqual(self.printed, [7, 9])

    def test_more_messages_than_can_be_had(self) -> None:
        """There is a bound, and it is told."""
        self.patch(oneshots, "MAX_LAST", 2)
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        Deferred.fromCoroutine(print_history(self.visitor, 3, None))
        (asked,) = self.server.requests()
        self.assertEqual(asked.count, 2)
        for id in (7, 9):
            self.server.answer(id, "message_received", sender="bob", recipient="all", text="x")
        self.server.answer(asked.sequence, "history_response", text="2", before=7)
        self.assertEqual(len(out.getvalue().splitlines()), 2)
        self.assertEqual(err.getvalue(), "These are the last 2. For more: --after NUMBER\n")

    def test_leave(self) -> None:
        """The goodbye is waited for a moment, and then the connection is closed."""
        for answers in (True, False):
            self.setUp()
            left = Deferred.fromCoroutine(self.visitor.leave())
            (request,) = self.server.requests()
            self.assertEqual(request.request, "disconnect")
            if answers:
                self.server.answer(request.sequence, "disconnect_response", text="True")
            else:
                self.clock.advance(LEAVE_TIMEOUT)
            self.successResultOf(left)
            self.assertTrue(self.server.transport.disconnected)
            self.assertEqual(self.clock.getDelayedCalls(), [])
