"""The line that is being typed: keys in, an edited text and a cursor, and at last the line.

The keys are those of Emacs as every shell has them, and the arrows. `EDITS` binds them; what a key
does is a method of `Editor`. Tab and Ctrl-R begin something that goes on while their own keys
follow, and that any other key ends before it does its own work.

A text may have several lines, by pasting or by Alt-Enter; they are sent as one message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from chatbox.chat.wire import TEXT_BYTES_CEILING
from chatbox.client.terminal.complete import Completion, shared_beginning
from chatbox.client.terminal.history import History
from chatbox.client.terminal.keys import Key, Keystroke, Pasted, Typed
from chatbox.client.width import graphemes
from chatbox.text import REPLACEMENT, printable

__all__ = ["EDITS", "MAX_TYPED", "Control", "Editor"]

MAX_TYPED: Final = TEXT_BYTES_CEILING + 1024
"""Characters of one typed line: the longest message that any server takes, and a command's words
before it. How long it may be on this server is told when it is sent."""

_WORD: Final = re.compile(r"\w+")
_BLANKS_OR_NOT: Final = re.compile(r"\S+")


class Control(Enum):
    """What a key asks of the program, not of the line."""

    END = "end"
    """Ctrl-D on an empty line: nothing more will be typed."""
    INTERRUPT = "interrupt"
    """Ctrl-C on an empty line."""
    SUSPEND = "suspend"
    REPAINT = "repaint"
    REFUSED = "refused"
    """The key can do nothing here."""
    TOO_LONG = "too long"
    """What was pasted does not fit."""


@dataclass(slots=True)
class _Cycle:
    """Tab goes through these."""

    completion: Completion
    end: int  # of the candidate that stands there
    index: int = -1


@dataclass(slots=True)
class _Search:
    """Ctrl-R looks for this."""

    part: str = ""
    skip: int = 0
    found: bool = True


class Editor:
    """One line at a time. `complete` says what may stand before a cursor."""

    def __init__(self, complete: Callable[[str, int], Completion]) -> None:
        self.text = ""
        self.cursor = 0
        """The place in `text` that the next character goes to."""
        self._complete = complete
        self._history = History()
        self._killed = ""
        self._kills = False  # whether the last key killed, too
        self._cycle: _Cycle | None = None
        self._search: _Search | None = None
        self._before_search = ""

    @property
    def candidates(self) -> tuple[tuple[str, ...], int]:
        """What Tab offers, and which of them stands in the text (-1: none yet)."""
        if self._cycle is None:
            return (), -1
        return self._cycle.completion.candidates, self._cycle.index

    @property
    def searched(self) -> tuple[str, bool] | None:
        """What Ctrl-R looks for, and whether there is such a line; None if it does not."""
        return None if self._search is None else (self._search.part, self._search.found)

    def press(self, key: Keystroke) -> str | Control | None:
        """Take a key: a line, if it was entered, or what is asked of the program."""
        if self._search is not None and self._searches(key):
            return None
        name = key.name if isinstance(key, Key) else ""
        if name not in ("tab", "shift-tab"):
            self._cycle = None
        kills, self._kills = self._kills, False
        if isinstance(key, Typed):
            return None if self._insert(key.text) else Control.REFUSED
        if isinstance(key, Pasted):
            return None if self._insert(_clean(key.text)) else Control.TOO_LONG
        edit = EDITS.get(key.name)
        if edit is None:
            return None
        self._kills = kills and key.name in _KILLS
        return edit(self)

    def put(self, text: str) -> None:
        """Let `text` stand there instead."""
        self.text = text
        self.cursor = len(text)

    # Moving

    def left(self) -> None:
        """Back by what a person sees as one character."""
        self.cursor -= len(self._grapheme_before())

    def right(self) -> None:
        """On by one."""
        self.cursor += len(self._grapheme_after())

    def home(self) -> None:
        """To the beginning."""
        self.cursor = 0

    def end(self) -> None:
        """To the end."""
        self.cursor = len(self.text)

    def word_left(self) -> None:
        """To the beginning of this word, or of the one before."""
        self.cursor = self._word_start(_WORD)

    def word_right(self) -> None:
        """To the end of this word, or of the next one."""
        self.cursor = self._word_end()

    # Changing

    def backspace(self) -> Control | None:
        """Take away the character before the cursor."""
        before = self._grapheme_before()
        return self._cut(self.cursor - len(before), self.cursor)

    def delete(self) -> Control | None:
        """Take away the character under the cursor."""
        return self._cut(self.cursor, self.cursor + len(self._grapheme_after()))

    def kill_to_end(self) -> Control | None:
        """Take away what follows."""
        return self._kill(self.cursor, len(self.text))

    def kill_to_start(self) -> Control | None:
        """Take away what comes before."""
        return self._kill(0, self.cursor)

    def kill_word_left(self) -> Control | None:
        """Take away the word before."""
        return self._kill(self._word_start(_WORD), self.cursor)

    def kill_blank_word(self) -> Control | None:
        """Take away what comes before, back to a blank."""
        return self._kill(self._word_start(_BLANKS_OR_NOT), self.cursor)

    def kill_word_right(self) -> Control | None:
        """Take away the word that follows."""
        return self._kill(self.cursor, self._word_end())

    def yank(self) -> Control | None:
        """Put back what was killed last."""
        return None if self._insert(self._killed) else Control.TOO_LONG

    def transpose(self) -> Control | None:
        """Let the two characters around the cursor change places; at the end, the last two."""
        if self.cursor == len(self.text):
            self.left()
        before, after = self._grapheme_before(), self._grapheme_after()
        if not before or not after:
            self.end()
            return Control.REFUSED
        start, end = self.cursor - len(before), self.cursor + len(after)
        self.text = self.text[:start] + after + before + self.text[end:]
        self.cursor = end
        return None

    def new_line(self) -> Control | None:
        """Begin another line of the same message."""
        return None if self._insert("\n") else Control.REFUSED

    # Lines

    def enter(self) -> str:
        """The line is done."""
        line = self.text
        self._history.add(line)
        self.put("")
        return line

    def older(self) -> Control | None:
        """The line that was entered before."""
        return self._recall(self._history.older(self.text))

    def newer(self) -> Control | None:
        """The line that was entered after."""
        return self._recall(self._history.newer())

    def search(self) -> None:
        """Look for a line that was entered."""
        self._before_search = self.text
        self._search = _Search()

    def complete(self) -> Control | None:
        """Complete the word, as far as it is clear; then go through what it may be."""
        return self._tab(1)

    def complete_back(self) -> Control | None:
        """Go back through it."""
        return self._tab(-1)

    # The program

    def end_or_delete(self) -> Control | None:
        """Ctrl-D."""
        return self.delete() if self.text else Control.END

    def interrupt(self) -> Control | None:
        """Ctrl-C gives the line up, as a shell does; the line is in the history."""
        if not self.text:
            return Control.INTERRUPT
        self._history.add(self.text)
        self.put("")
        return None

    def suspend(self) -> Control:
        """Ctrl-Z."""
        return Control.SUSPEND

    def repaint(self) -> Control:
        """Ctrl-L."""
        return Control.REPAINT

    # How it works

    def _insert(self, text: str) -> bool:
        if len(self.text) + len(text) > MAX_TYPED:
            return False
        self.text = self.text[: self.cursor] + text + self.text[self.cursor :]
        self.cursor += len(text)
        return True

    def _grapheme_before(self) -> str:
        before = graphemes(self.text[: self.cursor])
        return before[-1] if before else ""

    def _grapheme_after(self) -> str:
        after = graphemes(self.text[self.cursor :])
        return after[0] if after else ""

    def _word_start(self, word: re.Pattern[str]) -> int:
        starts = [match.start() for match in word.finditer(self.text[: self.cursor])]
        return starts[-1] if starts else 0

    def _word_end(self) -> int:
        match = _WORD.search(self.text, self.cursor)
        return match.end() if match else len(self.text)

    def _cut(self, start: int, end: int) -> Control | None:
        if start == end:
            return Control.REFUSED
        self.text = self.text[:start] + self.text[end:]
        self.cursor = start
        return None

    def _kill(self, start: int, end: int) -> Control | None:
        """Take away, and keep for `yank`; what several keys in a row kill is kept together."""
        killed = self.text[start:end]
        if killed:
            before = start < self.cursor
            kept = self._killed if self._kills else ""
            self._killed = killed + kept if before else kept + killed
        self._kills = True
        return self._cut(start, end)

    def _recall(self, line: str | None) -> Control | None:
        if line is None:
            return Control.REFUSED
        self.put(line)
        return None

    def _tab(self, step: int) -> Control | None:
        cycle = self._cycle
        if cycle is None:
            completion = self._complete(self.text, self.cursor)
            if not completion.candidates:
                return Control.REFUSED
            cycle = _Cycle(completion, self.cursor)
            if len(completion.candidates) == 1:
                self._replace(cycle, completion.candidates[0])
                return None
            self._cycle = cycle
            shared = shared_beginning(completion.candidates)
            if len(shared) > self.cursor - completion.start:
                self._replace(cycle, shared)
            return None
        start = cycle.index if cycle.index >= 0 or step > 0 else 0
        cycle.index = (start + step) % len(cycle.completion.candidates)
        self._replace(cycle, cycle.completion.candidates[cycle.index])
        return None

    def _replace(self, cycle: _Cycle, text: str) -> None:
        start = cycle.completion.start
        if start + len(text) + len(self.text) - cycle.end > MAX_TYPED:
            return
        self.text = self.text[:start] + text + self.text[cycle.end :]
        self.cursor = cycle.end = start + len(text)

    def _searches(self, key: Keystroke) -> bool:
        """Whether the key belongs to the search that is going on. Any other key ends it."""
        search = self._search
        assert search is not None
        match key:
            case Typed(text=text) if len(search.part) < MAX_TYPED:
                search.part += text
                search.skip = 0
            case Key(name="backspace"):
                search.part = search.part[:-1]
                search.skip = 0
            case Key(name="ctrl-r"):
                search.skip += search.found
            case Key(name="ctrl-g" | "ctrl-c"):
                self.put(self._before_search)
                self._search = None
                return True
            case _:
                self._search = None
                return False
        line = self._history.search(search.part, search.skip) if search.part else None
        if line is None and search.skip:
            search.skip -= 1  # it stays at the oldest
        else:
            search.found = line is not None or not search.part
            if line is not None:
                self.put(line)
        return True


def _clean(text: str) -> str:
    """Pasted text as it may be sent: tabs become blanks, other control characters go."""
    text = text.expandtabs(4).strip("\n")
    return printable(text, keep_newlines=True).replace(REPLACEMENT, "")


EDITS: Final[Mapping[str, Callable[[Editor], str | Control | None]]] = {
    "left": Editor.left,
    "ctrl-b": Editor.left,
    "right": Editor.right,
    "ctrl-f": Editor.right,
    "home": Editor.home,
    "ctrl-a": Editor.home,
    "end": Editor.end,
    "ctrl-e": Editor.end,
    "alt-b": Editor.word_left,
    "ctrl-left": Editor.word_left,
    "alt-left": Editor.word_left,
    "alt-f": Editor.word_right,
    "ctrl-right": Editor.word_right,
    "alt-right": Editor.word_right,
    "backspace": Editor.backspace,
    "ctrl-h": Editor.backspace,
    "delete": Editor.delete,
    "ctrl-k": Editor.kill_to_end,
    "ctrl-u": Editor.kill_to_start,
    "ctrl-w": Editor.kill_blank_word,
    "alt-backspace": Editor.kill_word_left,
    "alt-d": Editor.kill_word_right,
    "ctrl-delete": Editor.kill_word_right,
    "ctrl-y": Editor.yank,
    "ctrl-t": Editor.transpose,
    "alt-enter": Editor.new_line,
    "enter": Editor.enter,
    "up": Editor.older,
    "ctrl-p": Editor.older,
    "down": Editor.newer,
    "ctrl-n": Editor.newer,
    "ctrl-r": Editor.search,
    "tab": Editor.complete,
    "shift-tab": Editor.complete_back,
    "ctrl-d": Editor.end_or_delete,
    "ctrl-c": Editor.interrupt,
    "ctrl-z": Editor.suspend,
    "ctrl-l": Editor.repaint,
}
"""What each key does. Keys that are not here do nothing."""

_KILLS: Final = frozenset(name for name, edit in EDITS.items() if edit.__name__.startswith("kill"))
