"""What stands on the terminal, and the fewest bytes that make it so.

There are two parts. Lines that are *printed* are ordinary output: they scroll up and are the
terminal's from then on. Below the last one is the *foot*, a few rows that are drawn again and
again: downloads, a status, the line being typed. The screen knows where the cursor is in relation
to the foot and never needs to know where the foot is on the terminal. So it needs no answers from
the terminal, and works from the first row on, in whatever stands there already.

What is written: for a change of the foot, the changed end of each changed row; for printed lines,
those lines and the foot, which they have moved. All that a turn of the program changes is written
at once, when `draw` is called.

Widths. Rows are broken here, not by the terminal, whose own wrapping is off meanwhile. For one,
where a program and a terminal disagree about the width of some emoji, the row is then wrong but not
the place of all rows after it. For another, what follows the break can be indented, so that nobody
can send a text whose second row looks like the message of somebody else. Columns are always set
by number, never counted on.

A change of the size is the one time when nobody knows what stands where: some terminals break
their rows anew, others cut them. Then the visible part is written again from the last lines, which
are kept for that. What stood there before us is first scrolled away, not wiped out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import groupby, takewhile
from typing import Final, NamedTuple

from chatbox.client.width import MAX_GRAPHEME, columns_of, graphemes
from chatbox.text import printable

__all__ = [
    "BELL",
    "INDENT",
    "MAX_KEPT",
    "RESET",
    "Line",
    "Screen",
    "Span",
    "line_of",
    "wrap",
]

MAX_KEPT: Final = 500
"""Printed lines that are remembered, to fill a terminal again: more rows than any has. For all that
is older there is the terminal's own memory."""

INDENT: Final = 6
"""Columns before what follows a break: what a time of day takes."""

MIN_COLUMNS: Final = 8
"""On a narrower terminal rows are written as if it were that wide, and cut."""

BELL: Final = "\a"

# No wrapping by the terminal; pasted text is marked as such. And back to the usual.
_MODES_ON: Final = "\x1b[?7l\x1b[?2004h"
_MODES_OFF: Final = "\x1b[?2004l\x1b[?7h"
_ERASE_ROW: Final = "\x1b[K"
_ERASE_BELOW: Final = "\x1b[J"
_PLAIN: Final = "\x1b[0m"

RESET: Final = f"{_PLAIN}\r{_ERASE_BELOW}{_MODES_OFF}"
"""Makes a terminal usable in whatever state we leave it."""


class Span(NamedTuple):
    """Text of one style (see `style`)."""

    text: str
    style: str = ""


Line = tuple[Span, ...]


class _Cell(NamedTuple):
    """One grapheme of a row."""

    text: str
    style: str
    columns: int


_Row = list[_Cell]


def line_of(text: str, style: str = "") -> Line:
    """A line of one style."""
    return (Span(text, style),)


