"""What the window shows of a room and what can be done there, without a window."""

from __future__ import annotations

import os
from datetime import timezone
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.wire import MAX_TEXT_BYTES, Message
from chatbox.client.actions import Steering
from chatbox.client.chat.events import Joined, Presence
from chatbox.client.chat.session import MAX_PENDING
from chatbox.client.files.transfers import Stage
from chatbox.client.gui.downloads import MAX_ENDED, Rows
from chatbox.client.gui.entries import SAME_BREATH_MS, Draft, Entry, Look
from chatbox.client.gui.model import HISTORY_AT_JOIN, OLDER_AT_ONCE, Room
from chatbox.client.gui.shown import MAX_SHOWN, Link, Part, Pending, Shown
from chatbox.rdt.ends import End
from chatbox.rdt.receiver import Ended, Opened, Paused, Resumed
from tests.helpers.client import FakeFetch, FakeTransfer, Server

NOON = 43_200_000
"""Milliseconds since the epoch."""


class RoomTestCase(SynchronousTestCase):
    """Alice's window on a room whose server the test speaks for."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        self.server = Server()
        self.fetch = FakeFetch()
        self.rows = Rows()
        self.looks = 0
        self.room = self.make_room()
        self.shown.on_change = self.count_look
        self.server.connection.listen(self.room.handle)

    def make_room(self, **more: Any) -> Room:
        """The model of a room, with everything from outside a stand-in."""
        return Room(
            self.server.connection.session,
            host="example.org",
            fetch=self.fetch,
            flush=self.server.connection.flush,
            clock=lambda: 43200.0,
            rows=self.rows,
            folder=self.folder,
            zone=timezone.utc,
            **more,
        )

    @property
    def shown(self) -> Shown:
        """What the window shows."""
        return self.room.shown

    def count_look(self) -> None:
        """The window is asked to look."""
        self.looks += 1

    def entries(self) -> list[Entry]:
        """What is drawn since this was last called."""
        entries = list(self.shown.entries)
        self.shown.entries.clear()
        self.shown.take_changes()
        return entries

    def hear(
        self, sender: str, text: str, recipient: str = "all", *, at: int = NOON, number: int = 0
    ) -> None:
        """Let the server say what somebody said."""
        self.server.send(
            Message(
                sender, recipient, text=text, response="message_received", sequence=number, time=at
            )
        )

    def come(self, name: str, what: str = "joined") -> None:
        """Let somebody come or go."""
        self.server.send(Message(name, "all", text=what, response="presence", time=NOON))


class JoiningTests(RoomTestCase):
    """The first moments."""

    def setUp(self) -> None:
        super().setUp()
        self.server.connection.session.limits = {"text": MAX_TEXT_BYTES}

    def test_asks_for_everything(self) -> None:
        """One sees at once what was said before, who is here, and what can be downloaded."""
        self.room.handle(Joined("alice", "token"))
        history, users, files = self.server.requests()
        self.assertEqual((history.request, history.count), ("history", HISTORY_AT_JOIN))
        self.assertEqual((users.request, files.request), ("get_user_list", "get_file"))
        self.hear("bob", "from before", number=7)
        self.server.answer(history.sequence, "history_response", text="1")
        self.server.answer(users.sequence, "user_list", text="['alice','bob']")
        self.server.answer(files.sequence, "file_list", text="['a.txt','b']", size=(5, 6))
        self.assertEqual(
            [(one.look, one.text) for one in self.entries()],
            [
                (Look.NOTICE, "You are in, as alice."),
                (Look.DAY, "Thursday, 01 January 1970"),
                (Look.SAID, "from before"),
            ],
        )
        self.assertEqual(self.shown.online, ["alice", "bob"])
        self.assertEqual(
            [(one.name, one.size) for one in self.shown.files], [("a.txt", 5), ("b", 6)]
        )

    def test_another_server(self) -> None:
        """One that says nothing of limits is none of ours: it is not asked for what it may never
        answer, and what is said there is shown at once."""
        self.server.connection.session.limits = {}
        self.room.handle(Joined("alice", ""))
        asked = [one.request for one in self.server.requests()]
        self.assertEqual(asked, ["get_user_list", "get_file"])
        self.entries()
        self.hear("bob", "hello")
        self.assertEqual(self.entries()[-1].text, "hello")

    def test_older(self) -> None:
        """What was before is asked for a page at a time, and has days and headings of its own."""
        self.room.handle(Joined("alice", "token"))
        history, *_ = self.server.requests()
        self.hear("bob", "from before", number=7)
        self.server.answer(history.sequence, "history_response", text="1", before=7)
        self.entries()
        self.assertTrue(self.room.has_older)
        self.room.show_older()
        self.room.send("/history")  # one is enough
        [older] = self.server.requests()
        self.assertEqual((older.request, older.count, older.before), ("history", OLDER_AT_ONCE, 7))
        self.hear("bob", "long ago", number=6)
        self.server.answer(older.sequence, "history_response", text="1", before=0)
        self.assertEqual(self.entries(), [])
        self.assertEqual(
            [(one.look, one.heading, one.text) for one in self.shown.older],
            [(Look.DAY, "", "Thursday, 01 January 1970"), (Look.SAID, "bob", "long ago")],
        )
        self.assertFalse(self.room.has_older)
        self.room.show_older()
        self.assertEqual(self.server.requests(), [])

    def test_older_from_a_server_that_is_slow(self) -> None:
        """Nothing more is asked for while too much waits for the server; it can be later."""
        self.room.handle(Joined("alice", "token"))
        history, *others = self.server.requests()
        self.hear("bob", "from before", number=7)
        self.server.answer(history.sequence, "history_response", text="1", before=7)
        for _ in range(MAX_PENDING - len(others)):
            self.room.send("hi")
        said = self.server.requests()
        self.room.show_older()
        self.assertEqual(self.server.requests(), [])
        self.server.answer(said[0].sequence, "message_response", text="True")
        self.room.show_older()
        [older] = self.server.requests()
        self.assertEqual(older.request, "history")

    def test_one_look_for_many_changes(self) -> None:
        """However much happens, the window is asked once, until it has looked."""
        for number in range(50):
            self.hear("bob", str(number))
        self.assertEqual(self.looks, 1)
        changes = self.shown.take_changes()
        self.assertEqual(changes, Part.MESSAGES)
        self.hear("bob", "more")
        self.assertEqual(self.looks, 2)


class TalkingTests(RoomTestCase):
    """What is said."""

    def test_broadcast(self) -> None:
        """It is pending until the server sends it back, then in its place, and never twice."""
        self.assertTrue(self.room.send("hi\n"))
        [request] = self.server.requests()
        self.assertEqual((request.recipient, request.text), ("all", "hi"))
        self.assertEqual(self.shown.pending, [Pending("hi", "")])
        self.hear("bob", "first")
        self.hear("alice", "hi")
        self.assertEqual(self.shown.pending, [])
        self.server.answer(request.sequence, "message_response", text="True")
        self.assertEqual(self.shown.pending, [])
        _, _, own = self.entries()
        self.assertEqual((own.look, own.text, own.mine), (Look.SAID, "hi", True))

    def test_the_same_twice(self) -> None:
        """Two messages of the same words are two."""
        self.room.send("hi")
        self.room.send("hi")
        self.hear("alice", "hi")
        self.assertEqual(len(self.shown.pending), 1)
        self.hear("alice", "hi")
        self.assertEqual(self.shown.pending, [])

    def test_private(self) -> None:
        """Both directions name the other one; ours is shown when the server has it."""
        self.assertTrue(self.room.send("psst", " bob "))
        [request] = self.server.requests()
        self.assertEqual(request.recipient, "bob")
        self.assertEqual(self.shown.pending, [Pending("psst", "bob")])
        self.server.answer(request.sequence, "message_response", text="True", time=NOON)
        self.hear("bob", "what?", "alice")
        self.assertEqual(
            [(one.look, one.heading, one.text) for one in self.entries()[1:]],
            [(Look.PRIVATE, "You to bob", "psst"), (Look.PRIVATE, "bob to you", "what?")],
        )

    def test_to_oneself(self) -> None:
        """It comes back by itself, and is shown once."""
        self.room.send("note", "alice")
        [request] = self.server.requests()
        self.hear("alice", "note", "alice")
        self.server.answer(request.sequence, "message_response", text="True")
        [_, note] = self.entries()
        self.assertEqual(note.heading, "You to yourself")

    def test_refused(self) -> None:
        """What failed stands where it failed, with the reason, and can be sent again."""
        self.room.send("psst", "carol")
        [request] = self.server.requests()
        self.server.answer(request.sequence, "message_response", text="False", error="no-such-user")
        [failed] = self.entries()
        self.assertEqual(failed.look, Look.FAILED)
        self.assertEqual(failed.heading, "Not sent to carol: Nobody here has that name.")
        self.assertEqual(failed.draft, Draft("psst", "carol"))
        self.assertEqual(self.shown.pending, [])

    def test_what_cannot_be_sent(self) -> None:
        """It is not sent, and said so at once; nothing at all is not even taken."""
        self.assertTrue(self.room.send("x" * (MAX_TEXT_BYTES + 1)))
        [failed] = self.entries()
        self.assertEqual(failed.look, Look.FAILED)
        self.assertFalse(self.room.send(" \n"))
        self.assertEqual(self.server.requests(), [])

    def test_how_long_it_may_be(self) -> None:
        """That is the server's to say."""
        self.server.connection.session.limits = {"text": MAX_TEXT_BYTES + 1}
        self.room.send("x" * (MAX_TEXT_BYTES + 1))
        self.assertEqual(len(self.server.requests()), 1)
        self.room.send("x" * (MAX_TEXT_BYTES + 2))
        self.assertEqual(self.server.requests(), [])

    def test_halves_of_characters(self) -> None:
        """An emoji that came as two halves is one; a half alone does no harm."""
        self.room.send("\ud83d\ude00 \ud83d")
        [request] = self.server.requests()
        self.assertEqual(request.text, "\U0001f600 \N{REPLACEMENT CHARACTER}")

    def test_headings(self) -> None:
        """Who goes on speaking is not announced again, unless a while has passed."""
        self.hear("bob", "one")
        self.hear("bob", "two", at=NOON + 1)
        self.hear("bob", "three", at=NOON + 2 * SAME_BREATH_MS)
        self.hear("carol", "four", at=NOON + 2 * SAME_BREATH_MS)
        self.hear("carol", "five", "alice", at=NOON + 2 * SAME_BREATH_MS)
        headings = [one.heading for one in self.entries()[1:]]
        self.assertEqual(headings, ["bob", "", "bob", "carol", "carol to you"])

    def test_days(self) -> None:
        """Where the date changes it is shown; a time that is none changes nothing."""
        self.hear("bob", "one")
        self.hear("bob", "two", at=NOON + 86_400_000)
        self.hear("bob", "three", at=1 << 62)
        looks = [one.look for one in self.entries()]
        self.assertEqual(looks, [Look.DAY, Look.SAID, Look.DAY, Look.SAID, Look.SAID])

    def test_hostile_text(self) -> None:
        """What others write cannot draw anything but letters."""
        self.hear("bo\x1b[31mb", "a\x1b[2J\u202eb\nc")
        entry = self.entries()[-1]
        self.assertEqual(entry.text, "a\ufffd[2J\ufffdb\nc")
        self.assertEqual(entry.heading, "bo\ufffd[31mb")

    def test_unread(self) -> None:
        """Messages of others are counted while nobody looks."""
        self.hear("bob", "seen")
        self.shown.watch(False)
        self.hear("bob", "one")
        self.hear("alice", "mine")
        self.assertEqual(self.shown.unread, 1)
        self.shown.watch(True)
        self.assertEqual(self.shown.unread, 0)

    def test_bound(self) -> None:
        """A flood keeps no more than can be scrolled back to."""
        for number in range(MAX_SHOWN + 10):
            self.shown.notice(str(number))
        self.assertEqual(len(self.shown.entries), MAX_SHOWN)
        self.assertEqual(self.shown.entries[0].text, "10")


