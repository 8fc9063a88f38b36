"""The console's terminal, without the terminal: keys and news in, bytes for the screen out.

It joins the parts: the editor makes lines of keys, the screen shows what happens above them, the
roster knows what Tab may offer. The foot is, from top to bottom: a row for each download, the
status, what Tab offers, and the line being typed. On a low terminal they give way in that order
and the typed line stays.

Who is addressed, privately or by name, is told so: a mark before the message, a bell, and a count
in the status until the next key is pressed. That key is the only sign that somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import tzinfo
from typing import Final

from chatbox.client.chat.events import Event, Said
from chatbox.client.files.transfers import Download
from chatbox.client.terminal import lines
from chatbox.client.terminal.complete import Completion, Takes, complete
from chatbox.client.terminal.editor import Control, Editor
from chatbox.client.terminal.keys import KeyDecoder
from chatbox.client.terminal.roster import Roster
from chatbox.client.terminal.screen import Line, Screen, line_of
from chatbox.client.terminal.style import Palette

__all__ = ["BELL_EVERY", "TerminalView"]

BELL_EVERY: Final = 3.0
"""Seconds between two bells, whatever others do."""

_SAYING: Final = ("/msg", "/reply")

MAX_DOWNLOAD_ROWS: Final = 6
MAX_TYPED_ROWS: Final = 8
MAX_CALLERS: Final = 3
"""Names in the status of those who want something; the others are others."""


class TerminalView:
    """What a person at a terminal sees and types.

    `me` is what we are called and `place` where, in a few words; `clock` gives seconds since the
    epoch; `changed` is called whenever there may be something new to `draw`.
    """

    def __init__(
        self,
        *,
        me: str,
        place: str,
        palette: Palette,
        clock: Callable[[], float],
        changed: Callable[[], None],
        zone: tzinfo | None = None,
    ) -> None:
        self.roster = Roster()
        self.saved: Callable[[], Iterable[str]] = tuple
        """Names of what has been downloaded."""
        self.folders: Callable[[str], Iterable[str]] = lambda _: ()
        """Paths of folders on this machine, given how they begin."""
        self._me = me
        self._place = place
        self._palette = palette
        self._clock = clock
        self._changed = changed
        self._zone = zone
        self._screen = Screen()
        self._keys = KeyDecoder()
        self._editor = Editor(self._complete)
        self._downloads: Sequence[Download] = ()
        self._trouble = ""
        self._unread = 0
        self._callers: list[str] = []  # those who have addressed us, the first few
        self._rang_at = -BELL_EVERY

    # What the person does

    def feed(self, data: bytes) -> list[str | Control]:
        """Take what the keyboard sent: the lines that were entered, and what is asked of us."""
        asked: list[str | Control] = []
        for key in self._keys.feed(data):
            self._unread = 0
            self._callers.clear()
            answer = self._editor.press(key)
            if answer is Control.REFUSED:
                self._ring()
            elif answer is Control.REPAINT:
                self._screen.repaint()
            elif answer is not None:
                asked.append(answer)
            if isinstance(answer, str) and _is_shown(answer):
                self._screen.print(line_of(f"{lines.PROMPT}{answer}", self._palette.news))
        self._changed()
        return asked

    def end(self) -> list[str | Control]:
        """The terminal is gone, and a line that was not entered with it."""
        return []

    # What there is to see

    def tell(self, text: str) -> None:
        """Print a line."""
        self._screen.print(line_of(text))
        self._changed()

    def learn(self, event: Event) -> None:
        """Remember who and what is there, without a word."""
        self.roster.hear(event)
        self._changed()

    def hear(self, event: Event, me: str) -> None:
        """Print what has happened, if there is anything to say about it."""
        self.learn(event)
        self._me = me
        for line in lines.event_lines(event, me, self._palette, now=self._clock(), zone=self._zone):
            self._screen.print(line)
        if isinstance(event, Said) and lines.is_for(event, me):
            self._unread += 1
            if event.sender not in self._callers and len(self._callers) <= MAX_CALLERS:
                self._callers.append(event.sender)
            self._ring()

    def show(self, downloads: Sequence[Download]) -> None:
        """These downloads are on their way."""
        self._downloads = list(downloads)
        self._changed()

    def warn(self, trouble: str) -> None:
        """Say in the status what is wrong; nothing if that is empty."""
        self._trouble = trouble

    # The terminal

    def resize(self, columns: int, rows: int) -> None:
        """It has another size, or has had one in between: nobody knows what stands where."""
        self._screen.resize(columns, rows)
        self._changed()

    def begin(self, columns: int, rows: int) -> str:
        """What to write when we have the terminal, of that size, for the first time or again."""
        return self._screen.begin(columns, rows)

    def give_up(self) -> str:
        """What to write when we give it back; all that was said stays there."""
        return self.draw() + self._screen.end()

    def draw(self) -> str:
        """What to write so that the terminal shows how things are now."""
        columns, rows = self._screen.columns, self._screen.rows
        searched = self._editor.searched
        prompt = lines.PROMPT
        if searched is not None:
            part, found = searched
            prompt = f"{'search' if found else 'not found'}: {part}{lines.PROMPT}"
            prompt = prompt if len(prompt) < columns // 2 else lines.PROMPT
        typed, cursor = lines.typed_rows(
            prompt,
            self._editor.text,
            self._editor.cursor,
            columns,
            max(1, min(MAX_TYPED_ROWS, rows // 2)),
        )
        above = self._above_typed(columns)
        above = above[max(0, len(above) + len(typed) - max(rows - 1, 1)) :]
        self._screen.set_foot([*above, *typed], (len(above) + cursor[0], cursor[1]))
        return self._screen.draw()

    # How it works

    def _above_typed(self, columns: int) -> list[Line]:
        """The rows of the foot that are not typed, the least important first."""
        shown = self._downloads[:MAX_DOWNLOAD_ROWS]
        foot = lines.download_rows(shown, columns, self._palette)
        if len(self._downloads) > len(shown):
            foot.append(line_of(f"and {len(self._downloads) - len(shown)} more: /downloads"))
        foot.append(lines.status_row(self._status(), columns, self._palette))
        candidates, chosen = self._editor.candidates
        if candidates:
            foot.append(lines.candidate_row(candidates, chosen, columns, self._palette))
        return foot

    def _status(self) -> list[str]:
        parts = [self._trouble] if self._trouble else []
        if self._unread:
            names = ", ".join(self._callers[:MAX_CALLERS])
            more = " and others" if len(self._callers) > MAX_CALLERS else ""
            parts.append(f"{self._unread} for you: {names}{more}")
        parts.append(f"{self._me} on {self._place}")
        if self.roster.count:
            parts.append(f"{self.roster.count} here")
        return parts

    def _ring(self) -> None:
        now = self._clock()
        if now - self._rang_at >= BELL_EVERY:
            self._rang_at = now
            self._screen.ring()

    def _complete(self, text: str, cursor: int) -> Completion:
        return complete(text, cursor, self._names)

    def _names(self, takes: Takes, beginning: str) -> Iterable[str]:
        match takes:
            case Takes.PERSON:
                return (name for name in self.roster.people if name != self._me)
            case Takes.FILE:
                return self.roster.files
            case Takes.DOWNLOAD:
                return (download.name for download in self._downloads)
            case Takes.SAVED:
                return self.saved()
            case Takes.FOLDER:
                return self.folders(beginning)
            case Takes.NOTHING:
                return ()


def _is_shown(line: str) -> bool:
    """Whether an entered line stays to be seen: commands do, what is said comes back by itself."""
    name, _, _ = line.partition(" ")
    return line.startswith("/") and name.casefold() not in _SAYING and not line.startswith("//")
