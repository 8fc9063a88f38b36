"""Text that others wrote, made safe to show.

A terminal obeys what it prints: an escape character can move the cursor, set the title or hide a
line, and a bidirectional control can make ``gnp.exe`` read as ``exe.png``. So everything that came
from a peer (a message, a user's name, a file's name) passes `printable` before it reaches a
terminal or a log. The marks U+200E and U+200F stay: right-to-left writing needs them and they
reorder nothing by themselves.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "MAX_NAME_BYTES",
    "REPLACEMENT",
    "is_plain_name",
    "is_printable",
    "printable",
    "sendable",
]

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

MAX_NAME_BYTES: Final = 255
"""Of a file's name: what the usual file systems take (NAME_MAX)."""

# C0 controls and DEL; C1 controls (0x9b alone is an escape sequence's start to some terminals);
# the Unicode line and paragraph separators; the bidirectional embeddings, overrides and isolates
# (UAX #9, section 2); surrogates, which no encoder of UTF-8 accepts.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_BUT_NEWLINE = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))


def printable(text: str, *, keep_newlines: bool = False) -> str:
    """Return `text` with each character that a terminal might obey replaced by U+FFFD.

    The length stays the same. `keep_newlines` lets ``\\n`` through, for text that may span lines,
    and makes a blank of a TAB, with which such text is often indented.
    """
    if keep_newlines:
        return _UNSAFE_BUT_NEWLINE.sub(REPLACEMENT, text.replace("\t", " "))
    return _UNSAFE.sub(REPLACEMENT, text)


def is_printable(text: str) -> bool:
    """Say whether `printable` would leave `text` as it is."""
    return _UNSAFE.search(text) is None


def sendable(text: str) -> str:
    """Return text that the system gave us, such as an argument, as text that can be UTF-8.

    Python keeps bytes that are no UTF-8 as halves of characters; U+FFFD takes their place.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def is_plain_name(name: str) -> bool:
    """Say whether `name` is one that a server shares a file under (see `chatbox.shelf`, rule 2)."""
    return (
        0 < len(name) <= MAX_NAME_BYTES
        and not name.startswith(".")
        and "/" not in name
        and "\\" not in name
        and is_printable(name)
        and len(name.encode("utf-8")) <= MAX_NAME_BYTES
    )