class CommandTests(RoomTestCase):
    """What begins with a slash is a command, as in the console."""

    def notices(self) -> str:
        """What is said by nobody since this was last called."""
        return "\n".join(one.text for one in self.entries() if one.look is Look.NOTICE)

    def test_message(self) -> None:
        """It goes to one person, whoever stands in "Send to"; else nobody reads it."""
        self.assertTrue(self.room.send('/msg "Ann Lee" a  secret', "carol"))
        [request] = self.server.requests()
        self.assertEqual((request.recipient, request.text), ("Ann Lee", "a  secret"))
        self.assertEqual(self.shown.pending, [Pending("a  secret", "Ann Lee")])
        self.assertTrue(self.room.send("/msg all hello", "carol"))
        self.assertEqual([one.recipient for one in self.server.requests()], ["all"])

    def test_reply(self) -> None:
        """It goes to who has written privately last."""
        self.room.send("/reply hi")
        self.assertEqual(self.server.requests(), [])
        self.assertIn("Nobody has written to you", self.notices())
        self.hear("bob", "psst", "alice")
        self.hear("alice", "note", "alice")
        self.hear("carol", "hello")
        self.assertTrue(self.room.send("/reply hi"))
        self.assertEqual([one.recipient for one in self.server.requests()], ["bob"])

    def test_two_slashes(self) -> None:
        """They say one, to whom it is for; and what failed can be sent again as it is."""
        self.assertTrue(self.room.send("//msg is a command", "bob"))
        [request] = self.server.requests()
        self.assertEqual((request.recipient, request.text), ("bob", "/msg is a command"))
        self.server.answer(request.sequence, "message_response", text="False", error="no-such-user")
        [failed] = self.entries()
        self.assertEqual(failed.text, "/msg is a command")
        self.assertEqual(failed.draft, Draft("//msg is a command", "bob"))

    def test_mistakes(self) -> None:
        """What is no command is not said to anybody; it stays where it was written."""
        for typed, advice in (("/mgs bob secret", "Did you mean /msg?"), ("/msg bob", "/msg NAME")):
            self.assertFalse(self.room.send(typed))
            self.assertEqual(self.server.requests(), [])
            self.assertIn(advice, self.notices())

    def test_operators(self) -> None:
        """They put people out, and are told what came of it."""
        for typed in ("/kick bob", "/ban bob 2h spam", "/mute bob", "/bans"):
            self.assertTrue(self.room.send(typed))
        kick, ban, mute, bans = self.server.requests()
        asked = [one.request for one in (kick, ban, mute, bans)]
        self.assertEqual(asked, ["kick", "ban", "mute", "get_ban_list"])
        self.assertEqual((ban.recipient, ban.count, ban.text), ("bob", 7200, "spam"))
        self.server.answer(kick.sequence, "kick_response", text="False", error="not-allowed")
        self.assertIn("Only operators may do that.", self.notices())

    def test_lists(self) -> None:
        """The lists have a place, and are updated there."""
        self.room.send("/who")
        self.room.send("/files")
        asked = [one.request for one in self.server.requests()]
        self.assertEqual(asked, ["get_user_list", "get_file"])

    def test_help(self) -> None:
        """It has no columns, since letters have different widths."""
        self.room.send("/help")
        self.assertIn("\n/online, /who: who is here\n", self.notices())
        self.room.send("/help operators")
        self.assertIn("\n/kick NAME [REASON]: put somebody out\n", self.notices())

    def test_downloads(self) -> None:
        """A file goes where files go, and is steered by name."""
        self.room.send("/get b.iso other")
        [request] = self.server.requests()
        self.server.offer(request.sequence, 1000)
        [transfer] = self.fetch.begun
        self.assertEqual(transfer.target.path, os.path.join(self.folder, "other"))
        self.assertFalse(transfer.pause_half_way)
        transfer.listener(Opened(1000))
        self.room.send("/limit 3MB")
        self.assertEqual(self.notices(), "All downloads together: at most 3.00 MB/s from now on.")
        self.room.send("/limit 2MB b.iso")
        self.assertEqual(transfer.rate_limit, 2_000_000)
        self.assertEqual(self.notices(), "b.iso: at most 2.00 MB/s from now on.")
        self.room.send("/pause b.iso")
        self.assertEqual(transfer.asked, ["pause"])
        self.room.send("/cancel b.iso")
        transfer.listener(Ended(End.CANCELLED, "", None, None))
        self.room.send("/proceed")
        self.assertIn("No download is running.", self.notices())

    def test_open(self) -> None:
        """Where it is, or else the program for it."""
        opened: list[str] = []
        self.room = self.make_room(open_file=opened.append)
        self.server.connection.listen(self.room.handle)
        self.room.send("/download b.iso")
        [request] = self.server.requests()
        self.server.offer(request.sequence, 1000)
        [transfer] = self.fetch.begun
        transfer.listener(Opened(1000))
        transfer.listener(Ended(End.DONE, "", transfer.target.path, bytes(32)))
        self.room.send("/open")
        self.assertEqual(opened, [transfer.target.path])

    def test_quit(self) -> None:
        """It is what Logout does."""
        self.room.send("/quit")
        self.assertEqual([one.request for one in self.server.requests()], ["disconnect"])


