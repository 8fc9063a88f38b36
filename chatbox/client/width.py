"""How many columns text takes on a terminal, and where it may be cut or broken.

What a person sees as one character, a *grapheme* (UAX #29), may be many code points: a letter with
marks, an emoji with its joiners and variation selectors. It is never cut apart here. Nearly all
that is measured is ASCII, where a character is a column; only what is not loads `wcwidth`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

__all__ = ["MAX_GRAPHEME", "clip", "columns_of", "fitted", "graphemes", "width"]

MAX_GRAPHEME: Final = 32
"""Code points of one grapheme that are shown. The Stream-Safe Text Format (UAX #15, section 13)
finds 30 marks on one letter more than any language needs; a thousand would paint over the
neighbouring rows of some terminals."""


def graphemes(text: str) -> list[str]:
    """`text` in pieces that a person sees as one character each; together they are `text`."""
    if text.isascii():
        return list(text)
    from wcwidth import iter_graphemes

    return list(iter_graphemes(text))


def columns_of(grapheme: str) -> int:
    """The columns that one grapheme takes: 0, 1 or 2."""
    return 1 if grapheme.isascii() else _columns(grapheme[:MAX_GRAPHEME])


def width(text: str) -> int:
    """The columns that printable `text` takes."""
    return len(text) if text.isascii() else sum(map(columns_of, graphemes(text)))


def clip(text: str, columns: int) -> str:
    """As much of printable `text` as fits into so many columns, whole graphemes only."""
    if text.isascii():
        return text[:columns]
    end = 0
    for grapheme in graphemes(text):
        columns -= columns_of(grapheme)
        if columns < 0:
            break
        end += len(grapheme)
    return text[:end]


def fitted(text: str, columns: int, hanging: int = 0) -> str:
    """Break lines between words, so that each has at most so many columns if its words let it.

    Where a line goes on it begins with `hanging` blanks. Lines that begin with a blank, such as
    those of a fingerprint, stay as they are.
    """
    columns = max(columns, 2 * hanging, 20)
    rows = []
    for line in text.split("\n"):
        row, *words = [line] if line.startswith(" ") else line.split(" ")
        for word in words:
            if width(row) + 1 + width(word) <= columns:
                row = f"{row} {word}"
            else:
                rows.append(row)
                row = " " * hanging + word
        rows.append(row)
    return "\n".join(rows)


@lru_cache(4096)
def _columns(grapheme: str) -> int:
    from wcwidth import wcswidth

    return max(0, wcswidth(grapheme))
