"""What the window shows and does, without a window: the models, the colours, the pictures."""

from __future__ import annotations

import json
import os
import socket
import struct
import zlib
from collections.abc import Hashable, Sequence
from datetime import timezone
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from chatbox.certificates import show_fingerprint
from chatbox.chat.wire import MAX_TEXT_BYTES, Message
from chatbox.client.chat.events import Joined, Presence
from chatbox.client.chat.session import MAX_PENDING
from chatbox.client.commands import Steering
from chatbox.client.exits import Stop
from chatbox.client.files.transfers import Stage
from chatbox.client.gui import hosting
from chatbox.client.gui.downloads import MAX_ENDED, Rows
from chatbox.client.gui.edits import edits
from chatbox.client.gui.entries import SAME_BREATH_MS, Draft, Entry, Look
from chatbox.client.gui.host import UDP_PORTS, Plan, Report, address_for_others
from chatbox.client.gui.mistakes import MAX_LOG_BYTES, Mistakes
from chatbox.client.gui.model import (
    HISTORY_AT_JOIN,
    MAX_SHOWN,
    OLDER_AT_ONCE,
    Link,
    Part,
    Pending,
    Room,
)
from chatbox.client.gui.paint import box, png
from chatbox.client.gui.palette import MIN_CONTRAST, PALETTES, Palette, colour_of, contrast
from chatbox.client.gui.settings import Settings, on_screen
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
        self.room.on_change = self.count_look
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

    def count_look(self) -> None:
        """The window is asked to look."""
        self.looks += 1

    def entries(self) -> list[Entry]:
        """What is drawn since this was last called."""
        entries = list(self.room.entries)
        self.room.entries.clear()
        self.room.take_changes()
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
        self.assertEqual(self.room.online, ["alice", "bob"])
        self.assertEqual(
            [(one.name, one.size) for one in self.room.files], [("a.txt", 5), ("b", 6)]
        )

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
            [(one.look, one.heading, one.text) for one in self.room.older],
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
        changes = self.room.take_changes()
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
        self.assertEqual(self.room.pending, [Pending("hi", "")])
        self.hear("bob", "first")
        self.hear("alice", "hi")
        self.assertEqual(self.room.pending, [])
        self.server.answer(request.sequence, "message_response", text="True")
        self.assertEqual(self.room.pending, [])
        _, _, own = self.entries()
        self.assertEqual((own.look, own.text, own.mine), (Look.SAID, "hi", True))

    def test_the_same_twice(self) -> None:
        """Two messages of the same words are two."""
        self.room.send("hi")
        self.room.send("hi")
        self.hear("alice", "hi")
        self.assertEqual(len(self.room.pending), 1)
        self.hear("alice", "hi")
        self.assertEqual(self.room.pending, [])

    def test_private(self) -> None:
        """Both directions name the other one; ours is shown when the server has it."""
        self.assertTrue(self.room.send("psst", " bob "))
        [request] = self.server.requests()
        self.assertEqual(request.recipient, "bob")
        self.assertEqual(self.room.pending, [Pending("psst", "bob")])
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
        self.assertEqual(self.room.pending, [])

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
        self.room.watch(False)
        self.hear("bob", "one")
        self.hear("alice", "mine")
        self.assertEqual(self.room.unread, 1)
        self.room.watch(True)
        self.assertEqual(self.room.unread, 0)

    def test_bound(self) -> None:
        """A flood keeps no more than can be scrolled back to."""
        for number in range(MAX_SHOWN + 10):
            self.room.notice(str(number))
        self.assertEqual(len(self.room.entries), MAX_SHOWN)
        self.assertEqual(self.room.entries[0].text, "10")


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
        self.assertEqual(self.room.pending, [Pending("a  secret", "Ann Lee")])
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
        self.room.online = ["alice"]
        self.come("bob")
        self.come("bob")
        self.assertEqual(self.room.online, ["alice", "bob"])
        self.come("bob", "left")
        self.come("bob", "left")
        self.assertEqual(self.room.online, ["alice"])
        texts = [one.text for one in self.entries() if one.look is Look.NOTICE]
        self.assertEqual(texts[0], "12:00  bob joined")
        self.assertEqual(texts[-1], "12:00  bob left")

    def test_headcount(self) -> None:
        """In a crowd the number is what the server tells, whoever is known by name."""
        (request,) = self.ask_online()
        self.server.answer(request.sequence, "user_list", text="['alice','bob']")
        self.assertEqual(self.room.headcount, 2)
        self.come("carol")
        self.assertEqual(self.room.headcount, 3)
        self.come("carol", "left")
        self.assertEqual(self.room.headcount, 2)
        self.entries()
        self.server.send(Message("server", "all", response="headcount", count=12_000))
        self.assertEqual((self.room.headcount, self.room.online), (12_000, ["alice", "bob"]))
        self.assertEqual(self.room.take_changes(), Part.ONLINE)
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


