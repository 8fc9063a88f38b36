"""What is written to a terminal, read by an emulator: the right rows, and few bytes."""

from __future__ import annotations

from dataclasses import astuple

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.config import Colours
from chatbox.client.terminal.screen import (
    INDENT,
    MAX_KEPT,
    MIN_COLUMNS,
    Line,
    Screen,
    Span,
    line_of,
    wrap,
)
from chatbox.client.terminal.style import (
    COLOURS_8,
    COLOURS_256,
    EIGHT,
    MANY,
    PLAIN,
    palette_for,
)
from chatbox.client.width import MAX_GRAPHEME, clip, graphemes, width
from chatbox.text import is_printable
from tests.helpers.emulator import Emulator


def text_of(row: Line) -> str:
    """A row without its styles."""
    return "".join(span.text for span in row)


class WidthTests(SynchronousTestCase):
    """How many columns text takes."""

    def test_widths(self) -> None:
        """Wide letters and emoji take two, marks and joiners none, whatever they consist of."""
        for text, columns in {
            "": 0,
            "abc": 3,
            "e\u0301": 1,
            "日本": 4,
            "ｆｕｌｌ": 8,
            "👩\u200d🚀": 2,
            "👨\u200d👩\u200d👧\u200d👦": 2,
            "❤\ufe0f": 2,
            "👍🏽": 2,
            "🇩🇪🇫🇷": 4,
            "שלום": 4,
            "a\u200bb": 2,
            "한국": 4,
            "\N{REPLACEMENT CHARACTER}": 1,
        }.items():
            self.assertEqual(width(text), columns, text)

    def test_clip(self) -> None:
        """Text is cut by columns, and never within what is seen as one character."""
        self.assertEqual(clip("abc", 2), "ab")
        self.assertEqual(clip("abc", 80), "abc")
        self.assertEqual(clip("日本", 3), "日")
        self.assertEqual(clip("e\u0301e\u0301", 1), "e\u0301")
        self.assertEqual(clip("a👩\u200d🚀b", 2), "a")
        self.assertEqual(clip("a👩\u200d🚀b", 3), "a👩\u200d🚀")

    @given(st.text(), st.integers(0, 20))
    def test_any_text(self, text: str, columns: int) -> None:
        """Graphemes are the text, and what is clipped fits."""
        self.assertEqual("".join(graphemes(text)), text)
        self.assertLessEqual(width(clip(text, columns)), columns)


