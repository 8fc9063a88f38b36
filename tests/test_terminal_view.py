"""The console's terminal without a terminal: keys and news in, a screen out."""

from __future__ import annotations

from datetime import timezone

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.chat.events import (
    EVERYONE,
    Cut,
    Event,
    Failed,
    FileList,
    HistoryPage,
    Joined,
    Kind,
    Listed,
    Offer,
    Presence,
    Problem,
    Request,
    Said,
    Succeeded,
    UserList,
)
from chatbox.client.commands import help_lines
from chatbox.client.console.live import KEYS
from chatbox.client.files.download import PartFile
from chatbox.client.files.transfers import Download
from chatbox.client.terminal.editor import Control
from chatbox.client.terminal.lines import event_lines, is_for, typed_rows
from chatbox.client.terminal.style import EIGHT, PLAIN, Palette
from chatbox.client.terminal.view import BELL_EVERY, MAX_DOWNLOAD_ROWS, TerminalView
from chatbox.client.width import width
from chatbox.client.words import describe
from chatbox.rdt.receiver import Opened, Paused
from tests.helpers.client import FakeFetch
from tests.helpers.emulator import Emulator

NOON = 43_200_000


def said(text: str, sender: str = "bob", recipient: str = EVERYONE) -> Said:
    """Somebody says something at noon."""
    return Said(sender, recipient, text, 1, NOON)


class ViewTestCase(SynchronousTestCase):
    """A view of alice's, and the terminal that she sees it on."""

    columns, rows = 60, 12
    palette: Palette = PLAIN

    def setUp(self) -> None:
        self.now = 43_200.0
        self.changes = 0
        self.emulator = Emulator(self.columns, self.rows)
        self.view = TerminalView(
            me="alice",
            place="example.org",
            palette=self.palette,
            clock=lambda: self.now,
            changed=self.count,
            zone=timezone.utc,
        )
        self.fetch = FakeFetch()
        self.emulator.feed(self.view.begin(self.columns, self.rows))

    def count(self) -> None:
        """There may be something to draw."""
        self.changes += 1

    def hear(self, *events: Event) -> None:
        """Something happens."""
        for event in events:
            self.view.hear(event, "alice")

    def press(self, *data: bytes) -> list[str | Control]:
        """Keys are pressed."""
        return [answer for piece in data for answer in self.view.feed(piece)]

    def seen(self) -> list[str]:
        """What is on the screen now."""
        self.emulator.feed(self.view.draw())
        return self.emulator.rows

    def download(self, name: str, confirmed: int) -> Download:
        """A download on its way, with so many of 1000 bytes here."""
        target = PartFile(f"{self.mktemp()}")
        download = Download(
            name,
            target,
            target.path,
            tell=lambda _: None,
            changed=lambda: None,
            clock=lambda: self.now,
            hint="",
        )
        download.begin(Offer(Request(1, Kind.DOWNLOAD), 1, "", 1000), self.fetch, "h")
        self.fetch.begun[-1].confirmed = confirmed
        self.fetch.begun[-1].listener(Opened(1000))
        return download