class EditsTests(SynchronousTestCase):
    """What is done to a list so that it shows another."""

    def edit(self, shown: Sequence[Hashable], wanted: Sequence[Hashable]) -> int:
        """Do it, and return how many rows went and came."""
        rows, touched = list(shown), 0
        for at, gone, come in edits(shown, wanted):
            self.assertLessEqual(at + gone, len(rows))
            rows[at : at + gone] = wanted[at : at + come]
            touched += gone + come
        self.assertEqual(rows, list(wanted))
        return touched

    @given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))
    def test_any_lists(self, shown: list[int], wanted: list[int]) -> None:
        """One becomes the other, whatever is in them."""
        self.edit(shown, wanted)
        self.assertEqual(edits(wanted, wanted), [])

    def test_a_crowd(self) -> None:
        """Of ten thousand no more are touched than have changed."""
        crowd = list(range(10_000))
        self.assertEqual(self.edit(crowd, [*crowd, -1]), 1)
        self.assertEqual(self.edit(crowd, crowd[1:]), 1)
        some = [number for number in crowd if number % 1000]
        self.assertEqual(self.edit(crowd, [*some, -1, -2]), 12)
        self.assertEqual(len(edits(crowd, crowd[5000:])), 1)
        self.assertEqual(self.edit([], crowd), 10_000)


class ConnectionTests(RoomTestCase):
    """Cuts and ends."""

    def setUp(self) -> None:
        super().setUp()
        self.server.connection.session.survive()

    def test_cut_and_back(self) -> None:
        """What is said meanwhile waits, and the window says how it stands."""
        self.assertEqual(self.room.link, Link.CONNECTED)
        self.server.close()
        self.assertEqual(self.room.link, Link.RECONNECTING)
        self.assertTrue(self.room.send("meanwhile"))
        self.assertEqual(self.room.pending, [Pending("meanwhile", "")])
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
        self.assertEqual(self.room.link, Link.CONNECTED)

    def test_lost(self) -> None:
        """What was never confirmed is kept, to be sent again."""
        self.room.send("one")
        self.server.connection.session.survives = False
        self.server.close()
        failed, lost = self.entries()
        self.assertEqual(failed.draft, Draft("one"))
        self.assertIn("lost", lost.text)
        self.assertEqual((self.room.link, self.room.online), (Link.LOST, []))
        self.assertFalse(self.room.send("two"))
        self.assertEqual([one.text for one in self.entries()], ["Not connected."])

    def test_goodbye(self) -> None:
        """Logout says goodbye; while the connection is cut there is nobody to say it to."""
        self.room.logout()
        self.assertEqual([one.request for one in self.server.requests()], ["disconnect"])
        self.assertEqual(self.room.link, Link.LEAVING)
        self.server.close()
        self.assertTrue(self.room.goodbye)

    def test_goodbye_while_away(self) -> None:
        """Then it is over at once."""
        self.server.close()
        self.room.logout()
        self.assertEqual(self.room.link, Link.LOST)


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

    def test_only_the_last_that_ended(self) -> None:
        """Rows do not pile up; one that runs is never pushed out."""
        running = self.download("running")
        for number in range(MAX_ENDED + 2):
            self.download(f"f{number}").listener(Ended(End.CANCELLED, "", None, None))
        names = [one.name for one in self.rows.downloads]
        self.assertEqual(names, ["running", *(f"f{number}" for number in range(2, MAX_ENDED + 2))])
        running.listener(Ended(End.CANCELLED, "", None, None))