class PeopleTests(RoomTestCase):
    """Who is here."""

    def test_come_and_go(self) -> None:
        """The list follows by itself."""
        self.shown.online = ["alice"]
        self.come("bob")
        self.come("bob")
        self.assertEqual(self.shown.online, ["alice", "bob"])
        self.come("bob", "left")
        self.come("bob", "left")
        self.assertEqual(self.shown.online, ["alice"])
        texts = [one.text for one in self.entries() if one.look is Look.NOTICE]
        self.assertEqual(texts[0], "12:00  bob joined")
        self.assertEqual(texts[-1], "12:00  bob left")

    def test_headcount(self) -> None:
        """In a crowd the number is what the server tells, whoever is known by name."""
        (request,) = self.ask_online()
        self.server.answer(request.sequence, "user_list", text="['alice','bob']")
        self.assertEqual(self.shown.headcount, 2)
        self.come("carol")
        self.assertEqual(self.shown.headcount, 3)
        self.come("carol", "left")
        self.assertEqual(self.shown.headcount, 2)
        self.entries()
        self.server.send(Message("server", "all", response="headcount", count=12_000))
        self.assertEqual((self.shown.headcount, self.shown.online), (12_000, ["alice", "bob"]))
        self.assertEqual(self.shown.take_changes(), Part.ONLINE)
        self.come("alice")  # she is told of herself in any case
        self.assertEqual(self.server.requests(), [])

    def test_end_of_a_crowd(self) -> None:
        """When comings and goings are told again, those that were not are made up for, once."""
        self.server.send(Message("server", "all", response="headcount", count=500))
        self.come("bob", "left")
        (request,) = self.server.requests()
        self.assertEqual(request.request, "get_user_list")
        self.come("carol")
        self.assertEqual(self.server.requests(), [])

    def test_crowd_while_away(self) -> None:
        """What comes before we are back asks for nothing: the lists come then in any case."""
        session = self.server.connection.session
        session.survive()
        self.server.send(Message("server", "all", response="headcount", count=500))
        self.server.close()
        self.entries()
        self.room.handle(Presence("bob", False))
        self.assertEqual([one.look for one in self.entries()], [Look.NOTICE])

    def ask_online(self) -> list[Message]:
        """Press Show Online; return what is asked of the server."""
        self.room.show_online()
        return self.server.requests()

    def test_refresh(self) -> None:
        """Update screen asks for both lists."""
        self.room.refresh()
        asked = [one.request for one in self.server.requests()]
        self.assertEqual(asked, ["get_user_list", "get_file"])