def wrap(line: Line, columns: int) -> list[Line]:
    """Break a line into rows of at most so many columns, at blanks where there are any.

    At least `MIN_COLUMNS`. What comes out is printable, whatever went in.
    """
    plain = all(span.text.isascii() and span.text.isprintable() for span in line)
    if plain and sum(len(span.text) for span in line) <= columns:
        return [line]  # as nearly all are
    margin = _Cell(" " * (indent := min(INDENT, columns // 3)), "", indent)
    rows: list[Line] = []
    row: _Row = []
    used = 0
    blank_at = 0  # the place in `row` after its last blank, where it may be broken
    for cell in _cells(line):
        if cell.text == " " and used >= columns:
            blank_at = len(row)  # it is where the row ends
            continue
        if used + cell.columns > columns:
            word = indent + _columns(row[blank_at:]) + cell.columns
            at = blank_at if blank_at and word <= columns else len(row)
            rows.append(_joined(row[:at]))
            row = [margin, *row[at:]]
            used = _columns(row)
            blank_at = 0
        row.append(cell)
        used += cell.columns
        if cell.text == " ":
            blank_at = len(row)
    rows.append(_joined(row))
    return rows


def _cells(line: Line) -> Iterable[_Cell]:
    for text, style in line:
        for grapheme in graphemes(printable(text)):
            yield _Cell(grapheme[:MAX_GRAPHEME], style, columns_of(grapheme))


def _columns(row: Iterable[_Cell]) -> int:
    return sum(cell.columns for cell in row)


def _joined(row: Iterable[_Cell]) -> Line:
    return tuple(
        Span("".join(cell.text for cell in cells), style)
        for style, cells in groupby(row, key=lambda cell: cell.style)
    )


def _written(line: Line) -> str:
    return "".join(
        f"\x1b[{span.style}m{span.text}{_PLAIN}" if span.style else span.text for span in line
    )


class Screen:
    """A terminal that we have, from the row down where the cursor was at `begin`."""

    def __init__(self) -> None:
        self.columns = MIN_COLUMNS
        self.rows = 1
        self._kept: deque[Line] = deque(maxlen=MAX_KEPT)
        self._new: list[Line] = []
        self._foot: Sequence[Line] = ()
        self._wanted = (0, 0)  # where the cursor belongs, in rows and columns of the foot
        self._drawn: list[_Row] = []
        self._at = (0, 0)  # where it is
        self._rings = False
        self._repaints = False
        self._top_is_ours = False
        self._printed_rows = 0

    # What should be there

    def print(self, line: Line) -> None:
        """Print a line above the foot."""
        self._new.append(line)
        self._kept.append(line)

    def set_foot(self, rows: Sequence[Line], cursor: tuple[int, int]) -> None:
        """The rows at the bottom, none wider than the screen, and the cursor's row and column."""
        self._foot = rows
        self._wanted = cursor

    def ring(self) -> None:
        """Ring the bell."""
        self._rings = True

    def resize(self, columns: int, rows: int) -> None:
        """The terminal has another size, or has had one in between."""
        self._set_size(columns, rows)
        self._repaints = True

    def repaint(self) -> None:
        """Write everything again that is to be seen."""
        self._repaints = True

    # What has to be written for that

    def begin(self, columns: int, rows: int) -> str:
        """We have the terminal, for the first time or again; the cursor is on a row of its own."""
        self._set_size(columns, rows)
        self._repaints = False  # what stands there now is not ours
        self._drawn = []
        self._at = (0, 0)
        return f"\r{_MODES_ON}"

    def end(self) -> str:
        """We give the terminal back: the foot goes, and the cursor stands where it began."""
        text = f"{self._go(0, 0)}{_ERASE_BELOW}{_MODES_OFF}"
        self._drawn = []
        return text

    def draw(self) -> str:
        """Make it so."""
        written: list[str] = []
        if self._repaints:
            written += self._repainted()
        elif self._new:
            written += self._printed()
        written += self._foot_drawn()
        written.append(self._go(*self._wanted))
        if self._rings:
            written.append(BELL)
        self._rings = self._repaints = False
        self._new = []
        return "".join(written)

    # How it works

    def _set_size(self, columns: int, rows: int) -> None:
        self.columns = max(columns, MIN_COLUMNS)
        self.rows = max(rows, 1)

    def _printed(self) -> Iterable[str]:
        """Write the new lines where the foot stands, which makes place for them."""
        yield self._go(0, 0)
        if self._drawn:
            yield _ERASE_BELOW
        yield from self._written_rows(row for line in self._new for row in wrap(line, self.columns))

    def _repainted(self) -> Iterable[str]:
        """Wipe the terminal, and fill it again from the lines that are kept."""
        if not self._top_is_ours and self._printed_rows < self.rows:
            # What stands there before our first line is not ours to wipe.
            yield f"\x1b[{self.rows}H" + "\n" * self.rows
        self._top_is_ours = True
        yield f"\x1b[H{_ERASE_BELOW}"
        self._at = (0, 0)
        new = [row for line in self._new for row in wrap(line, self.columns)]
        room = max(0, self.rows - len(self._foot) - len(new))
        old: list[Line] = []
        for index in range(len(self._kept) - len(self._new) - 1, -1, -1):
            if len(old) >= room:
                break
            old[:0] = wrap(self._kept[index], self.columns)
        yield from self._written_rows([*old[len(old) - room if len(old) > room else 0 :], *new])

    def _written_rows(self, rows: Iterable[Line]) -> Iterable[str]:
        for row in rows:
            yield f"{_written(row)}\r\n"
            self._printed_rows += 1
        self._drawn = []

    def _foot_drawn(self) -> Iterable[str]:
        """Write what differs between the foot that is there and the one that should be."""
        wanted = [list(_cells(line)) for line in self._foot]
        for index, row in enumerate(wanted):
            if index >= len(self._drawn):
                if index:
                    yield self._go(index - 1) + "\r\n"
                    self._at = (index, 0)
                self._drawn.append([])
            yield from self._row_changed(index, self._drawn[index], row)
        if len(self._drawn) > len(wanted) > 0:
            yield self._go(len(wanted))
            yield f"\r{_ERASE_BELOW}"
            self._at = (len(wanted), 0)
        self._drawn = wanted

    def _row_changed(self, index: int, old: _Row, new: _Row) -> Iterable[str]:
        if old == new:
            return
        pairs = takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))
        same = sum(1 for _ in pairs)
        column = _columns(new[:same])
        yield self._go(index, column)
        yield _written(_joined(new[same:]))
        used = _columns(new)
        if used < _columns(old):
            yield _ERASE_ROW
        self._at = (index, used)

    def _go(self, row: int, column: int | None = None) -> str:
        """Move the cursor to a place in the foot, if it is not there; None is any column."""
        at_row, at_column = self._at
        text = ""
        if row != at_row:
            text += f"\x1b[{abs(row - at_row)}{'A' if row < at_row else 'B'}"
        if column is not None and column != at_column:
            text += f"\x1b[{column + 1}G" if column else "\r"
        self._at = (row, at_column if column is None else column)
        return text
