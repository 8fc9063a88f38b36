"""What Tab may make of the word before the cursor: commands, people, files, folders.

A plain function over plain values. What the words of a command are is in one table here; a command
that is not in it completes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from typing import Final

from chatbox.client.commands import COMMANDS

__all__ = ["MAX_CANDIDATES", "Completion", "Takes", "complete", "shared_beginning"]

MAX_CANDIDATES: Final = 200
"""Candidates that Tab goes through; nobody goes through more."""


_MARKS: Final = ('"', "'")


class Takes(Enum):
    """What a word of a command may be."""

    PERSON = "person"
    FILE = "file"  # on the server
    DOWNLOAD = "download"  # on its way
    SAVED = "saved"  # here
    FOLDER = "folder"  # here, to save to: a file that exists is never replaced
    NOTHING = "nothing"  # that could be known


TAKES: Final[Mapping[str, Sequence[Takes]]] = {
    "msg": [Takes.PERSON],
    "download": [Takes.FILE, Takes.FOLDER],
    "get": [Takes.FILE, Takes.FOLDER],
    "proceed": [Takes.DOWNLOAD],
    "pause": [Takes.DOWNLOAD],
    "cancel": [Takes.DOWNLOAD],
    "limit": [Takes.NOTHING, Takes.DOWNLOAD],
    "open": [Takes.SAVED],
    "kick": [Takes.PERSON],
    "ban": [Takes.PERSON],
    "mute": [Takes.PERSON],
}
"""For each command what its words can be completed to. Behind a person comes text."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What may stand in place of the text from `start` to the cursor, in order."""

    start: int
    candidates: tuple[str, ...]


def complete(text: str, cursor: int, known: Callable[[Takes, str], Iterable[str]]) -> Completion:
    """Look at `text` before `cursor`; `known` gives the names of a kind, at least all that begin
    with what is typed of one.
    """
    before = text[:cursor]
    if before.startswith("/") and not before.startswith("//"):
        name, blank, rest = before[1:].partition(" ")
        if not blank:
            return Completion(0, tuple(f"/{one} " for one in _matching(name, COMMANDS)))
        kinds = TAKES.get(name.casefold(), ())
        *earlier, word = _words(rest)
        if len(earlier) < len(kinds):
            return _complete_word(word, cursor, kinds[len(earlier)], known)
        if Takes.PERSON not in kinds:
            return Completion(cursor, ())
    start = before.rfind(" ") + 1
    start = max(start, before.rfind("\n") + 1)
    at = before[start : start + 1] == "@"
    if start + at == cursor:
        return Completion(cursor, ())  # Tab on nothing is no wish for a person
    # Who is spoken to at the beginning of a line is followed by a colon.
    after = ": " if start == 0 and not at else " "
    beginning = before[start + at :]
    found = _matching(beginning, known(Takes.PERSON, beginning))
    return Completion(start + at, tuple(f"{one}{after}" for one in found))


def shared_beginning(candidates: Iterable[str]) -> str:
    """What all candidates begin with."""
    columns = takewhile(lambda column: len(set(column)) == 1, zip(*candidates, strict=False))
    return "".join(column[0] for column in columns)


def _complete_word(
    word: str, cursor: int, kind: Takes, known: Callable[[Takes, str], Iterable[str]]
) -> Completion:
    """Complete a word of a command."""
    mark = word[:1] if word[:1] in _MARKS else ""
    beginning = word[len(mark) :]
    if kind is Takes.FOLDER and mark:
        beginning = beginning.removesuffix(mark)  # what is in a folder that has been completed
    found = _matching(beginning, known(kind, beginning))
    # In a folder it may go on.
    after = "" if kind is Takes.FOLDER else " "
    return Completion(cursor - len(word), tuple(f"{_quoted(one, mark)}{after}" for one in found))


def _words(text: str) -> list[str]:
    """The words as they were typed, the last one being the one that is still typed."""
    words = []
    rest = text.lstrip()
    while (end := _end_of_word(rest)) is not None:
        words.append(rest[:end])
        rest = rest[end:].lstrip()
    return [*words, rest]


def _end_of_word(text: str) -> int | None:
    """Where the first word ends, which a blank says, behind a mark if it begins with one."""
    mark = text[:1] if text[:1] in _MARKS else ""
    end = text.find(f"{mark} ", len(mark))
    return None if end == -1 else end + len(mark)


def _matching(beginning: str, names: Iterable[str]) -> list[str]:
    """The names that begin so, in either case, in the alphabet's order."""
    wanted = beginning.casefold()
    found = {one for one in names if one.casefold().startswith(wanted)}
    return sorted(found, key=lambda one: (one.casefold(), one))[:MAX_CANDIDATES]


def _quoted(name: str, mark: str) -> str:
    """`name` as a command's word."""
    if not mark and (" " in name or name[:1] in _MARKS):
        mark = "'" if '"' in name else '"'
    return f"{mark}{name}{mark}"