class ConnectionTests(RoomTestCase):
    """Cuts and ends."""

    def setUp(self) -> None:
        super().setUp()
        self.server.connection.session.survive()

    def test_cut_and_back(self) -> None:
        """What is said meanwhile waits, and the window says how it stands."""
        self.assertEqual(self.shown.link, Link.CONNECTED)
        self.server.close()
        self.assertEqual(self.shown.link, Link.RECONNECTING)
        self.assertTrue(self.room.send("meanwhile"))
        self.assertEqual(self.shown.pending, [Pending("meanwhile", "")])
        self.assertIn("cut", self.entries()[-1].text)

    def test_restart(self) -> None:
        """A server that restarts makes for one line, and the lists are asked for again."""
        self.entries()
        self.server.restart()
        self.assertEqual(
            [one.text for one in self.entries()], ["The server restarts; back in a moment."]
        )
        asked = [one.request for one in self.server.come_back()]
        self.assertEqual(asked, ["get_user_list", "get_file"])
        self.assertEqual(self.entries(), [])
        self.assertEqual(self.shown.link, Link.CONNECTED)

    def test_lost(self) -> None:
        """What was never confirmed is kept, to be sent again."""
        self.room.send("one")
        self.server.connection.session.survives = False
        self.server.close()
        failed, lost = self.entries()
        self.assertEqual(failed.draft, Draft("one"))
        self.assertIn("lost", lost.text)
        self.assertEqual((self.shown.link, self.shown.online), (Link.LOST, []))
        self.assertFalse(self.room.send("two"))
        self.assertEqual([one.text for one in self.entries()], ["Not connected."])

    def test_goodbye(self) -> None:
        """Logout says goodbye; while the connection is cut there is nobody to say it to."""
        self.room.logout()
        self.assertEqual([one.request for one in self.server.requests()], ["disconnect"])
        self.assertEqual(self.shown.link, Link.LEAVING)
        self.server.close()
        self.assertEqual(self.shown.link, Link.LOST)
        self.assertEqual([one.text for one in self.entries() if "lost" in one.text], [])

    def test_goodbye_while_away(self) -> None:
        """Then it is over at once."""
        self.server.close()
        self.room.logout()
        self.assertEqual(self.shown.link, Link.LOST)


