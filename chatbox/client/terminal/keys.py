"""What a keyboard sends becomes keys: bytes in, in pieces of any size, keys out.

A key that is not a character comes as an escape sequence (ECMA-48 as xterm uses it), and Alt with a
key as ESC and that key. Sequences may be cut anywhere between two reads, so an ESC that came alone
waits for what follows, however long that takes: as in Emacs, ESC *is* Alt for the next key. That
costs no timer, and nothing here is bound to ESC alone.

With bracketed paste a terminal says where pasted text begins and ends, so that its line ends and
tabs are not taken for keys. All that may grow has a bound: a sequence that does not end is dropped,
a paste that does not end is delivered in parts.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_PASTE", "MAX_SEQUENCE", "Key", "KeyDecoder", "Keystroke", "Pasted", "Typed"]

MAX_SEQUENCE: Final = 32
"""Characters of one escape sequence; what xterm sends for keys has at most ten."""

MAX_PASTE: Final = 128 * 1024
"""Characters of pasted text: more than any line takes. No more is kept, so that a line refuses it
whole."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is not a character, by its name: ``up``, ``ctrl-a``, ``alt-left``."""

    name: str


@dataclass(frozen=True, slots=True)
class Typed:
    """Characters, as typed."""

    text: str


@dataclass(frozen=True, slots=True)
class Pasted:
    """Text that was pasted; it may have several lines, each ended by LF."""

    text: str


Keystroke = Key | Typed | Pasted

_ESC: Final = "\x1b"
_PASTE_END: Final = "\x1b[201~"

_CONTROLS: Final[Mapping[str, str]] = {
    **{chr(code): f"ctrl-{chr(code + 96)}" for code in range(1, 27)},
    "\t": "tab",
    "\r": "enter",
    "\n": "enter",  # Ctrl-J, and what a script sends
    "\x08": "backspace",
    "\x7f": "backspace",
    "\x00": "ctrl-space",
    "\x1c": "ctrl-backslash",
    "\x1d": "ctrl-]",
    "\x1e": "ctrl-^",
    "\x1f": "ctrl-_",
}
_FINALS: Final[Mapping[str, str]] = {
    "A": "up",
    "B": "down",
    "C": "right",
    "D": "left",
    "F": "end",
    "H": "home",
    "Z": "shift-tab",
}
_NUMBERED: Final[Mapping[str, str]] = {
    "1": "home",
    "2": "insert",
    "3": "delete",
    "4": "end",
    "5": "page-up",
    "6": "page-down",
    "7": "home",
    "8": "end",
}
_PRIVATE: Final = ("<", "=", ">", "?")  # what begins so is an answer or a mouse, not a key
_MODIFIERS: Final = frozenset(map(str, range(1, 17)))
# The modifier's number less one is a set of bits: 1 shift, 2 alt, 4 control, 8 meta.
_CTRL_BIT: Final = 4
_ALT_BITS: Final = 2 | 8

# A control sequence (ECMA-48, 5.4): parameters, intermediates, a final character.
_CSI: Final = re.compile(r"\[([0-?]*)[ -/]*([@-~])")
_CSI_SO_FAR: Final = re.compile(r"\[[0-?]*[ -/]*")
_CHARACTERS: Final = re.compile(r"[^\x00-\x1f\x7f]+")
_C1: Final = re.compile(r"[\x80-\x9f]")  # these controls come from no keyboard


class KeyDecoder:
    """Reads the bytes that a terminal sends."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._paste: str | None = None
        self._dropping = False  # it has grown too long

    def feed(self, data: bytes) -> list[Keystroke]:
        """Take what was read; return the keys that are complete."""
        self._rest += self._utf8.decode(data)
        return list(self._keys())

    def _keys(self) -> Iterator[Keystroke]:
        at = 0
        while at < len(self._rest):
            if self._paste is not None:
                text, at = self._pasted(at)
                if text:
                    yield Pasted(text.replace("\r\n", "\n").replace("\r", "\n"))
            elif match := _CHARACTERS.match(self._rest, at):
                at = match.end()
                if text := _C1.sub("", match.group()):
                    yield Typed(text)
            elif self._rest[at] != _ESC:
                yield Key(_CONTROLS[self._rest[at]])
                at += 1
            else:
                length, name = _escape(self._rest[at + 1 : at + MAX_SEQUENCE])
                if not length:
                    break  # the rest of it is still to come
                at += length
                if name == "paste":
                    self._paste = ""
                elif name:
                    yield Key(name)
        self._rest = self._rest[at:]

    def _pasted(self, at: int) -> tuple[str, int]:
        """What was pasted, once its end is here or it has grown too long; and where to go on.

        What follows of what is too long is dropped.
        """
        assert self._paste is not None
        before = len(self._paste)
        self._paste += self._rest[at:]
        end = self._paste.find(_PASTE_END, max(0, before - len(_PASTE_END)))
        if end < 0:
            text = ""
            if self._dropping or len(self._paste) > MAX_PASTE:
                # The beginning of the end may be here already.
                cut = max(0, len(self._paste) - len(_PASTE_END))
                text = "" if self._dropping else self._paste[:cut]
                self._paste = self._paste[cut:]
                self._dropping = True
            return text, len(self._rest)
        text = "" if self._dropping else self._paste[:end]
        self._paste, self._dropping = None, False
        return text, at + end + len(_PASTE_END) - before


def _escape(rest: str) -> tuple[int, str]:
    """The length and the name of the sequence of an ESC, which `rest` follows.

    The length is 0 while the sequence is not all there. An empty name is one that means nothing.
    """
    if not rest:
        return 0, ""
    if rest[0] == "[":
        if match := _CSI.match(rest):
            return 1 + match.end(), _name(*match.groups())
        so_far = _CSI_SO_FAR.match(rest)
        assert so_far is not None
        complete = so_far.end() < len(rest) or len(rest) >= MAX_SEQUENCE - 1
        return (1 + so_far.end() if complete else 0), ""
    if rest[0] == "O":  # a key in the terminal's application mode
        if len(rest) < 2:
            return 0, ""
        return 3, "enter" if rest[1] == "M" else _FINALS.get(rest[1], "")
    if rest[0] == _ESC:
        return 1, ""  # Alt with a sequence: the sequence alone counts
    return 2, f"alt-{_CONTROLS.get(rest[0], rest[0].lower())}"


def _name(parameters: str, final: str) -> str:
    """The key of a control sequence, empty if it is none of those we know."""
    number, _, modifier = parameters.partition(";")
    if parameters[:1] in _PRIVATE:
        return ""
    if final == "~":
        name = "paste" if number == "200" else _NUMBERED.get(number, "")
    else:
        name = _FINALS.get(final, "")
    if not name or name in ("paste", "shift-tab") or not modifier:
        return name
    bits = int(modifier) - 1 if modifier in _MODIFIERS else 0
    return f"{'ctrl-' if bits & _CTRL_BIT else ''}{'alt-' if bits & _ALT_BITS else ''}{name}"
