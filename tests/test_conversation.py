"""A person's conversation: typed lines in, lines to read and requests out."""

from __future__ import annotations

import os
import re
from datetime import timezone
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.wire import Message
from chatbox.client.chat.session import MAX_PENDING, State
from chatbox.client.conversation import Conversation
from chatbox.client.exits import Exit, exit_for_end, exit_for_refusal
from chatbox.client.files.download import PartFile
from chatbox.client.files.journal import Beginning
from chatbox.client.words import MAYBE_MORE
from chatbox.rdt.ends import End
from chatbox.rdt.receiver import Ended, Opened, Paused, Resumed
from tests.helpers.client import FakeFetch, FakeTransfer, Server


class ConversationTestCase(SynchronousTestCase):
    """A conversation with a server that the test speaks for, in a folder of its own."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        self.told: list[str] = []
        self.fetch = FakeFetch()
        self.changes = 0
        self.opened: list[str] = []
        self.now = 43200.0
        self.server = Server()
        self.conversation = Conversation(
            self.server.connection.session,
            host="example.org",
            fetch=self.fetch,
            flush=self.server.connection.flush,
            tell=self.told.append,
            changed=self.count_change,
            clock=lambda: self.now,
            zone=timezone.utc,
            folder=f"{self.folder}/",
            rate_limit=5000,
            open_file=self.opened.append,
        )
        self.server.connection.listen(self.conversation.handle)

    def count_change(self) -> None:
        """A download has changed its stage."""
        self.changes += 1

    def enter(self, *lines: str) -> list[Message]:
        """Type lines; return what is asked of the server."""
        for line in lines:
            self.conversation.enter(line)
        return self.server.requests()

    def read(self) -> list[str]:
        """What there is to read since this was last called."""
        told, self.told[:] = list(self.told), []
        return told

    def download(self, name: str = "b.iso", size: int = 1000) -> FakeTransfer:
        """Ask for a file, be offered it, and let the transfer begin."""
        request = self.enter(f'/download "{name}" "{self.folder}/"')[-1]
        self.server.offer(request.sequence, size)
        self.fetch.begun[-1].listener(Opened(size))
        self.read()
        return self.fetch.begun[-1]


class TypingTests(ConversationTestCase):
    """What is typed reaches the server, and its answers the person."""

    def test_requests(self) -> None:
        """Each command asks for the right thing."""
        asked = self.enter("hi", "/msg bob psst", "/online", "/files", "/history 5")
        self.assertEqual(
            [(one.request, one.recipient, one.text, one.count) for one in asked],
            [
                ("message_request", "all", "hi", None),
                ("message_request", "bob", "psst", None),
                ("get_user_list", None, None, None),
                ("get_file", None, None, None),
                ("history", None, None, 5),
            ],
        )

    def answer_page(self, *texts: str, before: int | None) -> None:
        """Answer the one request for history with these messages."""
        (asked,) = self.server.requests()
        for text in texts:
            self.server.answer(
                *(9, "message_received"), sender="bob", recipient="all", text=text, time=43_200_000
            )
        self.server.answer(asked.sequence, "history_response", text=str(len(texts)), before=before)

    def test_history_in_pages(self) -> None:
        """What does not fit into one answer is asked for, and all of it shown at once."""
        self.conversation.enter("/history 4")
        self.answer_page("c", "d", before=7)
        self.assertEqual(self.read(), [])
        self.answer_page("a", "b", before=5)
        self.assertEqual(self.server.requests(), [])
        head, *lines = self.read()
        self.assertEqual(head, "The last 4:")
        self.assertEqual([line[-1] for line in lines], list("abcd"))

    def test_history_is_all_there_is(self) -> None:
        """A server that does not say whether there is more is not believed to have shown all."""
        self.conversation.enter("/history 4")
        self.answer_page("a", before=0)
        self.assertEqual(self.read()[0], "The last one:")
        self.assertEqual(self.server.requests(), [])
        self.conversation.enter("/history 4")
        self.answer_page("a", before=None)
        self.assertEqual(self.read()[-1], MAYBE_MORE)
        self.conversation.enter("/history 1")
        self.answer_page("a", before=None)
        self.assertEqual(len(self.read()), 2)

    def test_history_that_fails_half_way(self) -> None:
        """The person learns why, and the next attempt begins anew."""
        self.conversation.enter("/history 4")
        self.answer_page("a", before=7)
        (asked,) = self.server.requests()
        self.server.answer(asked.sequence, "error", text="No.", error="log-unavailable")
        self.assertIn("log", self.read()[0])
        self.assertEqual(self.conversation._histories, {})

    def test_own_broadcast_is_shown_once(self) -> None:
        """Nothing is shown until the server sends it back; its True adds nothing."""
        (request,) = self.enter("hi")
        self.assertEqual(self.read(), [])
        self.server.send(
            Message(
                sender="alice",
                recipient="all",
                text="hi",
                response="message_received",
                sequence=1,
                time=43_200_000,
            )
        )
        self.server.answer(request.sequence, "message_response", text="True")
        self.assertEqual(self.read(), ["12:00 alice: hi"])

    def test_own_private_message(self) -> None:
        """It is shown once the server has it."""
        (request,) = self.enter("/msg bob hi")
        self.assertEqual(self.read(), [])
        self.server.answer(request.sequence, "message_response", text="True")
        self.assertEqual(self.read(), ["12:00 (private) you to bob: hi"])

    def test_reply(self) -> None:
        """/reply answers the last one who wrote privately, and nobody else."""
        self.assertEqual(self.enter("/reply hi"), [])
        self.assertEqual(self.read(), ["Nobody has written to you privately yet."])
        for sender, recipient in (("bob", "alice"), ("carol", "all"), ("alice", "dave")):
            self.server.send(
                Message(sender=sender, recipient=recipient, text="x", response="message_received")
            )
        (request,) = self.enter("/reply see you")
        self.assertEqual((request.recipient, request.text), ("bob", "see you"))

    def test_failed_send(self) -> None:
        """The person learns what was not sent and why."""
        (request,) = self.enter("/msg bob hi")
        self.server.answer(request.sequence, "message_response", text="False", error="no-such-user")
        (line,) = self.read()
        self.assertEqual(
            line, "Not sent to bob (hi): Nobody here has that name. /online lists who is here."
        )

    def test_bad_command_asks_nothing(self) -> None:
        """A mistake costs a sentence."""
        self.assertEqual(self.enter("/wave", "", "/help"), [])
        self.assertIn("/wave", self.read()[0])

    def test_too_many_requests(self) -> None:
        """More than may wait is refused with words, and nothing breaks."""
        self.assertEqual(len(self.enter(*["hi"] * (MAX_PENDING + 1))), MAX_PENDING)
        self.assertEqual(len(self.read()), 1)

    def test_after_the_end(self) -> None:
        """Nothing can be said without a connection."""
        self.server.close()
        self.read()
        self.assertEqual(self.enter("hi", "/files"), [])
        self.assertEqual(self.read(), ["Not connected."] * 2)


class LeavingTests(ConversationTestCase):
    """The ends of a conversation."""

    def test_quit(self) -> None:
        """A goodbye goes out at once, and the end of the connection is expected."""
        (request,) = self.enter("/quit")
        self.assertEqual(request.request, "disconnect")
        self.server.answer(request.sequence, "disconnect_response", text="True")
        self.assertIsNone(self.conversation.status)
        self.server.close()
        self.assertEqual(self.conversation.status, Exit.OK)
        self.assertEqual(self.read(), ["Goodbye."])

    def test_a_second_attempt(self) -> None:
        """The file of the first attempt is told what the server's file is, and what it then finds
        is said.
        """
        for beginning, words in (
            (Beginning.NEW, ""),
            (Beginning.RESUMED, "; resuming at 43 %"),
            (Beginning.CHANGED, "changed since the last attempt: starting over"),
            (Beginning.UNUSABLE, "cannot be used: starting over"),
        ):
            (request,) = self.enter(f"/download b.iso {self.folder}/c.iso")

            def begin(
                target: PartFile, *identity: object, beginning: Beginning = beginning
            ) -> None:
                self.assertEqual(identity, (1234, b"\xab" * 32))
                target.beginning, target.resumed_from = beginning, 439

            with mock.patch.object(PartFile, "expect", begin):
                self.server.offer(request.sequence, 1000, time=1234, digest="ab" * 32)
            (line,) = self.read()
            self.assertTrue(line.startswith(f"b.iso: 1.00 kB, to {self.folder}/c.iso"), line)
            self.assertTrue(line.endswith(words), line)
            self.fetch.begun[-1].listener(Ended(End.PEER_SILENT, "", None, None))
            self.read()

    def test_quit_names_what_stops(self) -> None:
        """A download that is cut short is not cut silently."""
        transfer = self.download()
        transfer.confirmed = 310
        self.enter("/quit")
        self.assertEqual(transfer.asked, ["interrupt"])
        self.assertEqual(self.read(), ["b.iso stops at 31 %; ask again, and it goes on there."])

    def test_quit_at_the_end(self) -> None:
        """Of a download that has come to its end just then that is said."""
        transfer = self.download()
        done = Ended(End.DONE, "", "p", bytes(32))
        with mock.patch.object(transfer, "interrupt", lambda: transfer.listener(done)):
            self.enter("/quit")
        (line,) = self.read()
        self.assertIn("b.iso is complete", line)

    def test_quit_before_the_offer(self) -> None:
        """A download that was only asked for does not begin after all."""
        (request,) = self.enter(f"/get b.iso {self.folder}/")
        self.enter("/quit")
        self.server.offer(request.sequence)
        self.assertEqual(self.fetch.begun, [])

    def test_end_of_input(self) -> None:
        """The goodbye waits for the answers that are still to come."""
        first, second = self.enter("one", "two")
        self.conversation.end_input()
        self.assertEqual(self.server.requests(), [])
        self.server.answer(first.sequence, "message_response", text="True")
        self.assertEqual(self.server.requests(), [])
        self.server.answer(second.sequence, "message_response", text="True")
        self.assertEqual([one.request for one in self.server.requests()], ["disconnect"])

    def test_end_of_input_with_nothing_to_wait_for(self) -> None:
        """The goodbye goes out at once."""
        self.conversation.end_input()
        self.assertEqual([one.request for one in self.server.requests()], ["disconnect"])

    def test_end_of_input_with_a_download(self) -> None:
        """The download goes on by itself where it stands, says so, and is waited for."""
        transfer = self.download()
        self.conversation.end_input()
        self.assertEqual(self.server.requests(), [])
        transfer.listener(Paused(half_way=True))
        self.assertEqual(transfer.asked, ["proceed"])
        self.assertIn("goes on by itself", self.read()[0])
        transfer.listener(Resumed())
        transfer.listener(Ended(End.DONE, "", "p", bytes(32)))
        self.assertEqual([one.request for one in self.server.requests()], ["disconnect"])

    def test_end_of_input_while_it_stands(self) -> None:
        """A download that stands already goes on, too."""
        transfer = self.download()
        transfer.listener(Paused(half_way=True))
        self.conversation.end_input()
        self.assertEqual(transfer.asked, ["proceed"])

    def test_end_of_input_before_the_offer(self) -> None:
        """A download that was only asked for is waited for as well."""
        (request,) = self.enter(f"/download b.iso {self.folder}/")
        self.conversation.end_input()
        self.server.offer(request.sequence)
        self.assertEqual(self.server.requests(), [])
        self.fetch.begun[0].listener(Ended(End.REFUSED, "", None, None))
        self.assertEqual([one.request for one in self.server.requests()], ["disconnect"])

    def test_connection_lost(self) -> None:
        """What was not confirmed is shown, and the status tells."""
        self.enter("hi")
        self.server.close()
        self.assertEqual(self.conversation.status, Exit.LOST)
        self.assertEqual(
            self.read(),
            ["The connection to the server is lost.", "Not confirmed, so perhaps not sent: hi"],
        )

    def test_connection_lost_during_a_download(self) -> None:
        """The download goes on without it; a file that was only asked for does not come."""
        transfer = self.download()
        self.enter(f"/download other {self.folder}/")
        self.server.close()
        self.assertIsNone(self.conversation.status)
        self.assertIn("No download of other", " ".join(self.read()))
        self.enter("/pause")
        self.assertEqual(transfer.asked, ["doubt", "pause"])
        transfer.listener(Ended(End.DONE, "", "p", bytes(32)))
        self.assertEqual(self.conversation.status, Exit.LOST)

    def test_quit_after_the_connection_was_lost(self) -> None:
        """Nothing holds a person who wants to go."""
        self.download()
        self.server.close()
        self.enter("/quit")
        self.assertEqual(self.conversation.status, Exit.LOST)

    def test_leaving_twice(self) -> None:
        """The second goodbye says nothing."""
        self.enter("/quit", "/quit")
        self.assertEqual(self.server.connection.session.state, State.LEAVING)


class ExitTests(SynchronousTestCase):
    """Exit statuses."""

    def test_every_end_has_a_status(self) -> None:
        """Only a complete file is success; each end of a transfer is told apart from a bug."""
        for end in End:
            status = exit_for_end(end, was_heard=True)
            self.assertEqual(status is Exit.OK, end is End.DONE)
            self.assertEqual(status is Exit.FAILED, end is End.NONE)
        self.assertEqual(exit_for_end(End.PEER_SILENT, was_heard=False), Exit.NO_UDP)
        self.assertEqual(exit_for_end(End.PEER_SILENT, was_heard=True), Exit.LOST)

    def test_refusals(self) -> None:
        """What does not exist is told apart from other refusals."""
        self.assertEqual(exit_for_refusal("no-such-file"), Exit.NOT_THERE)
        self.assertEqual(exit_for_refusal("no-such-user"), Exit.NOT_THERE)
        self.assertEqual(exit_for_refusal("busy"), Exit.REFUSED)

    def test_documented(self) -> None:
        """The statuses are distinct, have meanings, and follow the shell's rule for signals."""
        self.assertEqual(len({status.value for status in Exit}), len(Exit.__members__))
        for status in Exit:
            self.assertTrue(status.meaning)
            if found := re.search(r"\(SIG(\w+)\)", status.meaning):
                import signal

                self.assertEqual(status - 128, getattr(signal, f"SIG{found[1]}"))