class PaletteTests(SynchronousTestCase):
    """The colours."""

    def pairs(self, p: Palette) -> list[tuple[str, str]]:
        """Each colour of text with each that it stands on."""
        return [
            *((text, ground) for text in (p.text, p.dim, p.accent) for ground in
              (p.ground, p.surface, p.private, p.failed)),
            *((text, ground) for text in (p.text, p.dim) for ground in (p.raised, p.hover)),
            *((colour, ground) for colour in (p.danger, p.good, p.warning) for ground in
              (p.ground, p.surface)),
            (p.danger, p.failed), (p.on_accent, p.accent), (p.on_accent, p.accent_hover),
            *((colour, ground) for colour in p.people for ground in (p.surface, p.private)),
        ]  # fmt: skip

    def test_contrast(self) -> None:
        """Everything can be read, in both themes."""
        for palette in PALETTES.values():
            for text, ground in self.pairs(palette):
                ratio = contrast(text, ground)
                self.assertGreaterEqual(ratio, MIN_CONTRAST, f"{palette.name} {text} on {ground}")

    def test_known_contrasts(self) -> None:
        """The formula gives what WCAG says of black, white and grey."""
        self.assertAlmostEqual(contrast("#000000", "#ffffff"), 21.0)
        self.assertAlmostEqual(contrast("#777777", "#ffffff"), 4.48, places=2)
        self.assertEqual(contrast("#123456", "#123456"), 1.0)

    def test_colour_of_a_name(self) -> None:
        """It is the same for names that count as the same, and the colours are all in use."""
        self.assertEqual(colour_of("Bob"), colour_of("bob"))
        used = {colour_of(f"name{number}") for number in range(200)}
        self.assertEqual(used, set(range(len(PALETTES["dark"].people))))


class PaintTests(SynchronousTestCase):
    """The pictures."""

    def pixels(self, data: bytes) -> list[list[tuple[int, ...]]]:
        """Read a PNG of ours, checksums included."""
        self.assertEqual(data[:8], b"\x89PNG\r\n\x1a\n")
        at, parts = 8, {}
        while at < len(data):
            (length,) = struct.unpack_from(">I", data, at)
            kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
            (crc,) = struct.unpack_from(">I", data, at + 8 + length)
            self.assertEqual(crc, zlib.crc32(kind + body))
            parts[kind] = body
            at += 12 + length
        width, height = struct.unpack_from(">II", parts[b"IHDR"])
        raw = zlib.decompress(parts[b"IDAT"])
        self.assertEqual(len(raw), height * (1 + 4 * width))
        rows = [raw[row * (1 + 4 * width) + 1 :][: 4 * width] for row in range(height)]
        return [[tuple(row[4 * x : 4 * x + 4]) for x in range(width)] for row in rows]

    def test_png(self) -> None:
        """The pixels that were given come out again."""
        data = bytes(range(24))
        rows = self.pixels(png(3, 2, data))
        self.assertEqual(b"".join(bytes(one) for row in rows for one in row), data)

    def test_box(self) -> None:
        """Inside, border, and what is behind the round corners; the same on all sides."""
        rows = self.pixels(box(20, 6, "#0000ff", behind="#ffffff", border="#ff0000"))
        self.assertEqual(len(rows), 20)
        self.assertEqual(rows[10][10], (0, 0, 255, 255))
        self.assertEqual(rows[0][10], (255, 0, 0, 255))
        self.assertEqual(rows[0][0], (255, 255, 255, 255))
        self.assertEqual(rows, rows[::-1])
        self.assertEqual(rows, [row[::-1] for row in rows])
        self.assertEqual(rows, [list(column) for column in zip(*rows, strict=True)])

    def test_no_border(self) -> None:
        """Without a border the edge has the colour of the inside."""
        rows = self.pixels(box(20, 6, "#0000ff", behind="#ffffff"))
        self.assertEqual(rows[0][10], rows[10][10])


