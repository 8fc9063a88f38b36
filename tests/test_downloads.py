"""A person's downloads from one server: how they go, and come back."""

from __future__ import annotations

import errno
import os
import queue
import threading
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.wire import Message
from chatbox.client.exits import Exit
from chatbox.client.files.download import PartFile
from chatbox.client.files.downloads import MAX_DOWNLOADS
from chatbox.client.files.fetcher import Fetcher
from chatbox.client.files.shares import shares
from chatbox.client.files.transfers import MAX_RETURNS, TRANSITIONS, Stage
from chatbox.client.words import Hints
from chatbox.errors import NoSocket, RemoteError
from chatbox.rdt.ends import End
from chatbox.rdt.receiver import Ended, Opened, Paused, Resumed
from tests.helpers.client import FakeTransfer
from tests.helpers.processes import PATIENCE
from tests.helpers.threads import no_threads
from tests.test_conversation import ConversationTestCase


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
        self.assertEqual(self.conversation.downloads.running, [])
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

    def test_disk_that_is_not_ready(self) -> None:
        """It begins when the disk is, says what it waits for, and can be given up meanwhile."""
        self.fetch.waiting = []
        for name, command, begun in (("a", "/downloads", 1), ("b", "/cancel", 1)):
            (request,) = self.enter(f"/get b.iso {self.folder}/{name}")
            self.server.offer(request.sequence)
            self.assertEqual(self.read(), [])
            self.enter(command)
            lines = self.read()
            if name == "a":
                self.assertEqual(lines, ["b.iso waits for the disk."])
            else:
                self.assertEqual(lines, ["No download of b.iso: cancelled."])
            self.fetch.waiting.pop()()
            self.assertEqual(len(self.fetch.begun), begun)
            if name == "a":
                self.fetch.begun[0].listener(Ended(End.CANCELLED, "", None, None))
                self.read()

    def test_disk_that_is_still_busy(self) -> None:
        """A person hears it when what came before keeps the disk from it."""
        self.fetch.waiting = []
        (request,) = self.enter(f"/get b.iso {self.folder}/a")
        with mock.patch.object(PartFile, "is_free", new=False):
            self.server.offer(request.sequence)
        self.assertEqual(
            self.read(), ["b.iso waits: the disk has yet to take what came of it before."]
        )

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
        (line,) = self.read()
        self.assertEqual(line, f"No download of nope: There is no such file. {Hints().files}")
        self.assertEqual(self.conversation.downloads.running, [])

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
            [download] = self.conversation.downloads.running
            self.server.offer(request.sequence)
            self.assertIn(part, self.read()[0])
            self.assertEqual(self.conversation.downloads.running, [])
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
        self.assertEqual(self.conversation.downloads.running, [])
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
        self.assertEqual(len(self.conversation.downloads.saved), 1)

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
        self.assertEqual(self.conversation.downloads.running, [])
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
        self.assertEqual(self.conversation.downloads.running, [])

    def test_often_enough(self) -> None:
        """However often the server goes away, a download that gets on meanwhile goes on."""
        transfer = self.download()
        for confirmed in range(1, 3 * MAX_RETURNS):
            transfer = self.returned(transfer, confirmed)
        self.end(transfer, End.DONE)
        self.assertEqual(len(self.conversation.downloads.saved), 1)

    def test_no_way_back(self) -> None:
        """Without a session that survives, the end of the server is the end of the download."""
        self.server.connection.session.survives = False
        self.end(self.download(), End.SERVER_STOPPING)
        self.assertEqual(self.conversation.downloads.running, [])
        self.assertIn("has gone away", self.read()[-1])

    def test_given_up(self) -> None:
        """When the session gives up, what waited for the server has failed."""
        self.end(self.download(), End.SERVER_STOPPING)
        self.server.restart()
        self.server.connection.session.give_up()
        self.server.connection.flush()
        self.assertEqual(self.conversation.downloads.running, [])
        self.assertIs(self.conversation.status, Exit.LOST)

    def test_something_else_is_there(self) -> None:
        """A file that somebody has put there meanwhile is not written over."""
        transfer = self.download()
        with open(os.path.join(self.folder, "b.iso"), "w"):
            pass
        self.end(transfer, End.SERVER_STOPPING)
        self.assertEqual(self.conversation.downloads.running, [])


class FetcherTests(SynchronousTestCase):
    """What prepares the files of real transfers."""

    def test_waits_in_a_thread(self) -> None:
        """The reactor goes on, and is told; where there are no more threads it is told at once."""
        prepared: list[threading.Thread] = []
        told: queue.Queue[object] = queue.Queue()
        target = mock.Mock(prepare=lambda size: prepared.append(threading.current_thread()))
        reactor = mock.Mock(callFromThread=told.put)
        fetcher, then = Fetcher(reactor, "192.0.2.1"), mock.Mock()
        fetcher.prepare(target, 10, then)
        self.assertIs(told.get(timeout=PATIENCE), then)
        then.assert_not_called()
        self.assertIsNot(prepared.pop(), threading.current_thread())
        with no_threads():
            fetcher.prepare(target, 10, then)
        then.assert_called_once_with()
        self.assertEqual(prepared, [])

    def test_a_mistake_keeps_nobody_waiting(self) -> None:
        """It goes on where the mistake is made again and can be told."""
        told: queue.Queue[object] = queue.Queue()
        target = mock.Mock(prepare=mock.Mock(side_effect=ValueError))
        reactor, then = mock.Mock(callFromThread=told.put), mock.Mock()
        with mock.patch("threading.excepthook"):
            Fetcher(reactor, "192.0.2.1").prepare(target, 10, then)
            self.assertIs(told.get(timeout=PATIENCE), then)
            for thread in threading.enumerate():
                if thread.name == "prepare file":
                    thread.join(PATIENCE)