class WrapTests(SynchronousTestCase):
    """Where rows are broken."""

    def wrapped(self, text: str, columns: int) -> list[str]:
        """The rows of a text."""
        return [text_of(row) for row in wrap(line_of(text), columns)]

    def test_breaks(self) -> None:
        """At blanks if possible, and what follows is indented, so that no row looks like another's
        message."""
        self.assertEqual(
            self.wrapped("12:00 bob: one two 12:00 carol: hi", 20),
            ["12:00 bob: one two ", "      12:00 carol: ", "      hi"],
        )
        self.assertEqual(
            self.wrapped("12:00 bob: " + "x" * 30, 20),
            ["12:00 bob: ", "      " + "x" * 14, "      " + "x" * 14, "      xx"],
        )
        self.assertEqual(self.wrapped("日本語日本語", 8), ["日本語日", "  本語"])
        self.assertEqual(self.wrapped("12345678 1", 8), ["12345678", "  1"])
        self.assertEqual(self.wrapped("1234567  " + " " * 20, 8), ["1234567 "])

    def test_styles_are_kept(self) -> None:
        """A break in the middle of a style does not end it."""
        rows = wrap((Span("ab "), Span("cdef ghij", "1")), 8)
        self.assertEqual(rows, [(Span("ab "), Span("cdef ", "1")), (Span("  "), Span("ghij", "1"))])

    @given(st.text(), st.integers(MIN_COLUMNS, 30))
    def test_any_text(self, text: str, columns: int) -> None:
        """No row is too wide, none but the first begins with text, and all of it is there."""
        first, *more = self.wrapped(text, columns)
        indent = " " * min(INDENT, columns // 3)
        self.assertTrue(all(row.startswith(indent) for row in more))
        for row in (first, *more):
            self.assertLessEqual(width(row), columns)
            self.assertTrue(is_printable(row))
        if all(len(one) <= MAX_GRAPHEME for one in graphemes(text)):
            shown = "".join([first, *(row[len(indent) :] for row in more)])
            self.assertEqual(len(shown.replace(" ", "")), len(text.replace(" ", "")))

    def test_pile_of_marks(self) -> None:
        """A thousand marks on one letter would paint over other rows; a few dozen are shown."""
        (row,) = self.wrapped("a" + "\u0301" * 1000 + "b", 8)
        self.assertEqual(len(row), MAX_GRAPHEME + 1)


class ScreenTestCase(SynchronousTestCase):
    """A screen, and an emulator that shows what it writes."""

    columns, rows = 40, 8

    def setUp(self) -> None:
        self.screen = Screen()
        self.emulator = Emulator(self.columns, self.rows)
        self.emulator.feed("$ chatbox\r\n" + self.screen.begin(self.columns, self.rows))

    def draw(self, *foot: str, cursor: tuple[int, int] | None = None) -> str:
        """Draw this foot; return what was written for it."""
        if foot:
            at = cursor or (len(foot) - 1, len(foot[-1]))
            self.screen.set_foot([line_of(row) for row in foot], at)
        written = self.screen.draw()
        self.emulator.feed(written)
        return written

    def say(self, *texts: str) -> None:
        """Print lines."""
        for text in texts:
            self.screen.print(line_of(text))

    def resize(self, columns: int, rows: int) -> None:
        """The window gets another size."""
        self.emulator.resize(columns, rows)
        self.screen.resize(columns, rows)


class ScreenTests(ScreenTestCase):
    """What stands where."""

    def test_foot_below_what_is_said(self) -> None:
        """Lines are printed above the foot, which moves down, and then they scroll."""
        self.draw("status", "> typed")
        self.say("one")
        self.draw()
        self.assertEqual(self.emulator.rows, ["$ chatbox", "one", "status", "> typed"])
        self.assertEqual(self.emulator.cursor, (3, 7))
        self.say(*map(str, range(20)))
        self.draw()
        self.assertEqual(self.emulator.rows, [*map(str, range(14, 20)), "status", "> typed"])
        self.assertEqual(self.emulator.cursor, (7, 7))
        self.assertEqual(self.emulator.scrolled_off, ["$ chatbox", "one", *map(str, range(14))])

    def test_only_what_changed_is_written(self) -> None:
        """A letter is a letter; a row's end is its end; nothing is nothing."""
        self.draw("film 10 %", "> ab")
        self.assertEqual(self.draw("film 10 %", "> abc"), "c")
        self.assertEqual(self.draw("film 10 %", "> abc"), "")
        self.assertEqual(self.draw("film 11 %", "> abc"), "\x1b[1A\x1b[7G1 %\x1b[1B\x1b[6G")
        self.assertEqual(self.draw("film 11 %", "> a"), "\x1b[4G\x1b[K")
        self.assertEqual(self.emulator.rows[1:], ["film 11 %", "> a"])

    def test_foot_grows_and_shrinks(self) -> None:
        """Rows come and go, and the cursor is where it should be."""
        for foot in (("> a",), ("one", "two", "> a"), ("two", "> a", "  b"), ("> ",), ("s", "> ")):
            self.draw(*foot)
            self.assertEqual(self.emulator.rows[1:], [row.rstrip() for row in foot])
            self.assertEqual(self.emulator.cursor, (len(foot), len(foot[-1])))

    def test_foot_at_the_bottom(self) -> None:
        """A foot that grows at the bottom scrolls what is above it, and loses none of it."""
        self.say(*map(str, range(20)))
        self.draw("> ")
        self.draw("a", "b", "> ")
        self.assertEqual(self.emulator.rows, ["15", "16", "17", "18", "19", "a", "b", ">"])
        self.draw("> ")
        self.assertEqual(self.emulator.rows, ["15", "16", "17", "18", "19", ">"])
        self.assertEqual(self.emulator.scrolled_off[1:], [str(one) for one in range(15)])

    def test_cursor_within_the_foot(self) -> None:
        """It may stand in any row and column."""
        self.draw("status", "> 日本 ab", "  cd", cursor=(1, 4))
        self.assertEqual(self.emulator.cursor, (2, 4))
        self.draw("status", "> 日本 ab", "  cd", cursor=(2, 3))
        self.assertEqual(self.emulator.cursor, (3, 3))

    def test_wide_letters(self) -> None:
        """What changes behind wide letters is written in its column."""
        self.draw("日本 10 %", "> ")
        self.draw("日本 11 %", "> ")
        self.assertEqual(self.emulator.rows[1], "日本 11 %")

    def test_rows_as_wide_as_the_screen(self) -> None:
        """They take one row each, in the foot and above it."""
        full = "x" * self.columns
        self.say(full, full)
        self.draw(full, "> ")
        self.draw(full[1:], "> ")
        self.assertEqual(self.emulator.rows, ["$ chatbox", full, full, full[1:], ">"])

    def test_widths_that_the_terminal_sees_otherwise(self) -> None:
        """A row that turns out too wide is cut by the terminal; all others stay in place."""
        family = "👨\u200d👩\u200d👧\u200d👦"  # as wide as four to pyte, as to some terminals
        self.say(family * (self.columns // 2), "after")
        self.draw("status", "> ")
        self.assertEqual(self.emulator.rows[2:], ["after", "status", ">"])
        self.draw("other", "> " + family * 3, cursor=(1, 8))
        self.assertEqual(self.emulator.rows[2:4], ["after", "other"])

    def test_hostile_text(self) -> None:
        """Whoever wrote it, nothing that is printed or in the foot moves or colours anything."""
        evil = "a\x1b[2J\x1b[1;1H\x9b31mb\r\n\x07c\u202ed\x1b]0;t\x07"
        self.say(evil)
        self.draw(evil, "> ")
        self.assertEqual(self.emulator.rows[0], "$ chatbox")
        self.assertEqual(self.emulator.rows[3], ">")
        self.assertEqual(self.emulator.bells, 0)
        self.assertEqual(self.emulator.styles(1), {"default"})

    def test_bell(self) -> None:
        """It rings once, however often it was asked for in a turn."""
        self.screen.ring()
        self.screen.ring()
        self.draw("> ")
        self.draw("> ")
        self.assertEqual(self.emulator.bells, 1)

    def test_given_back(self) -> None:
        """The foot goes, and what follows stands below what was said; then we may come again."""
        self.say("one")
        self.draw("status", "> typed")
        self.emulator.feed(self.screen.end() + "[1]+ Stopped\r\n$ fg\r\n")
        self.assertEqual(self.emulator.rows[1:], ["one", "[1]+ Stopped", "$ fg"])
        self.emulator.feed(self.screen.begin(self.columns, self.rows))
        self.say("two")
        self.draw()
        self.assertEqual(
            self.emulator.rows[1:], ["one", "[1]+ Stopped", "$ fg", "two", "status", "> typed"]
        )

    def test_resized_while_it_was_not_ours(self) -> None:
        """What the shell has written meanwhile is not wiped out."""
        self.draw("> ")
        self.emulator.feed(self.screen.end() + "$ fg\r\n")
        self.resize(30, 8)
        self.emulator.feed(self.screen.begin(30, 8))
        self.draw()
        self.assertEqual(self.emulator.rows, ["$ chatbox", "$ fg", ">"])

    def test_modes_are_paired(self) -> None:
        """Every mode that is set is reset."""
        set_modes = set(self.screen.begin(self.columns, self.rows).split("\x1b[")[1:])
        reset = {mode[:-1] + ("h" if mode[-1] == "l" else "l") for mode in set_modes}
        self.assertTrue(reset)
        end = self.screen.end()
        for mode in reset:
            self.assertIn(f"\x1b[{mode}", end)


class ResizeTests(ScreenTestCase):
    """Another size of the window."""

    def test_narrower_and_wider(self) -> None:
        """All that fits is there, broken anew, with the foot below it."""
        self.say(*(f"{number} " + "word " * 6 for number in range(10)))
        self.draw("status", "> typed")
        self.resize(20, 8)
        self.draw()
        rows = [
            row for number in "789" for row in (f"{number}{' word' * 3}", f"     {' word' * 3}")
        ]
        self.assertEqual(self.emulator.rows, [*rows, "status", "> typed"])
        self.resize(60, 12)
        self.draw()
        self.assertEqual(len(self.emulator.rows), 12)
        self.assertEqual(
            self.emulator.rows[-3:], [("9 " + "word " * 6).rstrip(), "status", "> typed"]
        )
        self.assertEqual(self.emulator.cursor, (11, 7))

    def test_what_was_there_before_us(self) -> None:
        """It is scrolled off, once, and not wiped out."""
        self.say("one")
        self.draw("> ")
        for columns in (30, 35, 40):
            self.resize(columns, 8)
            self.draw()
            self.assertEqual(self.emulator.rows, ["one", ">"])
        self.assertEqual(self.emulator.scrolled_off.count("$ chatbox"), 1)

    def test_news_meanwhile(self) -> None:
        """What is said in the same turn is not lost, even if it is more than fits."""
        self.say("old")
        self.draw("> ")
        self.resize(20, 5)
        self.say(*map(str, range(10)))
        self.draw()
        self.assertEqual(self.emulator.rows, ["6", "7", "8", "9", ">"])
        self.assertEqual(self.emulator.scrolled_off[-6:], [str(number) for number in range(6)])

    def test_tiny(self) -> None:
        """On a terminal smaller than the foot nothing breaks."""
        self.say("one", "two")
        for columns, rows in ((3, 2), (1, 1), (2, 3), (40, 8)):
            self.resize(columns, rows)
            self.draw("> ")
        self.assertEqual(self.emulator.rows, ["one", "two", ">"])

    def test_memory(self) -> None:
        """A long talk is not kept but by the terminal."""
        self.say(*map(str, range(3 * MAX_KEPT)))
        self.assertEqual(len(self.screen._kept), MAX_KEPT)


def luminance(number: int) -> float:
    """The relative luminance (WCAG 2.2) of a colour of the palette's cube."""
    levels = (0, 95, 135, 175, 215, 255)
    cube = number - 16
    total = 0.0
    for part, weight in zip((36, 6, 1), (0.2126, 0.7152, 0.0722), strict=True):
        value = levels[cube // part % 6] / 255
        total += weight * (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)
    return total


class StyleTests(SynchronousTestCase):
    """Colours."""

    def test_readable_on_dark_and_light(self) -> None:
        """Every colour of a person has a contrast of 4 with black and with white."""
        for number in COLOURS_256:
            light = luminance(number) + 0.05
            self.assertGreaterEqual(min(1.05 / light, light / 0.05), 4, number)
        self.assertEqual(set(COLOURS_8) & {30, 33, 37}, set())

    def test_a_person_has_a_colour(self) -> None:
        """The same always and in either case, and together people have them all."""
        for palette, colours in ((MANY, COLOURS_256), (EIGHT, COLOURS_8)):
            self.assertEqual(palette.person("Alice"), palette.person("aLICE"))
            self.assertEqual(
                len({palette.person(f"user{number}") for number in range(200)}), len(colours)
            )
        self.assertEqual(MANY.person("alice"), "38;5;130")
        self.assertEqual(PLAIN.person("alice"), "")

    def test_which_palette(self) -> None:
        """As many colours as the terminal has; none by NO_COLOR, unless settled otherwise."""
        xterm, many = {"TERM": "xterm"}, {"TERM": "tmux-256color"}
        self.assertIs(palette_for(xterm), EIGHT)
        self.assertIs(palette_for(many), MANY)
        self.assertIs(palette_for({**xterm, "COLORTERM": "truecolor"}), MANY)
        self.assertIs(palette_for({**many, "NO_COLOR": "1"}), PLAIN)
        self.assertIs(palette_for({**many, "NO_COLOR": ""}), MANY)
        self.assertIs(palette_for({**many, "NO_COLOR": "1"}, Colours.ALWAYS), MANY)
        self.assertIs(palette_for(many, Colours.NEVER), PLAIN)

    def test_no_colours_is_no_codes(self) -> None:
        """Without colours no style at all is written."""
        self.assertEqual(set(astuple(PLAIN)), {(), ""})