class HostTests(SynchronousTestCase):
    """Hosting, as far as it is words."""

    def test_plan(self) -> None:
        """Only this computer, or everyone: where it listens follows."""
        folder = self.mktemp()
        os.mkdir(folder)
        alone = " ".join(Plan(folder).arguments("state"))
        self.assertIn("--listen tcp:50000:interface=127.0.0.1 --udp-ports 0", alone)
        everyone = " ".join(Plan(folder, True, "6000").arguments("state"))
        self.assertIn(f"--listen tcp:6000 --udp-ports {UDP_PORTS}", everyone)
        self.assertIn(f"--files {os.path.abspath(folder)} --state-dir state", everyone)
        self.assertNotIn("--max-rate", everyone)

    def test_limit_and_tls(self) -> None:
        """The server is told both as on its command line."""
        folder = self.mktemp()
        os.mkdir(folder)
        limited = " ".join(Plan(folder, limit=" 2MB ").arguments("state"))
        self.assertIn("--max-rate 2MB", limited)
        for everyone, where in ((True, ""), (False, ":interface=127.0.0.1")):
            words = Plan(folder, everyone, "6000", tls=True).arguments("state")
            listens = words[words.index("--listen") + 1]
            self.assertEqual(listens, f"tls-self-signed:tcp:6000{where}")

    def test_bad_plans(self) -> None:
        """A port or a folder that is none is refused with advice."""
        folder = self.mktemp()
        os.mkdir(folder)
        for plan, advice in (
            (Plan(folder, port="x"), "1 to 65535"),
            (Plan(folder, port="65536"), "1 to 65535"),
            (Plan(" "), "Choose a folder"),
            (Plan(f"{folder}/none"), "Choose a folder"),
            (Plan(folder, limit="fast"), "such as 800kB"),
        ):
            stop = self.assertRaises(Stop, plan.arguments, "state")
            self.assertIn(advice, stop.sentence)

    def test_report(self) -> None:
        """The log says when it listens, and why it ended."""
        report = Report()
        report.read("2026-01-01T00:00:00+0000 [-] RDT on UDP starting on 55000")
        self.assertIsNone(report.port)
        report.read("2026-01-01T00:00:00+0000 [-] Chat starting on 6000")
        self.assertEqual(report.port, 6000)
        report.read(
            "2026-01-01T00:00:00+0000 [stderr#error] twisted.internet.error.CannotListenError:"
            " Couldn't listen on any:6000: [Errno 98] Address already in use. Does one run already?"
        )
        self.assertIn("Another program uses port 6000", report.why_it_ended())
        report.read("... Couldn't listen on any:80: [Errno 13] Permission denied. See --uid.")
        self.assertEqual(report.why_it_ended(), "Port 80 cannot be used: Permission denied.")

    def test_own_address(self) -> None:
        """Where nothing leads out of the network, the address in it is what others type."""
        self.patch(socket, "gethostname", lambda: "machine")
        with mock.patch.object(socket.socket, "connect", side_effect=OSError):
            for networks, address in (
                (["127.0.0.1/8", "fe80::1/64", "169.254.1.2/16", "192.0.2.7/24"], "192.0.2.7"),
                (["127.0.0.1/8", "2001:db8::1/64"], "machine"),
            ):
                self.patch(hosting, "own_networks", lambda networks=networks: networks)
                self.assertEqual(hosting.own_address(), address)

    def test_report_of_tls(self) -> None:
        """One can join when the certificate is there, too, which comes after the port."""
        for tls in (True, False):
            report = Report()
            report.read("... [-] RDT on UDP starting on 55000")
            self.assertFalse(report.is_ready)
            report.read(f"... [-] Chat{' (TLS)' if tls else ''} starting on 6000")
            self.assertIs(report.is_ready, not tls)
        self.assertIsNone(report.fingerprint)
        report = Report()
        report.read("... [-] Chat (TLS) starting on 6000")
        report.read(f"... and its fingerprint is {show_fingerprint('0a' * 32)}")
        self.assertTrue(report.is_ready)
        self.assertEqual((report.port, report.fingerprint), (6000, "0a" * 32))

    def test_other_reasons(self) -> None:
        """What is said last is the reason; if nothing was said, none is made up."""
        self.assertEqual(Report().why_it_ended(), "The server has stopped.")
        report = Report()
        report.read("twistd: --files x: No such file or directory.")
        self.assertEqual(
            report.why_it_ended(), "The server has stopped: --files x: No such file or directory."
        )

    def test_address(self) -> None:
        """The usual port need not be typed; an IPv6 address needs brackets with another."""
        self.assertEqual(address_for_others("192.0.2.1", 50000), "192.0.2.1")
        self.assertEqual(address_for_others("192.0.2.1", 6000), "192.0.2.1:6000")
        self.assertEqual(address_for_others("2001:db8::1", 6000), "[2001:db8::1]:6000")
        self.assertEqual(address_for_others("192.0.2.1", 50001, tls=True), "192.0.2.1")
        self.assertEqual(address_for_others("192.0.2.1", 50000, tls=True), "192.0.2.1:50000")


