"""What happened becomes what a person reads."""

from __future__ import annotations

from datetime import timedelta, timezone

from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.codes import Code
from chatbox.client import words
from chatbox.client.chat.events import (
    EVERYONE,
    Event,
    Failed,
    FileList,
    Garbled,
    HistoryPage,
    Joined,
    JoinRefused,
    Kind,
    Left,
    Listed,
    Lost,
    Offer,
    Presence,
    Problem,
    Request,
    Said,
    Succeeded,
    UserList,
)
from chatbox.rdt.ends import End
from chatbox.rdt.progress import Progress
from chatbox.rdt.receiver import Ended
from chatbox.text import is_printable

NOON = 1_700_000_000 // 86400 * 86400 + 12 * 3600
"""Noon in UTC of a day in 2023, in seconds since the epoch."""


class DescribeTests(SynchronousTestCase):
    """From an event to lines."""

    def told(self, event: Event, zone: timezone = timezone.utc) -> list[str]:
        """What alice reads at noon."""
        return words.describe(event, "alice", now=NOON, zone=zone)

    def test_messages(self) -> None:
        """Who, when, what; private ones are marked, in both directions."""
        at = NOON * 1000 + 61_000
        self.assertEqual(self.told(Said("bob", "all", "hi", 1, at)), ["12:01 bob: hi"])
        self.assertEqual(self.told(Said("bob", "alice", "hi", 1, at)), ["12:01 (private) bob: hi"])
        self.assertEqual(
            self.told(Said("alice", "bob", "hi", 1, at)), ["12:01 (private) you to bob: hi"]
        )

    def test_local_time(self) -> None:
        """Times are those of the reader's clock; none at all if the server sends nonsense."""
        zone = timezone(timedelta(hours=-5))
        self.assertEqual(self.told(Said("b", "all", "x", 1, NOON * 1000), zone), ["07:00 b: x"])
        for at in (None, 10**18):
            self.assertEqual(self.told(Said("b", "all", "x", 1, at)), ["--:-- b: x"])

    def test_own_messages_once(self) -> None:
        """A broadcast of ours is shown when it comes back; a private one when it is in the log."""
        self.assertEqual(self.told(Succeeded(Request(1, Kind.SAY, EVERYONE, "hi"))), [])
        self.assertEqual(
            self.told(Succeeded(Request(1, Kind.SAY, "bob", "hi"))),
            ["12:00 (private) you to bob: hi"],
        )
        self.assertEqual(self.told(Succeeded(Request(1, Kind.SAY, "Alice", "me"))), [])

    def test_hostile_text(self) -> None:
        """Nothing that others wrote can move the cursor or look like a line of somebody else."""
        nasty = "\x1b[2J\x07\u202eabc"
        request = Request(1, Kind.SAY, nasty, nasty)
        happened: list[Event] = [
            Joined(nasty, ""),
            JoinRefused(nasty, Problem("x", nasty)),
            Said(nasty, "all", nasty, 1, 0),
            Said("alice", nasty, nasty, 1, 0),
            Presence(nasty, True),
            Succeeded(request),
            UserList(request, (nasty,)),
            FileList(request, (Listed(nasty, 1),)),
            HistoryPage(request, (Said(nasty, "all", nasty),)),
            Failed(request, Problem(nasty, nasty)),
            Failed(Request(1, Kind.DOWNLOAD, text=nasty), Problem("", nasty)),
            Failed(None, Problem(nasty)),
            Garbled(nasty),
            Lost(False, (request,)),
        ]
        for event in happened:
            lines = self.told(event)
            self.assertTrue(lines, event)
            for line in lines:
                self.assertTrue(is_printable(line), event)

    def test_lines_of_one_message(self) -> None:
        """Further lines of a message are marked as such, so that nobody can fake a line."""
        lines = self.told(Said("bob", "all", "one\n12:00 carol: two\r", 1, NOON * 1000))
        self.assertEqual(
            lines, ["12:00 bob: one", "      | 12:00 carol: two\N{REPLACEMENT CHARACTER}"]
        )

    def test_presence(self) -> None:
        """People come and go; that we came has been said."""
        self.assertEqual(self.told(Presence("bob", True, NOON * 1000)), ["12:00 * bob joined"])
        self.assertEqual(self.told(Presence("bob", False, NOON * 1000)), ["12:00 * bob left"])
        self.assertEqual(self.told(Presence("alice", True, NOON * 1000)), [])

    def test_lists(self) -> None:
        """People in a line, files in a table, nothing as nothing."""
        request = Request(1, Kind.USERS)
        self.assertEqual(self.told(UserList(request, ("alice", "bob"))), ["Online (2): alice, bob"])
        self.assertEqual(
            self.told(FileList(request, (Listed("a.txt", 3), Listed("b.iso", None)))),
            ["Files (2):", "     3 bytes  a.txt", "           ?  b.iso"],
        )
        self.assertEqual(self.told(FileList(request, ())), ["The server has no files."])

    def test_history(self) -> None:
        """History has dates where they are not today's."""
        request = Request(1, Kind.HISTORY)
        yesterday = Said("bob", "all", "a", 1, (NOON - 86400) * 1000)
        today = Said("bob", "all", "b", 2, NOON * 1000)
        lines = self.told(HistoryPage(request, (yesterday, today)))
        self.assertEqual(lines, ["The last 2:", "2023-11-13 12:00 bob: a", "12:00 bob: b"])
        self.assertEqual(self.told(HistoryPage(request, ())), ["Nothing has been said yet."])

    def test_failures_are_explained(self) -> None:
        """A failed request is named, and the reason is a sentence."""
        request = Request(1, Kind.SAY, "bob", "hi")
        self.assertEqual(
            self.told(Failed(request, Problem("no-such-user", ""))),
            ["Not sent to bob (hi): Nobody here has that name. /online lists who is here."],
        )
        download = Request(1, Kind.DOWNLOAD, text="x")
        self.assertEqual(
            self.told(Failed(download, Problem("no-such-file"))),
            ["No download of x: There is no such file."],
        )
        long = Request(1, Kind.SAY, EVERYONE, "y" * 4000)
        self.assertLess(len(self.told(Failed(long, Problem("text-too-long")))[0]), 200)

    def test_every_code_has_a_sentence(self) -> None:
        """Known codes are explained by our table; new ones, operators' acts, and how long something
        may be, by what was said of it."""
        for code in Code:
            said = code in (Code.KICKED, Code.BANNED, Code.TOO_LONG, Code.TEXT_TOO_LONG)
            expected = "other" if said else code.sentence
            self.assertEqual(words.explain(Problem(code.value, "other")), expected)
            self.assertEqual(words.explain(Problem(code.value)), code.sentence)
        self.assertEqual(words.explain(Problem("new-code", "Why so.")), "Why so.")
        self.assertIn("new-code", words.explain(Problem("new-code")))
        self.assertTrue(words.explain(Problem("")))

    def test_how_long(self) -> None:
        """When it is worth coming again is said, and how long a ban lasts."""
        said = words.explain(Problem("try-later", wait=75))
        self.assertEqual(said, f"{Code.TRY_LATER.sentence} (In 1:15.)")
        said = words.explain(Problem("banned", wait=600))
        self.assertEqual(said, "You are banned from this server for another 10 minutes.")

    def test_the_end(self) -> None:
        """What was never confirmed is shown when the connection is lost, and only then."""
        unanswered = (Request(1, Kind.SAY, "all", "hi"), Request(2, Kind.USERS))
        self.assertEqual(
            self.told(Lost(False, unanswered)),
            [
                "The connection to the server is lost.",
                "Not confirmed, so perhaps not sent: hi",
            ],
        )
        self.assertEqual(self.told(Lost(True, ())), [])
        self.assertEqual(self.told(Left()), ["Goodbye."])
        self.assertEqual(self.told(Offer(Request(1, Kind.DOWNLOAD), 1, "", 1)), [])


