"""What a person types becomes an action."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.actions import (
    Action,
    FetchFile,
    Help,
    Limit,
    Moderate,
    OpenFile,
    Quit,
    Reply,
    Say,
    ShowBans,
    ShowDownloads,
    ShowFiles,
    ShowHistory,
    ShowOnline,
    Steer,
    Steering,
)
from chatbox.client.chat.events import EVERYONE, Kind
from chatbox.client.commands import COMMANDS, MAX_HISTORY, BadCommand, help_lines, parse
from chatbox.text import is_printable


class ParseTests(SynchronousTestCase):
    """From a typed line to an action."""

    def complaint(self, line: str) -> str:
        """What is said about a line that cannot be understood."""
        return str(self.assertRaises(BadCommand, parse, line))

    def test_plain_lines_are_broadcasts(self) -> None:
        """Anything that does not begin with a slash is said to everyone, just as it is."""
        for line in ("hello", 'it\'s "fine" \\o/', "  indented", "a / b", "'"):
            self.assertEqual(parse(line), Say(line, EVERYONE))

    def test_nothing(self) -> None:
        """An empty line says nothing."""
        for line in ("", "  ", "\t"):
            self.assertIsNone(parse(line))

    def test_two_slashes(self) -> None:
        """A text may begin with a slash."""
        self.assertEqual(parse("//me waves"), Say("/me waves"))
        self.assertEqual(parse("///"), Say("//"))

    def test_commands(self) -> None:
        """Every command, as people type it."""
        cases: dict[str, Action] = {
            "/online": ShowOnline(),
            "/ONLINE  ": ShowOnline(),
            "/who": ShowOnline(),
            "/files": ShowFiles(),
            "/reply it's   fine": Reply("it's   fine"),
            "/downloads": ShowDownloads(),
            "/open": OpenFile(),
            "/open 'a film.mp4'": OpenFile("a film.mp4"),
            "/msg bob hi there": Say("hi there", "bob"),
            '/msg "Ann Lee" it\'s me': Say("it's me", "Ann Lee"),
            "/msg 'Ann Lee'   see you": Say("see you", "Ann Lee"),
            "/msg O'Neil don't \"quote\" me": Say('don\'t "quote" me', "O'Neil"),
            "/msg 'tis a text": Say("a text", "'tis"),
            "/download b.iso": FetchFile("b.iso"),
            "/download \"a film.mp4\" 'my film.mp4'": FetchFile("a film.mp4", "my film.mp4"),
            "/download it's.txt /tmp/it.txt": FetchFile("it's.txt", "/tmp/it.txt"),
            "/download 'it\"s a.txt'": FetchFile('it"s a.txt'),
            '/download b.iso ""': FetchFile("b.iso"),
            "/get b.iso": FetchFile("b.iso", None, pause_half_way=False),
            "/get 'a b' c": FetchFile("a b", "c", pause_half_way=False),
            "/limit 500kB": Limit(500_000),
            "/limit 8Mbit 'a film'": Limit(1_000_000, "a film"),
            "/limit NONE b.iso": Limit(None, "b.iso"),
            "/proceed": Steer(Steering.PROCEED),
            "/pause b.iso": Steer(Steering.PAUSE, "b.iso"),
            "/cancel 'a b'": Steer(Steering.CANCEL, "a b"),
            "/history": ShowHistory(20),
            "/history 7": ShowHistory(7),
            "/kick bob": Moderate(Kind.KICK, "bob"),
            "/kick 'Ann Lee' 5m is enough": Moderate(Kind.KICK, "Ann Lee", None, "5m is enough"),
            "/ban 192.0.2.0/24 7d spam, again": Moderate(
                Kind.BAN, "192.0.2.0/24", 604_800, "spam, again"
            ),
            "/ban bob after 7 days of spam": Moderate(
                Kind.BAN, "bob", None, "after 7 days of spam"
            ),
            "/ban bob 2nd warning": Moderate(Kind.BAN, "bob", None, "2nd warning"),
            "/mute address:bob 30m": Moderate(Kind.MUTE, "address:bob", 1800),
            "/unban 2001:db8::/32": Moderate(Kind.UNBAN, "2001:db8::/32"),
            "/unmute 'Ann Lee'": Moderate(Kind.UNMUTE, "Ann Lee"),
            "/bans": ShowBans(),
            "/help": Help(),
            "/help operators": Help(operators=True),
            "/quit": Quit(),
        }
        for line, action in cases.items():
            self.assertEqual(parse(line), action, line)
        typed = {line[1:].split()[0].casefold() for line in cases}
        self.assertEqual(typed, set(COMMANDS))

    def test_unknown_command(self) -> None:
        """It is named, /help is suggested, and so is a command that is nearly the same."""
        self.assertIn("/help", self.complaint("/wave"))
        self.assertIn("/wave", self.complaint("/wave"))
        self.assertIn("Did you mean /download?", self.complaint("/downlod x"))
        self.assertIn("type two", self.complaint("/ hello"))
        self.assertTrue(is_printable(self.complaint("/\x1b[2J")))

    def test_wrong_arguments(self) -> None:
        """Too few, too many or wrong arguments are answered with how to type it."""
        for line in (
            "/msg",
            "/msg bob",
            "/msg bob   ",
            '/msg "" text',
            "/reply",
            "/reply  ",
            "/open a b",
            "/downloads now",
            "/download",
            '/download ""',
            "/download a b c",
            "/get",
            "/get a b c",
            "/limit",
            "/limit fast",
            "/limit 1MB a b",
            "/online now",
            "/history 0",
            "/history -1",
            "/history ten",
            f"/history {MAX_HISTORY + 1}",
            f"/history {'9' * 5000}",
            "/pause a b",
            "/quit now",
            "/kick",
            "/ban bob 0m",
            "/ban bob 30min",
            "/mute bob 1.5H of quiet",
            "/mute bob 2hours",
            "/ban bob 30",
            "/mute bob 30 minutes",
            "/unmute bob now",
        ):
            command = COMMANDS[line[1:].split()[0]]
            self.assertIn(f"Type: {command.usage}", self.complaint(line), line)

    @given(st.text())
    def test_any_line(self, line: str) -> None:
        """Whatever is typed is an action, nothing, or a complaint; plain text is never altered."""
        try:
            action = parse(line)
        except BadCommand as error:
            self.assertTrue(line.startswith("/"))
            self.assertTrue(is_printable(str(error)))
        else:
            if line.strip() and not line.startswith("/"):
                self.assertEqual(action, Say(line))

    def test_help(self) -> None:
        """Every command has a line of its own, and it all fits a small screen."""
        for operators in (False, True):
            lines = help_lines(operators=operators)
            for command in COMMANDS.values():
                found = sum(f"  {command.usage}" in line for line in lines)
                self.assertEqual(found, command.operators == operators, command.name)
            self.assertLessEqual(len(lines), 20)
            self.assertLessEqual(max(map(len, lines)), 79)
        self.assertIn("/online, /who  ", "".join(help_lines()))