class MistakesTests(SynchronousTestCase):
    """The file for mistakes of ours."""

    def test_bound(self) -> None:
        """When it is full it is put aside, and nobody else can read it."""
        folder = os.path.join(self.mktemp(), "window")
        mistakes, log = Mistakes(folder), Logger()
        self.addCleanup(mistakes.close)
        for number in range(3 * MAX_LOG_BYTES // 1000):
            log.warn("number {number}{much}", number=number, much="." * 1000)
        sizes = [os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)]
        self.assertEqual(len(sizes), 2)
        self.assertLess(sum(sizes), 2 * MAX_LOG_BYTES + 4000)
        with open(mistakes.path) as file:
            self.assertIn(f"number {number}.", file.read())
        self.assertEqual(os.stat(mistakes.path).st_mode & 0o077, 0)

    def test_only_what_is_bad(self) -> None:
        """The rest is not kept, nor what comes when it is closed."""
        mistakes, log = Mistakes(self.mktemp()), Logger()
        path = mistakes.path
        log.info("all is well")
        mistakes.close()
        log.warn("late")
        self.assertEqual(os.path.getsize(path), 0)

    def test_nowhere(self) -> None:
        """Where nothing can be written there is none, and nothing breaks."""
        mistakes = Mistakes("/dev/null/window")
        self.assertEqual(mistakes.path, "")
        mistakes.close()


class SettingsTests(SynchronousTestCase):
    """What the window remembers."""

    def test_round(self) -> None:
        """What was saved is loaded."""
        path = os.path.join(self.mktemp(), "settings.json")
        kept = ("alice", "example.org", True, "dark", 2, "900x700+1+2", "/srv", "2MB", True)
        Settings(*kept).save(path)
        self.assertEqual(Settings.load(path), Settings(*kept))

    def test_nonsense(self) -> None:
        """Whatever cannot be read is as if it were not there; the rest counts."""
        path = self.mktemp()
        self.assertEqual(Settings.load(path), Settings())
        for content in ("", "[]", "{", json.dumps({"name": 3, "zoom": True, "other": 1})):
            with open(path, "w") as file:
                file.write(content)
            self.assertEqual(Settings.load(path), Settings())
        with open(path, "w") as file:
            json.dump({"name": 3, "address": "example.org"}, file)
        self.assertEqual(Settings.load(path), Settings(address="example.org"))

    def test_on_the_screen(self) -> None:
        """The window is where it was, and no larger, as far as that is on the screen of today."""
        for kept, expected in {
            "900x700+100+50": "900x700+100+50",
            "900x700+1500+40": "900x700+380+40",
            "900x700+100+600": "900x700+100+100",
            "900x700+-20+-5": "900x700+0+0",
            "1920x1080+0+20": "1280x800+0+0",
            "900x700": "900x700",
            "2000x700": "1280x700",
            "": "1080x720",
            "900x700-0-0": "1080x720",
            "٩00x700": "1080x720",
            f"{'9' * 9}x700+0+0": "1080x720",
        }.items():
            self.assertEqual(on_screen(kept, (1080, 720), (1280, 800)), expected, kept)
        self.assertEqual(on_screen("", (1080, 720), (1024, 600)), "1024x600")

    def test_nowhere(self) -> None:
        """Where nothing can be written nothing is kept, and nothing breaks."""
        Settings().save("/dev/null/settings.json")