class ViewTests(ViewTestCase):
    """What is where."""

    def test_talk(self) -> None:
        """What is said stands above the status, and what is typed below it stays as it is."""
        self.press(b"hel")
        self.hear(Joined("alice", ""), said("hi"))
        self.press(b"lo")
        self.assertEqual(
            self.seen(),
            [
                "You are in, as alice. /help lists what you can type.",
                "12:00 bob: hi",
                " alice on example.org",
                "> hello",
            ],
        )
        self.assertEqual(self.emulator.cursor, (3, 7))
        self.assertEqual(self.press(b"\r"), ["hello"])
        self.assertEqual(self.seen()[-1], ">")

    def test_every_change_is_told(self) -> None:
        """Whatever may change the screen asks for it to be drawn."""
        for action in (
            lambda: self.press(b"x"),
            lambda: self.hear(said("hi")),
            lambda: self.view.tell("x"),
            lambda: self.view.show([]),
            lambda: self.view.learn(UserList(Request(1, Kind.USERS), ("bob",))),
        ):
            before = self.changes
            action()
            self.assertGreater(self.changes, before)

    def test_for_you(self) -> None:
        """Who is meant sees a mark and a count and hears a bell, until the next key."""
        self.hear(said("hi all"), said("hi ALICE!"), said("psst", "carol", "alice"))
        self.assertEqual(
            self.seen(),
            [
                "12:00 bob: hi all",
                "12:00 » bob: hi ALICE!",
                "12:00 » (private) carol: psst",
                " 2 for you: bob, carol | alice on example.org",
                ">",
            ],
        )
        self.assertEqual(self.emulator.bells, 1)
        self.press(b"x")
        self.assertEqual(self.seen()[-2:], [" alice on example.org", "> x"])

    def test_many_callers(self) -> None:
        """Some are named, the others are others."""
        self.hear(*(said("x", f"user{number}", "alice") for number in range(9)))
        self.assertEqual(
            self.seen()[-2], " 9 for you: user0, user1, user2 and others | alice on exampl"
        )

    def test_bells_are_rare(self) -> None:
        """Nobody can ring all the time."""
        for seconds, bells in ((0, 1), (BELL_EVERY / 2, 1), (BELL_EVERY, 2)):
            self.now = 43_200 + seconds
            self.hear(said("alice!"))
            self.seen()
            self.assertEqual(self.emulator.bells, bells)

    def test_completion(self) -> None:
        """Tab knows who is here, and shows what it may be."""
        self.hear(
            UserList(Request(1, Kind.USERS), ("alice", "bob", "bea")), Presence("bill", True, NOON)
        )
        self.press(b"b\t")
        self.assertEqual(
            self.seen()[-3:], [" alice on example.org | 4 here", "bea:  bill:  bob:", "> b"]
        )
        self.press(b"\t\t!")
        self.assertEqual(self.seen()[-2:], [" alice on example.org | 4 here", "> bill: !"])
        self.press(b"\x15a\t")
        self.assertEqual(self.seen()[-1], "> a")
        self.hear(FileList(Request(2, Kind.FILES), (Listed("a film.mp4", 1),)))
        self.press(b"\x15/get a\t")
        self.assertEqual(self.seen()[-1], '> /get "a film.mp4"')
        self.view.saved = lambda: ["notes.txt"]
        self.press(b"\x15/open \t")
        self.assertEqual(self.seen()[-1], "> /open notes.txt")

    def test_many_candidates(self) -> None:
        """They are shown a page at a time, with marks, the chosen one always among them."""
        names = tuple(f"person{number:02}" for number in range(30))
        self.hear(UserList(Request(1, Kind.USERS), names))
        self.press(b"pe\t")
        self.assertTrue(self.seen()[-2].endswith("  …"))
        for name in names:
            self.press(b"\t")
            *_, candidates, typed = self.seen()
            self.assertIn(f"{name}:", candidates)
            self.assertEqual(typed, f"> {name}:")
            self.assertEqual(names[0] in candidates, not candidates.startswith("…"))
            self.assertEqual(names[-1] in candidates, not candidates.endswith("…"))

    def test_search(self) -> None:
        """Ctrl-R says what it looks for."""
        self.press(b"hello\r\x12el")
        self.assertEqual(self.seen()[-1], "search: el> hello")
        self.press(b"x")
        self.assertEqual(self.seen()[-1], "not found: elx> hello")

    def test_commands_are_shown(self) -> None:
        """A command stays to be seen before what it brings; a message comes back by itself."""
        said = ["hi", "/msg bob hi", "/REPLY hi", "//hi"]
        typed = "".join(f"{line}\r" for line in ("/files", *said))
        self.assertEqual(self.press(typed.encode()), ["/files", *said])
        self.assertEqual(self.seen(), ["> /files", " alice on example.org", ">"])

    def test_trouble(self) -> None:
        """What is wrong is said first."""
        self.view.warn("connection cut")
        self.assertEqual(self.seen()[0], " connection cut | alice on example.org")

    def test_controls(self) -> None:
        """What is not for the line is handed on; Ctrl-L draws everything again."""
        self.view.tell("one")
        self.seen()
        self.emulator.feed("\x1b[2J")
        self.assertEqual(
            self.press(b"\x03\x1a\x0c\x04"), [Control.INTERRUPT, Control.SUSPEND, Control.END]
        )
        self.assertEqual(self.seen(), ["one", " alice on example.org", ">"])

    def test_help_is_one_screen(self) -> None:
        """All of /help, the status and the line fit a terminal of 80 by 24."""
        self.emulator.resize(80, 24)
        self.view.resize(80, 24)
        for line in (*help_lines(), KEYS):
            self.view.tell(line)
        self.assertIn("Type a line", self.seen()[0])
        self.assertLessEqual(len(self.emulator.rows), 24)


