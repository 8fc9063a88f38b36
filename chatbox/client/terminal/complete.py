"""What Tab may make of the word before the cursor: commands, people, files.

A plain function over plain values. What the words of a command are is in one table here; a command
that is not in it completes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from typing import Final

from chatbox.client.commands import COMMANDS

__all__ = ["MAX_CANDIDATES", "Completion", "Takes", "complete", "shared_beginning"]

MAX_CANDIDATES: Final = 200
"""Candidates that Tab goes through; nobody goes through more."""


class Takes(Enum):
    """What a word of a command may be."""

    PERSON = "person"
    FILE = "file"  # on the server
    DOWNLOAD = "download"  # on its way
    SAVED = "saved"  # here


TAKES: Final[Mapping[str, tuple[int, Takes]]] = {
    "msg": (1, Takes.PERSON),
    "download": (1, Takes.FILE),
    "get": (1, Takes.FILE),
    "proceed": (1, Takes.DOWNLOAD),
    "pause": (1, Takes.DOWNLOAD),
    "cancel": (1, Takes.DOWNLOAD),
    "limit": (2, Takes.DOWNLOAD),
    "open": (1, Takes.SAVED),
    "kick": (1, Takes.PERSON),
    "ban": (1, Takes.PERSON),
    "mute": (1, Takes.PERSON),
}
"""For each command which of its words can be completed, and to what."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What may stand in place of the text from `start` to the cursor, in order."""

    start: int
    candidates: tuple[str, ...]


def complete(text: str, cursor: int, known: Callable[[Takes], Iterable[str]]) -> Completion:
    """Look at `text` before `cursor`; `known` gives the names of each kind."""
    before = text[:cursor]
    if before.startswith("/") and not before.startswith("//"):
        name, blank, rest = before[1:].partition(" ")
        if not blank:
            return Completion(0, tuple(f"/{one} " for one in _matching(name, COMMANDS)))
        place, takes = TAKES.get(name.casefold(), (0, None))
        word = rest.lstrip()
        if place == 2:
            word = word.partition(" ")[2].lstrip()
        if takes is not None:
            mark = word[:1] if word[:1] in ('"', "'") else ""
            if (mark or " " not in word) and (place == 1 or " " in rest):
                found = _matching(word[len(mark) :], known(takes))
                start = len(before) - len(word)
                return Completion(start, tuple(f"{_quoted(one, mark)} " for one in found))
        if takes is not Takes.PERSON:
            return Completion(cursor, ())
    start = before.rfind(" ") + 1
    start = max(start, before.rfind("\n") + 1)
    at = before[start : start + 1] == "@"
    if start + at == cursor:
        return Completion(cursor, ())  # Tab on nothing is no wish for a person
    # Who is spoken to at the beginning of a line is followed by a colon.
    after = ": " if start == 0 and not at else " "
    found = _matching(before[start + at :], known(Takes.PERSON))
    return Completion(start + at, tuple(f"{one}{after}" for one in found))


def shared_beginning(candidates: Iterable[str]) -> str:
    """What all candidates begin with."""
    columns = takewhile(lambda column: len(set(column)) == 1, zip(*candidates, strict=False))
    return "".join(column[0] for column in columns)


def _matching(beginning: str, names: Iterable[str]) -> list[str]:
    """The names that begin so, in either case, in the alphabet's order."""
    wanted = beginning.casefold()
    found = {one for one in names if one.casefold().startswith(wanted)}
    return sorted(found, key=lambda one: (one.casefold(), one))[:MAX_CANDIDATES]


def _quoted(name: str, mark: str) -> str:
    """`name` as a command's word."""
    if not mark and (" " in name or name[:1] in ('"', "'")):
        mark = "'" if '"' in name else '"'
    return f"{mark}{name}{mark}"
