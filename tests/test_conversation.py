"""A person's conversation: typed lines in, lines to read and requests out."""

from __future__ import annotations

import errno
import os
import re
from datetime import timezone
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.wire import Message
from chatbox.client.chat.session import MAX_PENDING, State
from chatbox.client.conversation import MAX_DOWNLOADS, Conversation
from chatbox.client.exits import Exit, exit_for_end, exit_for_refusal
from chatbox.client.files.download import PartFile
from chatbox.client.files.journal import Beginning
from chatbox.client.files.shares import shares
from chatbox.client.files.transfers import MAX_RETURNS, TRANSITIONS, Stage
from chatbox.client.words import MAYBE_MORE
from chatbox.errors import NoSocket, RemoteError
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
        self.assertEqual(self.read(), ["Not sent to bob (hi): Nobody here has that name."])

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


class DownloadTests(ConversationTestCase):
    """Downloads, from the request to the end."""

    def test_the_whole_story(self) -> None:
        """It says where the file goes, where it stands and how to go on, and how it ended."""
        (request,) = self.enter(f"/download b.iso {self.folder}/c.iso")
        self.assertEqual((request.request, request.text), ("download", "b.iso"))
        self.server.offer(request.sequence, 1000)
        (transfer,) = self.fetch.begun
        self.assertEqual(
            (transfer.offer.port, transfer.offer.ticket, transfer.pause_half_way),
            (55000, "ticket", True),
        )
        self.assertEqual(transfer.target.path, f"{self.folder}/c.iso")
        transfer.listener(Opened(1000))
        self.assertEqual(self.read(), [f"b.iso: 1.00 kB, to {self.folder}/c.iso"])
        transfer.confirmed = 500
        transfer.listener(Paused(half_way=True))
        (line,) = self.read()
        self.assertIn("half way, at 50 %", line)
        self.assertIn("/proceed", line)
        self.enter("/proceed")
        self.assertEqual(transfer.asked, ["proceed"])
        transfer.listener(Resumed())
        self.now += 2
        transfer.listener(Ended(End.DONE, "", f"{self.folder}/c.iso", bytes(32)))
        self.assertEqual(
            self.read(),
            [
                "b.iso goes on.",
                f"b.iso is complete: {self.folder}/c.iso, in 2.0 s, sha-256 {'00' * 32}",
            ],
        )
        self.assertEqual(self.conversation.downloads, [])
        self.assertEqual(self.changes, 5)

    def test_steering(self) -> None:
        """Pause, proceed and cancel reach the transfer."""
        transfer = self.download()
        self.enter("/pause", "/proceed b.iso", "/cancel")
        self.assertEqual(transfer.asked, ["pause", "proceed", "cancel"])
        transfer.confirmed = 100
        transfer.listener(Paused(half_way=False))
        self.assertIn("waits at 10 %", self.read()[0])
        transfer.listener(Ended(End.CANCELLED, "", None, None))
        self.assertEqual(self.read(), [f"b.iso did not arrive: {End.CANCELLED.sentence}"])

    def test_in_one_go(self) -> None:
        """/get does not stop half way."""
        (request,) = self.enter(f"/get b.iso {self.folder}/")
        self.server.offer(request.sequence)
        self.assertFalse(self.fetch.begun[0].pause_half_way)

    def test_round_trip(self) -> None:
        """The time of the server's answer is the transfer's first guess, unless it is long."""
        for waited, rtt in ((0.2, 0.2), (2.5, 0.0)):
            (request,) = self.enter(f"/get b.iso {self.folder}/{waited}")
            self.now += waited
            self.server.offer(request.sequence)
            self.assertAlmostEqual(self.fetch.begun[-1].rtt, rtt)

    def test_limit(self) -> None:
        """A limit is for all together, or for the one that is named; for those to come, too."""
        self.enter("/limit 600kB")
        self.download("a")
        self.download("b")
        self.enter("/limit 100kB b")
        self.assertEqual(self.read(), ["b: at most 100 kB/s from now on."])
        self.assertEqual(self.limits(), [500_000, 100_000])
        (request,) = self.enter(f"/get c {self.folder}/")
        self.server.offer(request.sequence)
        self.assertEqual(self.limits(), [250_000, 100_000, 250_000])
        self.enter("/limit none b")
        self.assertIn("b: no limit of its own from now on.", self.read())
        self.assertEqual(self.limits(), [200_000] * 3)
        self.enter("/limit 1MB d")
        self.assertEqual(self.read(), ["No such download is running."])
        self.enter("/limit 100kB b", "/limit none")
        self.assertEqual(self.read()[-1], "All downloads: as fast as they can from now on.")
        self.assertEqual(self.limits(), [None] * 3)
        self.assertIs(self.download("d").rate_limit, None)

    def limits(self) -> list[int | None]:
        """What the transfers that have begun may take."""
        return [transfer.rate_limit for transfer in self.fetch.begun]

    def test_limit_before_any(self) -> None:
        """It holds for what is to come, and is said to."""
        self.enter("/limit 600kB")
        self.assertEqual(self.read(), ["All downloads together: at most 600 kB/s from now on."])
        self.assertEqual(self.download().rate_limit, 600_000)

    def test_limit_is_shared_by_those_that_move(self) -> None:
        """One that stands or has ended leaves its share to the others."""
        self.enter("/limit 600kB")
        first, second = self.download("a"), self.download("b")
        self.assertEqual(self.limits(), [300_000] * 2)
        second.listener(Paused(half_way=True))
        self.assertEqual(first.rate_limit, 600_000)
        second.listener(Resumed())
        self.assertEqual(self.limits(), [300_000] * 2)
        first.listener(Ended(End.CANCELLED, "", None, None))
        self.assertEqual(second.rate_limit, 600_000)
        (request,) = self.enter(f"/get c {self.folder}/")
        self.assertEqual(second.rate_limit, 300_000)
        self.server.answer(request.sequence, "download_response", text="ERR", error="no-such-file")
        self.assertEqual(second.rate_limit, 600_000)

    def test_shares(self) -> None:
        """They are even, but for what somebody may not take; and nobody gets nothing."""
        for total, own, given in (
            (None, [None, 5], [None, 5]),
            (10, [], []),
            (90, [None, None, None], [30, 30, 30]),
            (90, [None, 10, None], [40, 10, 40]),
            (90, [50, 10, 35], [45, 10, 35]),
            (90, [100, 10, 20], [60, 10, 20]),
            (2, [None, None, None], [1, 1, 1]),
        ):
            self.assertEqual(shares(total, own), given)

    def test_list(self) -> None:
        """/downloads says how far each is, what to do about it, and where those are that came."""
        self.enter("/downloads")
        self.assertIn("No downloads yet.", self.read()[0])
        done, standing = self.download("a"), self.download("b")
        self.enter(f"/get c {self.folder}/")
        done.listener(Ended(End.DONE, "", f"{self.folder}/a", bytes(32)))
        standing.confirmed = 500
        standing.listener(Paused(half_way=True))
        self.read()
        self.enter("/downloads")
        self.assertEqual(
            self.read(),
            [
                "b 50 % of 1.00 kB, 100 bytes/s, 0:05 left."
                " /proceed lets it go on, /cancel gives it up.",
                "c waits for the server.",
                f"a is here: {self.folder}/a",
            ],
        )

    def test_open(self) -> None:
        """/open opens the newest file that came, or the newest of a name."""
        self.enter("/open")
        self.assertEqual(self.read(), ["No file has come yet. /downloads lists those that have."])
        for name, end in (("a", End.DONE), ("b", End.DONE), ("c", End.HASH_MISMATCH)):
            self.download(name).listener(Ended(end, "", f"{self.folder}/{name}", bytes(32)))
        self.enter("/open", "/open a", "/open c")
        self.assertEqual(self.opened, [f"{self.folder}/b", f"{self.folder}/a"])
        self.assertIn("No c has come yet.", self.read()[-1])

    def test_steering_needs_a_download(self) -> None:
        """Without a download, or with another name, there is nothing to steer."""
        self.enter("/proceed")
        self.download()
        self.enter("/pause other")
        self.assertEqual(self.read(), ["No such download is running."])

    def test_steering_several(self) -> None:
        """With several it must be said which one is meant."""
        first, second = self.download("a"), self.download("b")
        self.enter("/pause")
        self.assertEqual(self.read(), ["Which one? /pause FILE, with one of: a, b"])
        self.enter("/pause b")
        self.assertEqual((first.asked, second.asked), ([], ["pause"]))

    def test_refused(self) -> None:
        """The server's refusal is explained, and the download is over."""
        (request,) = self.enter(f"/download nope {self.folder}/")
        self.server.answer(request.sequence, "download_response", text="ERR", error="no-such-file")
        self.assertEqual(self.read(), ["No download of nope: There is no such file."])
        self.assertEqual(self.conversation.downloads, [])

    def test_as_settled(self) -> None:
        """Without a place, a file goes to the folder that is settled, no faster than is."""
        request = self.enter("/download b.iso")[-1]
        self.server.offer(request.sequence)
        target = self.fetch.begun[-1].target
        target.start(1, lambda: None)
        self.assertTrue(os.path.exists(f"{self.folder}/b.iso.part"))
        self.assertEqual(self.fetch.begun[-1].rate_limit, 5000)
        target.close(End.CANCELLED)

    def test_cannot_be_saved(self) -> None:
        """Where the file could not be saved the server is not even asked."""
        with open(os.path.join(self.folder, "b.iso"), "w"):
            pass
        self.assertEqual(self.enter(f"/download b.iso {self.folder}/"), [])
        self.assertIn("already", self.read()[0])
        self.assertEqual(self.enter(f"/download b.iso {self.folder}/no/where"), [])
        self.assertIn("no such folder", self.read()[0])
        self.assertEqual(self.enter("/download ../b.iso"), [])
        self.assertEqual(len(self.read()), 1)

    def test_transfer_that_cannot_begin(self) -> None:
        """A full disk or a ticket that is none ends the download with a sentence, and with the
        status that it has later, too.
        """
        for error, part, status in (
            (OSError(errno.ENOSPC, "There is not enough room", "/x"), "room", Exit.DISK_FULL),
            (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota", Exit.DISK_FULL),
            (OSError(errno.EFBIG, "File too large"), "too large", Exit.DISK_FULL),
            (OSError(errno.EIO, "Input/output error"), "error", Exit.CANNOT_SAVE),
            (NoSocket(errno.EMFILE, "Too many open files"), "no UDP socket", Exit.NO_UDP),
            (RemoteError("bad-ticket", "That is no ticket."), "no ticket", Exit.BAD_DATA),
        ):
            self.fetch.error = error
            (request,) = self.enter(f"/download b.iso {self.folder}/")
            [download] = self.conversation.downloads
            self.server.offer(request.sequence)
            self.assertIn(part, self.read()[0])
            self.assertEqual(self.conversation.downloads, [])
            self.assertIs(download.status, status)

    def test_blocked_udp(self) -> None:
        """If nothing ever came, the port and the host to open are named."""
        (request,) = self.enter(f"/download b.iso {self.folder}/")
        self.server.offer(request.sequence)
        self.fetch.begun[0].listener(Ended(End.PEER_SILENT, "", None, None))
        text = self.read()[-1]
        self.assertIn("UDP port 55000 of example.org", text)
        self.assertIn("firewall", text)

    def test_silence_later(self) -> None:
        """A server that falls silent is not a firewall's fault."""
        transfer = self.download()
        transfer.listener(Ended(End.PEER_SILENT, "", None, None))
        self.assertNotIn("firewall", self.read()[-1])

    def test_cancelled_before_the_offer(self) -> None:
        """A download given up before the server answered does not begin when it does."""
        (request,) = self.enter(f"/download b.iso {self.folder}/")
        self.enter("/proceed", "/cancel")
        self.server.offer(request.sequence)
        self.assertEqual(self.fetch.begun, [])
        self.assertEqual(self.conversation.downloads, [])
        self.assertEqual(
            self.read(), ["b.iso has not begun yet.", "No download of b.iso: cancelled."]
        )

    def test_bound(self) -> None:
        """So many downloads at once and no more."""
        for number in range(MAX_DOWNLOADS):
            self.download(f"f{number}")
        self.assertEqual(self.enter("/download more"), [])
        self.assertIn(str(MAX_DOWNLOADS), self.read()[0])

    def test_stages(self) -> None:
        """Every stage is in the table and can lead to the end; the end leads nowhere."""
        self.assertEqual(set(TRANSITIONS), set(Stage))
        for stage, ways in TRANSITIONS.items():
            self.assertEqual(Stage.ENDED in ways, stage is not Stage.ENDED)


class ReturningTests(ConversationTestCase):
    """Downloads that outlive the server that they began with."""

    def setUp(self) -> None:
        super().setUp()
        self.server.connection.session.survive()

    def end(self, transfer: FakeTransfer, end: End) -> list[Message]:
        """Let a transfer end; return what is asked of the server then."""
        transfer.listener(Ended(end, "", None, None))
        return self.server.requests()

    def offer_again(self, request: Message) -> None:
        """Offer the file once more, to somebody who has a part of it."""
        self.assertEqual((request.request, request.text), ("download", "b.iso"))
        self.server.offer(request.sequence)

    def test_restart(self) -> None:
        """One line for the restart, one for the download, which goes on when the server is back."""
        transfer = self.download()
        self.assertEqual(self.end(transfer, End.SERVER_STOPPING), [])
        self.server.restart()
        self.assertEqual(self.read(), ["* The server restarts; back in a moment."])
        (request,) = self.server.come_back()
        self.fetch.resumed_from = 430
        self.offer_again(request)
        self.assertEqual(self.read(), ["b.iso goes on, at 43 %."])
        self.assertIsNot(self.fetch.begun[-1].target, transfer.target)
        self.assertEqual(self.end(self.fetch.begun[-1], End.DONE), [])
        self.assertEqual(len(self.conversation.saved), 1)

    def test_end_is_heard_late(self) -> None:
        """If the server is back by then, it is asked at once."""
        transfer = self.download()
        self.server.restart()
        self.assertEqual(self.server.come_back(), [])
        (request,) = self.end(transfer, End.SERVER_STOPPING)
        self.offer_again(request)

    def test_silence(self) -> None:
        """A server that has said nothing before it went is asked as soon as there is one."""
        transfer = self.download()
        (request,) = self.end(transfer, End.PEER_SILENT)
        self.offer_again(request)
        self.assertEqual(self.read()[0], "b.iso waits: nothing comes from the server any more.")
        # Nothing at all has come this time: that is not the server's doing.
        self.assertEqual(self.end(self.fetch.begun[-1], End.PEER_SILENT), [])
        self.assertIn("blocks UDP", self.read()[-1])

    def test_cut(self) -> None:
        """Whoever may have lost the server looks at once whether it still sends."""
        for cut in (self.server.close, self.server.restart):
            transfer = self.download()
            self.assertEqual(transfer.asked, [])
            cut()
            self.assertEqual(transfer.asked, ["doubt"])
            self.assertEqual(self.end(transfer, End.PEER_SILENT), [])
            (request,) = self.server.come_back()
            self.offer_again(request)
            self.end(self.fetch.begun[-1], End.DONE)

    def test_refused_since_the_server_restarts(self) -> None:
        """Who asks a moment too late gets the file a moment later."""
        (request,) = self.enter(f'/download b.iso "{self.folder}/"')
        self.server.answer(request.sequence, "download_response", text="ERR", error="restarting")
        self.server.restart()
        (request,) = self.server.come_back()
        self.offer_again(request)
        self.assertEqual(len(self.fetch.begun), 1)

    def test_asked_and_not_answered(self) -> None:
        """The same if the answer did not come any more."""
        self.enter(f'/download b.iso "{self.folder}/"')
        self.server.restart()
        (request,) = self.server.come_back()
        self.offer_again(request)

    def test_cancelled_meanwhile(self) -> None:
        """Who gives it up while the server is away is not asked again."""
        self.end(self.download(), End.SERVER_STOPPING)
        self.server.restart()
        self.enter("/cancel")
        self.assertEqual(self.conversation.downloads, [])
        self.assertEqual(self.server.come_back(), [])

    def returned(self, transfer: FakeTransfer, confirmed: int) -> FakeTransfer:
        """The server goes away, and comes back; so many bytes are here when it goes."""
        transfer.confirmed = confirmed
        self.assertEqual(self.end(transfer, End.SERVER_STOPPING), [])
        self.server.restart()
        self.offer_again(*self.server.come_back())
        begun = self.fetch.begun[-1]
        begun.listener(Opened(1000))
        return begun

    def test_too_often(self) -> None:
        """There is an end to patience, if no more comes of it than was here before."""
        transfer = self.returned(self.download(), 500)
        for confirmed in range(1, MAX_RETURNS):
            transfer = self.returned(transfer, confirmed)
        transfer.confirmed = 500
        self.end(transfer, End.SERVER_STOPPING)
        self.assertEqual(self.conversation.downloads, [])

    def test_often_enough(self) -> None:
        """However often the server goes away, a download that gets on meanwhile goes on."""
        transfer = self.download()
        for confirmed in range(1, 3 * MAX_RETURNS):
            transfer = self.returned(transfer, confirmed)
        self.end(transfer, End.DONE)
        self.assertEqual(len(self.conversation.saved), 1)

    def test_no_way_back(self) -> None:
        """Without a session that survives, the end of the server is the end of the download."""
        self.server.connection.session.survives = False
        self.end(self.download(), End.SERVER_STOPPING)
        self.assertEqual(self.conversation.downloads, [])
        self.assertIn("has gone away", self.read()[-1])

    def test_given_up(self) -> None:
        """When the session gives up, what waited for the server has failed."""
        self.end(self.download(), End.SERVER_STOPPING)
        self.server.restart()
        self.server.connection.session.give_up()
        self.server.connection.flush()
        self.assertEqual(self.conversation.downloads, [])
        self.assertIs(self.conversation.status, Exit.LOST)

    def test_something_else_is_there(self) -> None:
        """A file that somebody has put there meanwhile is not written over."""
        transfer = self.download()
        with open(os.path.join(self.folder, "b.iso"), "w"):
            pass
        self.end(transfer, End.SERVER_STOPPING)
        self.assertEqual(self.conversation.downloads, [])


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
        self.assertEqual(self.read(), ["b.iso stops at 31 %; the beginning is kept."])

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
