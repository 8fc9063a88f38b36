"""The line that is being typed, what was typed before, and what Tab makes of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.chat.events import (
    Event,
    FileList,
    Headcount,
    Joined,
    Kind,
    Listed,
    Presence,
    Request,
    UserList,
)
from chatbox.client.commands import COMMANDS
from chatbox.client.terminal import history
from chatbox.client.terminal.complete import (
    MAX_CANDIDATES,
    TAKES,
    Completion,
    Takes,
    complete,
    shared_beginning,
)
from chatbox.client.terminal.editor import EDITS, MAX_TYPED, Control, Editor
from chatbox.client.terminal.history import History
from chatbox.client.terminal.keys import Key, Keystroke, Pasted, Typed
from chatbox.client.terminal.roster import MAX_KNOWN, Roster

KNOWN = {
    Takes.PERSON: ("bob", "Bea", "Ann Lee", "zoe"),
    Takes.FILE: ("film.mp4", "a film.mp4", 'say "hi".txt'),
    Takes.DOWNLOAD: ("film.mp4",),
    Takes.SAVED: ("notes.txt",),
    Takes.FOLDER: ("Films/", "My Films/", "My Films/old/", "music/"),
    Takes.NOTHING: (),
}


def completed(text: str, cursor: int | None = None) -> Completion:
    """What Tab may make of it."""
    return complete(text, len(text) if cursor is None else cursor, lambda takes, _: KNOWN[takes])


def keys(script: str) -> list[Keystroke]:
    """Keys from a script: words in <> are keys, all else is typed."""
    pressed: list[Keystroke] = []
    for part in script.replace("<", "\0<").replace(">", ">\0").split("\0"):
        if part.startswith("<"):
            pressed.append(Key(part[1:-1]))
        elif part:
            pressed.append(Typed(part))
    return pressed


class EditorTestCase(SynchronousTestCase):
    """An editor that knows a few names."""

    def setUp(self) -> None:
        self.editor = Editor(completed)

    def press(self, script: str) -> list[str | Control]:
        """Press keys; return what came of them."""
        answers = [self.editor.press(key) for key in keys(script)]
        return [answer for answer in answers if answer is not None]

    def after(self, script: str) -> str:
        """The text after some keys on a new line, with | for the cursor."""
        self.setUp()
        self.press(script)
        text, cursor = self.editor.text, self.editor.cursor
        return f"{text[:cursor]}|{text[cursor:]}"


class EditingTests(EditorTestCase):
    """Each key does what it does in a shell."""

    def test_moving_and_changing(self) -> None:
        """Keys on a text, and what stands there then."""
        for script, expected in {
            "abc": "abc|",
            "abc<left><left>x": "ax|bc",
            "abc<home>x<end>y": "xabcy|",
            "abc<ctrl-a><right><ctrl-f>x": "abx|c",
            "abc<backspace><backspace>": "a|",
            "abc<home><delete>": "|bc",
            "abc<ctrl-b><ctrl-d>": "ab|",
            "one two<alt-b>x": "one x|two",
            "one two<ctrl-left><ctrl-left>": "|one two",
            "one two<home><alt-f>": "one| two",
            "one two <home><alt-right><alt-right>": "one two| ",
            "one two<left><ctrl-k>": "one tw|",
            "one two<left><ctrl-u>": "|o",
            "/msg a-b/c<ctrl-w>": "/msg |",
            "a-b/c<alt-backspace>": "a-b/|",
            "one two<home><alt-d>": "| two",
            "one two<alt-backspace><ctrl-y><ctrl-y>": "one twotwo|",
            "one two<ctrl-w><ctrl-w><ctrl-y>": "one two|",
            "one two<home><alt-d><alt-d><end>, <ctrl-y>": ", one two|",
            "ab<ctrl-w>c<ctrl-w><ctrl-y>": "c|",
            "ab<ctrl-t>": "ba|",
            "abc<left><left><ctrl-t>": "ba|c",
            "a<alt-enter>b": "a\nb|",
            "abc<ctrl-c>d": "d|",
            "abc<page-up><f13>": "abc|",
        }.items():
            self.assertEqual(self.after(script), expected, script)

    def test_graphemes(self) -> None:
        """What is seen as one character is moved over, taken away and swapped as one."""
        for one in ("👩\u200d🚀", "e\u0301", "🇩🇪", "❤\ufe0f", "日"):
            self.assertEqual(self.after(f"a{one}b<left><left>x"), f"ax|{one}b")
            self.assertEqual(self.after(f"a{one}<backspace>"), "a|")
            self.assertEqual(self.after(f"{one}b<home><delete>"), "|b")
            self.assertEqual(self.after(f"a{one}<ctrl-t>"), f"{one}a|")

    def test_nothing_to_do(self) -> None:
        """A key that can do nothing says so and changes nothing."""
        for key in ("backspace", "delete", "ctrl-k", "ctrl-w", "ctrl-t", "up", "down", "tab"):
            self.assertEqual(self.press(f"<{key}>"), [Control.REFUSED], key)

    def test_controls(self) -> None:
        """Ctrl-C and Ctrl-D are for the program only if nothing is typed."""
        self.assertEqual(self.press("<ctrl-c><ctrl-d>"), [Control.INTERRUPT, Control.END])
        self.assertEqual(self.press("<ctrl-z><ctrl-l>"), [Control.SUSPEND, Control.REPAINT])
        self.assertEqual(self.press("abc<home><ctrl-d><ctrl-c>"), [])
        self.assertEqual(self.editor.text, "")

    def test_entering(self) -> None:
        """Enter gives the whole line, wherever the cursor is."""
        self.assertEqual(self.press("abc<home><enter>"), ["abc"])
        self.assertEqual((self.editor.text, self.editor.cursor), ("", 0))

    def test_paste(self) -> None:
        """Pasted lines are one text and not entered; what a terminal might obey is taken out."""
        self.editor.press(Pasted("\none\ttwo\n\x1b[31mthree\u202e\n"))
        self.assertEqual(self.editor.text, "one two\n[31mthree")
        self.assertEqual(self.press("<enter>"), ["one two\n[31mthree"])

    def test_bound(self) -> None:
        """A line has room for any message; what does not fit is refused whole."""
        self.assertIsNone(self.editor.press(Pasted("x" * MAX_TYPED)))
        self.assertEqual(self.editor.press(Pasted("y")), Control.TOO_LONG)
        self.assertEqual(self.editor.press(Typed("y")), Control.REFUSED)
        self.assertEqual(self.editor.text, "x" * MAX_TYPED)

    @given(
        st.lists(
            st.one_of(
                st.sampled_from([*EDITS]).map(Key),
                st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=4).map(Typed),
                st.text(max_size=6).map(Pasted),
            ),
            max_size=60,
        )
    )
    def test_any_keys(self, pressed: list[Keystroke]) -> None:
        """Whatever is pressed, the cursor stays in the text and within its bound."""
        editor = Editor(completed)
        for key in pressed:
            editor.press(key)
            self.assertTrue(0 <= editor.cursor <= len(editor.text) <= MAX_TYPED)


class HistoryTests(EditorTestCase):
    """What was typed before."""

    def test_back_and_forth(self) -> None:
        """Up and Down go through the lines, and what was being typed is at the end."""
        self.press("one<enter>two<enter>thr")
        seen = []
        for key in ("up", "up", "up", "down", "down", "down"):
            self.press(f"<{key}>")
            seen.append(self.editor.text)
        self.assertEqual(seen, ["two", "one", "one", "two", "thr", "thr"])

    def test_what_is_kept(self) -> None:
        """Not blanks, not the same twice in a row, and not for ever; a line given up is kept."""
        kept = History()
        for line in ("a", "a", " ", "b", "a"):
            kept.add(line)
        self.assertEqual([kept.older("") for _ in range(4)], ["a", "b", "a", None])
        for number in range(history.MAX_KEPT + 5):
            kept.add(str(number))
        lines = list(iter(lambda: kept.older(""), None))
        self.assertEqual((len(lines), lines[-1]), (history.MAX_KEPT, "5"))
        for number in range(100):
            kept.add(str(number) * (MAX_TYPED // 2))
        lines = list(iter(lambda: kept.older(""), None))
        self.assertEqual(lines[0], "99" * (MAX_TYPED // 2))
        self.assertLessEqual(sum(map(len, lines)), history.MAX_KEPT_CHARACTERS)
        self.assertGreater(sum(map(len, lines)), history.MAX_KEPT_CHARACTERS - 2 * MAX_TYPED)
        self.press("lost<ctrl-c><up>")
        self.assertEqual(self.editor.text, "lost")

    def test_search(self) -> None:
        """Ctrl-R finds the newest line with the letters, again the one before, in either case."""
        self.press("Hello Bob<enter>hello Ann<enter>other<enter>draft")
        self.press("<ctrl-r>HELLO")
        self.assertEqual(self.editor.text, "hello Ann")
        self.assertEqual(self.editor.searched, ("HELLO", True))
        self.press("<ctrl-r>")
        self.assertEqual(self.editor.text, "Hello Bob")
        self.press("<ctrl-r>")
        self.assertEqual(self.editor.text, "Hello Bob")
        self.press("x")
        self.assertEqual(self.editor.searched, ("HELLOx", False))
        self.press("<backspace>")
        self.assertEqual(self.editor.text, "hello Ann")
        self.assertEqual(self.press("<enter>"), ["hello Ann"])
        self.assertIsNone(self.editor.searched)

    def test_search_given_up(self) -> None:
        """Ctrl-G and Ctrl-C bring back what was being typed; another key keeps what was found."""
        self.press("hello<enter>draft")
        for key in ("ctrl-g", "ctrl-c"):
            self.press(f"<ctrl-r>hel<{key}>")
            self.assertEqual((self.editor.text, self.editor.searched), ("draft", None))
        self.press("<ctrl-r>hel<left>x")
        self.assertEqual(self.editor.text, "hellxo")


class CompletionTests(EditorTestCase):
    """What Tab makes of a word."""

    def test_commands(self) -> None:
        """A slash and some letters are a command; every command can be completed."""
        self.assertEqual(completed("/que"), Completion(0, ()))
        self.assertEqual(completed("/QU"), Completion(0, ("/quit ",)))
        self.assertEqual(completed("/").candidates, tuple(f"/{name} " for name in sorted(COMMANDS)))
        self.assertEqual(set(TAKES) - set(COMMANDS), set())

    def test_people(self) -> None:
        """Names stand for people: with a colon where a line begins, quoted in a command."""
        for text, expected in {
            "b": Completion(0, ("Bea: ", "bob: ")),
            "hi b": Completion(3, ("Bea ", "bob ")),
            "one\nzo": Completion(4, ("zoe ",)),
            "@zo": Completion(1, ("zoe ",)),
            "/msg b": Completion(5, ("Bea ", "bob ")),
            "/msg an": Completion(5, ('"Ann Lee" ',)),
            '/msg "ann l': Completion(5, ('"Ann Lee" ',)),
            "/msg bob zo": Completion(9, ("zoe ",)),
            "/reply zo": Completion(9, ()),
            "/kick zo": Completion(6, ("zoe ",)),
            "//msg b": Completion(6, ("Bea ", "bob ")),
            "x": Completion(0, ()),
            "": Completion(0, ()),
            "hi ": Completion(3, ()),
        }.items():
            self.assertEqual(completed(text), expected, text)

    def test_files(self) -> None:
        """Files of the server, of downloads on their way, and of those that have come."""
        for text, expected in {
            "/download fi": Completion(10, ("film.mp4 ",)),
            "/get a": Completion(5, ('"a film.mp4" ',)),
            "/get 'a f": Completion(5, ("'a film.mp4' ",)),
            "/get say": Completion(5, ("'say \"hi\".txt' ",)),
            "/cancel ": Completion(8, ("film.mp4 ",)),
            "/open n": Completion(6, ("notes.txt ",)),
            "/limit f": Completion(7, ()),
            "/limit 5MB f": Completion(11, ("film.mp4 ",)),
            "/limit 5MB  f": Completion(12, ("film.mp4 ",)),
            "/get film.mp4 x": Completion(14, ()),
        }.items():
            self.assertEqual(completed(text), expected, text)

    def test_folders(self) -> None:
        """Where a file may be saved to; the path may go on there, and deeper."""
        for text, expected in {
            "/get film.mp4 f": Completion(14, ("Films/",)),
            "/download  'a film.mp4'  m": Completion(
                25, ("music/", '"My Films/"', '"My Films/old/"')
            ),
            "/get a 'my": Completion(7, ("'My Films/'", "'My Films/old/'")),
            '/get a "My Films/"': Completion(7, ('"My Films/"', '"My Films/old/"')),
            "/get 'a m": Completion(5, ()),
            "/get a Films/ m": Completion(15, ()),
            "/open a m": Completion(9, ()),
        }.items():
            self.assertEqual(completed(text), expected, text)
        self.assertEqual(self.after("/get a f<tab>x.mp4"), "/get a Films/x.mp4|")

    def test_only_what_is_typed_is_looked_up(self) -> None:
        """Who knows the names hears of which kind they are to be, and how they begin."""
        asked: list[tuple[Takes, str]] = []

        def known(takes: Takes, beginning: str) -> tuple[str, ...]:
            asked.append((takes, beginning))
            return ()

        for text in ('/get "a b', "/get a ~/vi", '/get a "b c/"', "/msg an", "@an"):
            complete(text, len(text), known)
        self.assertEqual(
            asked,
            [
                (Takes.FILE, "a b"),
                (Takes.FOLDER, "~/vi"),
                (Takes.FOLDER, "b c/"),
                (Takes.PERSON, "an"),
                (Takes.PERSON, "an"),
            ],
        )

    def test_many(self) -> None:
        """More than anybody looks through are not offered."""
        names = [f"user{number}" for number in range(1000)]
        self.assertEqual(len(complete("u", 1, lambda *_: names).candidates), MAX_CANDIDATES)

    def test_shared_beginning(self) -> None:
        """What all have in common, to the letter."""
        self.assertEqual(shared_beginning(("/download ", "/downloads ")), "/download")
        self.assertEqual(shared_beginning(("Bea", "bob")), "")

    def test_tab(self) -> None:
        """One candidate is put in, of several what they share; then Tab goes through them."""
        self.assertEqual(self.after("zo<tab>hi"), "zoe: hi|")
        self.assertEqual(self.after("zo, hi<home><right><right><tab>"), "zoe: |, hi")
        self.assertEqual(self.after("/dow<tab>"), "/download|")
        self.assertEqual(self.after("/dow<tab><tab><tab>"), "/downloads |")
        self.assertEqual(self.after("/dow<tab><tab><tab><tab>"), "/download |")
        self.assertEqual(self.after("b<tab><shift-tab>"), "bob: |")
        self.assertEqual(self.editor.candidates, (("Bea: ", "bob: "), 1))
        self.press("!")
        self.assertEqual(self.editor.candidates, ((), -1))
        self.assertEqual(self.editor.text, "bob: !")


class RosterTests(SynchronousTestCase):
    """Who and what is there, from what goes by."""

    def test_news(self) -> None:
        """Lists replace what was known; comings and goings change it."""
        roster = Roster()
        request = Request(1, Kind.USERS)
        news: list[Event] = [
            Joined("alice", ""),
            UserList(request, ("alice", "bob", "\x1b[2J")),
            Presence("carol", True),
            Presence("bob", False),
            Presence("da\u202eve", True),
            FileList(request, (Listed("a", 1), Listed("\x07", None))),
        ]
        for event in news:
            roster.hear(event)
        self.assertEqual(list(roster.people), ["alice", "carol"])
        self.assertEqual(roster.files, ("a",))
        self.assertEqual(roster.count, 4)  # with those whose names cannot be shown
        roster.hear(Headcount(5000))
        self.assertEqual(roster.count, 5000)

    def test_not_counted_yet(self) -> None:
        """Until the server has told who is here, nobody counts those who come."""
        roster = Roster()
        roster.hear(Presence("alice", True))
        self.assertEqual((list(roster.people), roster.count), (["alice"], 0))
        roster.hear(UserList(Request(1, Kind.USERS), ("bob", "alice")))
        self.assertEqual(roster.count, 2)

    def test_bound(self) -> None:
        """A server may send any number of names; so many are remembered."""
        roster = Roster()
        names = tuple(map(str, range(MAX_KNOWN + 1)))
        roster.hear(UserList(Request(1, Kind.USERS), names))
        roster.hear(Presence("one more", True))
        roster.hear(FileList(Request(1, Kind.FILES), tuple(Listed(name, 1) for name in names)))
        self.assertEqual((len(roster.people), len(roster.files)), (MAX_KNOWN, MAX_KNOWN))