class DownloadTests(RoomTestCase):
    """Rows of downloads."""

    def download(self, name: str = "b.iso", save_as: str = "") -> FakeTransfer:
        """Ask for a file, be offered it, and let it begin."""
        self.room.download(name, save_as)
        [request] = self.server.requests()
        self.server.offer(request.sequence, 1000)
        self.fetch.begun[-1].listener(Opened(1000))
        return self.fetch.begun[-1]

    def test_story(self) -> None:
        """A row says where it stands, and has the buttons that make sense there."""
        changes: list[int] = []
        self.rows.on_change = lambda: changes.append(len(self.rows.downloads))
        self.room.download("b.iso")
        [download] = self.rows.downloads
        row = self.rows.row(download)
        self.assertEqual((row.text, row.can_pause, row.can_proceed), ("Asking the server…", 0, 0))
        [request] = self.server.requests()
        self.server.offer(request.sequence, 1000)
        [transfer] = self.fetch.begun
        self.assertEqual(transfer.target.path, os.path.join(self.folder, "b.iso"))
        transfer.listener(Opened(1000))
        transfer.confirmed = 250
        row = self.rows.row(download)
        self.assertEqual((row.percent, row.can_pause, row.can_proceed), (25, True, False))
        self.assertEqual(row.text, "25 % of 1.00 kB, 100 bytes/s, 0:05 left")
        self.assertTrue(self.rows.is_moving)
        transfer.confirmed = 500
        transfer.listener(Paused(half_way=True))
        row = self.rows.row(download)
        self.assertEqual((row.text, row.is_asking), ("Half way, at 50 %. Go on?", True))
        self.assertEqual((row.can_pause, row.can_proceed), (False, True))
        self.assertFalse(self.rows.is_moving)
        self.rows.steer(download, Steering.PROCEED)
        self.assertEqual(transfer.asked, ["proceed"])
        transfer.listener(Resumed())
        self.rows.dismiss(download)
        self.assertEqual(self.rows.downloads, [download])
        transfer.listener(Ended(End.DONE, "", transfer.target.path, bytes(32)))
        row = self.rows.row(download)
        self.assertTrue(row.is_complete and row.has_ended)
        self.assertEqual(row.text, f"Complete and checked: {transfer.target.path}")
        self.rows.dismiss(download)
        self.assertEqual(self.rows.downloads, [])
        self.assertGreater(len(changes), 5)

    def test_bad_end(self) -> None:
        """A row that ended badly says why."""
        transfer = self.download()
        transfer.listener(Ended(End.CANCELLED, "", None, None))
        row = self.rows.row(self.rows.downloads[0])
        self.assertTrue(row.has_ended and not row.is_complete)
        self.assertEqual(row.text, f"b.iso did not arrive: {End.CANCELLED.sentence}")

    def test_refused(self) -> None:
        """A file that is not there is said in the row, too."""
        self.room.download("nope")
        [request] = self.server.requests()
        self.server.answer(request.sequence, "download_response", text="ERR", error="no-such-file")
        row = self.rows.row(self.rows.downloads[0])
        self.assertEqual(row.text, "No download of nope: There is no such file.")

    def test_no_name(self) -> None:
        """Without a name nothing is asked."""
        self.room.download(" ")
        self.assertEqual(self.server.requests(), [])
        self.assertIn("Which file?", self.entries()[0].text)

    def test_free_path(self) -> None:
        """A name that is taken gets a number; a name cannot lead out of the folder."""
        with open(os.path.join(self.folder, "a.tar"), "w"):
            pass
        self.assertEqual(self.room.suggest_path("a.tar"), f"{self.folder}/a (2).tar")
        self.assertEqual(self.room.suggest_path("../a"), f"{self.folder}/_a")
        self.assertEqual(self.room.suggest_path("a.part"), f"{self.folder}/a_part")
        self.assertEqual(self.room.suggest_path(".bashrc"), f"{self.folder}/bashrc")
        self.assertEqual(self.room.suggest_path(""), f"{self.folder}/file")

    def test_logout_stops_no_download(self) -> None:
        """It needs no connection, and can be steered on."""
        transfer = self.download()
        self.room.logout()
        self.server.close()
        [download] = self.rows.downloads
        self.assertIs(download.stage, Stage.RUNNING)
        self.rows.steer(download, Steering.PAUSE)
        self.assertEqual(transfer.asked, ["pause"])
        self.rows.stop()
        self.assertEqual(transfer.asked, ["pause", "interrupt"])

    def test_cut(self) -> None:
        """It is looked at once whether the server still sends; if not, it is asked again later."""
        self.server.connection.session.survive()
        for cut in (self.server.close, self.server.restart):
            transfer = self.download()
            cut()
            self.assertEqual(transfer.asked, ["doubt"])
            transfer.listener(Ended(End.PEER_SILENT, "", None, None))
            self.assertIn("download", [one.request for one in self.server.come_back()])

    def test_only_the_last_that_ended(self) -> None:
        """Rows do not pile up; one that runs is never pushed out."""
        running = self.download("running")
        for number in range(MAX_ENDED + 2):
            self.download(f"f{number}").listener(Ended(End.CANCELLED, "", None, None))
        names = [one.name for one in self.rows.downloads]
        self.assertEqual(names, ["running", *(f"f{number}" for number in range(2, MAX_ENDED + 2))])
        running.listener(Ended(End.CANCELLED, "", None, None))