class DownloadRowTests(ViewTestCase):
    """A row for each download."""

    def test_rows(self) -> None:
        """How far, how fast, how long still; or why it stands, and what to do about it."""
        running, standing = self.download("film.mp4", 430), self.download("b.iso", 500)
        waiting = self.download("c", 0)
        self.fetch.begun[1].listener(Paused(half_way=True))
        self.fetch.begun[2].reason = "the server does not answer"
        self.view.show([running, standing, waiting])
        self.assertEqual(
            self.seen(),
            [
                "film.mp4  [===      ]   43 %  100 bytes/s  0:05 left",
                "b.iso     [====     ]   50 %  half way: /proceed or /cancel",
                "c         [         ]    0 %  the server does not answer",
                " alice on example.org",
                ">",
            ],
        )

    def test_bar_gives_way(self) -> None:
        """On a narrow terminal the numbers matter more than the bar, and nothing is too wide."""
        download = self.download("a long name of a film.mp4", 990)
        for columns in range(8, 100):
            self.view.resize(columns, 12)
            self.emulator.resize(columns, 12)
            self.view.show([download])
            row = self.seen()[0]
            self.assertLessEqual(len(row), columns)
            self.assertEqual("[" in row, columns >= 76, (columns, row))

    def test_many(self) -> None:
        """Some are shown and the rest counted; when they end their rows go."""
        downloads = [self.download(f"file{number}", 100) for number in range(9)]
        self.view.show(downloads)
        rows = self.seen()
        self.assertEqual(len(rows), MAX_DOWNLOAD_ROWS + 3)
        self.assertEqual(rows[-3], "and 3 more: /downloads")
        self.view.show([])
        self.assertEqual(self.seen(), [" alice on example.org", ">"])

    def test_low_terminal(self) -> None:
        """The typed line stays, whatever else there is no room for."""
        self.view.show([self.download(f"file{number}", 100) for number in range(9)])
        self.press(b"typed")
        for rows in (1, 2, 3, 5):
            self.view.resize(60, rows)
            self.emulator.resize(60, rows)
            self.assertEqual(self.seen()[-1], "> typed")
            self.assertEqual(self.emulator.cursor, (len(self.emulator.rows) - 1, 7))