class ProgressTests(SynchronousTestCase):
    """What is said about downloads."""

    def test_progress(self) -> None:
        """How far, how fast, how long; or why it stands."""
        moving = Progress(1_300_000, 3_000_000, 4_100_000.0, 6.2, "receiving", "")
        self.assertEqual(
            words.progress_text("b.iso", moving), "b.iso 43 % of 3.00 MB, 4.10 MB/s, 0:07 left"
        )
        standing = Progress(10, 100, 0.0, None, "receiving", "the server does not answer")
        self.assertEqual(
            words.progress_text("b.iso", standing),
            "b.iso 10 % of 100 bytes, the server does not answer",
        )

    def test_percent(self) -> None:
        """Hundred per cent means all of it; an empty file is complete."""
        self.assertEqual(words.percent(Progress(999, 1000, 0, None, "", "")), 99)
        self.assertEqual(words.percent(Progress(0, 0, 0, None, "", "")), 100)

    def test_sizes(self) -> None:
        """Three significant digits and a decimal unit."""
        cases = {
            0: "0 bytes",
            1: "1 byte",
            999: "999 bytes",
            1000: "1.00 kB",
            9_994: "9.99 kB",
            9_996: "10.0 kB",
            99_960: "100 kB",
            999_600: "1.00 MB",
            5 << 30: "5.37 GB",
            10**24: "1000000 EB",
        }
        for size, text in cases.items():
            self.assertEqual(words.size_text(size), text)

    def test_durations(self) -> None:
        """Rounded up, with hours if there are any."""
        for seconds, text in {0: "0:00", 0.1: "0:01", 59.5: "1:00", 3723: "1:02:03"}.items():
            self.assertEqual(words.duration_text(seconds), text)
        self.assertTrue(words.duration_text(float("inf")))

    def test_ends(self) -> None:
        """Each end is told with what matters about it."""
        done = Ended(End.DONE, "", "/tmp/b.iso", bytes(32))
        self.assertEqual(
            words.ended_text("b.iso", "b.iso", done, 2.5, None),
            f"b.iso is complete: /tmp/b.iso, in 2.5 s, sha-256 {'00' * 32}",
        )
        silent = Ended(End.PEER_SILENT, "", None, None)
        text = words.ended_text("b.iso", "b.iso", silent, 20, "UDP port 55003 of 192.0.2.1")
        self.assertIn("UDP port 55003 of 192.0.2.1", text)
        self.assertIn("firewall", text)
        self.assertNotIn("IPv6", text)
        text = words.ended_text("b.iso", "b.iso", silent, 20, "UDP port 55003 of 2001:db8::1")
        self.assertIn("no UDP over IPv6", text)
        self.assertIn(
            End.PEER_SILENT.sentence, words.ended_text("b.iso", "b.iso", silent, 20, None)
        )
        cancelled = Ended(End.CANCELLED, End.CANCELLED.sentence, None, None)
        text = words.ended_text("b.iso", "p", cancelled, 1, None)
        self.assertEqual(text.count(End.CANCELLED.sentence), 1)
        for end in End:
            if end not in (End.NONE, End.DONE):
                text = words.ended_text("b.iso", "p", Ended(end, "Detail.", None, None), 1, None)
                self.assertIn(end.sentence, text)
                self.assertIn("Detail.", text)

    def test_os_errors(self) -> None:
        """A sentence with the file's name, without Python's trimmings."""
        self.assertEqual(
            words.os_error_text(PermissionError(13, "Permission denied", "/x")),
            "Permission denied: /x.",
        )
        self.assertEqual(words.os_error_text(OSError("odd")), "odd.")
