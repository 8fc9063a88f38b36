"""A terminal for tests: pyte reads what was written to it, as a person would see it."""

from __future__ import annotations

import pyte

__all__ = ["Emulator"]


class _Screen(pyte.HistoryScreen):
    bells = 0

    def bell(self, *_: object) -> None:
        self.bells += 1


class Emulator:
    """A terminal of some size, with the rows that have scrolled off its top."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.screen = _Screen(columns, rows, history=100_000, ratio=0.5)
        self._stream = pyte.Stream(self.screen)

    def feed(self, text: str) -> None:
        """Something is written to it."""
        self._stream.feed(text)

    def resize(self, columns: int, rows: int) -> None:
        """Its window has another size."""
        self.screen.resize(rows, columns)

    @property
    def bells(self) -> int:
        """How often the bell has rung."""
        return self.screen.bells

    @property
    def rows(self) -> list[str]:
        """What is to be seen, without blanks at the ends and empty rows at the bottom."""
        return "\n".join(row.rstrip() for row in self.screen.display).rstrip("\n").split("\n")

    @property
    def scrolled_off(self) -> list[str]:
        """What was to be seen before, and can be by scrolling back."""
        return [
            "".join(row[column].data for column in sorted(row)).rstrip()
            for row in self.screen.history.top
        ]

    @property
    def cursor(self) -> tuple[int, int]:
        """The row and column of the cursor."""
        return self.screen.cursor.y, self.screen.cursor.x

    def styles(self, row: int) -> set[str]:
        """The colours of the letters in a row."""
        cells = self.screen.buffer[row]
        return {cells[at].fg for at in range(self.screen.columns) if cells[at].data.strip()}