class TypedRowTests(SynchronousTestCase):
    """The line that is being typed, in rows."""

    def rows(self, text: str, cursor: int, rows: int = 8) -> tuple[list[str], tuple[int, int]]:
        """Its rows on a terminal of ten columns."""
        lines, at = typed_rows("> ", text, cursor, 10, rows)
        return ["".join(span.text for span in line) for line in lines], at

    def test_rows(self) -> None:
        """Long lines and several lines are rows; the cursor has a place after each letter."""
        for text, cursor, rows, at in (
            ("", 0, ["> "], (0, 2)),
            ("abc", 1, ["> abc"], (0, 3)),
            ("1234567", 7, ["> 1234567"], (0, 9)),
            ("12345678", 8, ["> 1234567", "  8"], (1, 3)),
            ("12345678", 7, ["> 1234567", "  8"], (1, 2)),
            ("ab\ncd", 2, ["> ab", "  cd"], (0, 4)),
            ("ab\ncd", 3, ["> ab", "  cd"], (1, 2)),
            ("ab\n", 3, ["> ab", "  "], (1, 2)),
            ("日本語日本", 4, ["> 日本語", "  日本"], (1, 4)),
        ):
            self.assertEqual(self.rows(text, cursor), (rows, at), (text, cursor))

    def test_window(self) -> None:
        """Of many rows those with the cursor are shown."""
        text = "\n".join("abcdef")
        self.assertEqual(self.rows(text, len(text), 3), (["  d", "  e", "  f"], (2, 3)))
        self.assertEqual(self.rows(text, 0, 3), (["> a", "  b", "  c"], (0, 2)))
        self.assertEqual(self.rows(text, 5, 1), (["  c"], (0, 3)))

    @given(st.text(), st.integers(0, 50), st.integers(1, 5))
    def test_any_text(self, text: str, cursor: int, rows: int) -> None:
        """Every row fits, and the cursor is on one of them."""
        lines, (row, column) = typed_rows("> ", text, min(cursor, len(text)), 10, rows)
        self.assertLessEqual(len(lines), rows)
        self.assertLess(row, len(lines))
        self.assertLess(column, 10)
        for line in lines:
            self.assertLess(width("".join(span.text for span in line)), 10)


class LineTests(SynchronousTestCase):
    """Events in colours."""

    def test_the_same_words(self) -> None:
        """Without the marks, a terminal says what a pipe says."""
        request = Request(1, Kind.SAY, "bob", "one\ntwo")
        for event in (
            Joined("alice", ""),
            said("one\ntwo"),
            said("psst", "alice", "bob"),
            Presence("bob", True, NOON),
            Presence("alice", True, NOON),
            Succeeded(request, NOON),
            Succeeded(Request(1, Kind.SAY, EVERYONE, "x"), NOON),
            UserList(request, ("a", "b")),
            HistoryPage(request, (said("a"), said("b", "alice"))),
            HistoryPage(request, ()),
            Failed(request, Problem("no-such-user")),
            Cut(),
        ):
            lines = event_lines(event, "alice", EIGHT, now=43200, zone=timezone.utc)
            texts = ["".join(span.text for span in line) for line in lines]
            self.assertEqual(texts, describe(event, "alice", now=43200, zone=timezone.utc), event)

    def test_whose_colour(self) -> None:
        """A name has its colour, what is said has none, and trouble looks like trouble."""
        ((time, name, text),) = event_lines(said("hi"), "alice", EIGHT, now=0, zone=timezone.utc)
        self.assertEqual(
            [time.style, name.style, text.style], [EIGHT.time, EIGHT.person("bob"), ""]
        )
        ((_, name, _),) = event_lines(said("hi", "alice"), "alice", EIGHT, now=0)
        self.assertEqual(name.style, EIGHT.me)
        ((trouble,),) = event_lines(Cut(), "alice", EIGHT, now=0)
        self.assertEqual(trouble.style, EIGHT.trouble)

    def test_who_is_meant(self) -> None:
        """My name as a word, in either case, or a private message; not what I say myself."""
        for text, meant in (
            ("alice?", True),
            ("hi Alice", True),
            ("@alice: x", True),
            ("malice", False),
            ("alices", False),
            ("hi", False),
        ):
            self.assertEqual(is_for(said(text), "alice"), meant, text)
        self.assertTrue(is_for(said("x", "bob", "alice"), "alice"))
        self.assertFalse(is_for(said("alice", "alice"), "alice"))
        self.assertTrue(is_for(said("a.b (c) says"), "a.b (c)"))
        self.assertFalse(is_for(said("aXb (c)"), "a.b (c)"))
