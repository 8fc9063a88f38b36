"""Colours: which there are, and which is whose.

A style is the parameters of an SGR sequence (ECMA-48, 8.3.117), such as ``38;5;27``; the empty
style is plain text. A person's colour follows from the name alone, so it is the same tomorrow and
on another machine.

The colours are from the fixed part of the 256-colour palette. Nobody tells a program whether the
background is dark or light, so each must be readable on both: a contrast of at least 4 with black
and with white (WCAG 2 asks 4.5 for small print, which only one grey could have on both). On
a terminal with eight colours they are as its owner has set them; those that are there to be read on
one background only, yellow, white and black, are left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chatbox.client.config import Colours

__all__ = ["COLOURS_8", "COLOURS_256", "EIGHT", "MANY", "PLAIN", "Palette", "palette_for"]

COLOURS_256: Final = (27, 28, 30, 31, 64, 99, 129, 130, 131, 161, 164)
COLOURS_8: Final = (31, 32, 34, 35, 36)


@dataclass(frozen=True, slots=True)
class Palette:
    """The styles of everything on the screen."""

    people: tuple[str, ...] = ()
    me: str = ""
    time: str = ""
    news: str = ""
    """Who came and went."""
    private: str = ""
    """The word that a message is private, and the mark of one that is for you."""
    trouble: str = ""
    """What did not work."""
    status: str = ""
    chosen: str = ""
    """The candidate that Tab has put in."""

    def person(self, name: str) -> str:
        """The colour of `name`, whoever has it: in either case, and always the same."""
        if not self.people:
            return ""
        return self.people[
            zlib.crc32(name.casefold().encode("utf-8", "replace")) % len(self.people)
        ]


PLAIN: Final = Palette()
EIGHT: Final = Palette(
    tuple(map(str, COLOURS_8)),
    me="1",
    time="2",
    news="2",
    private="1",
    trouble="31",
    status="7",
    chosen="7",
)
MANY: Final = Palette(
    tuple(f"38;5;{number}" for number in COLOURS_256),
    me="1",
    time="2",
    news="2",
    private="1",
    trouble="38;5;161",
    status="7",
    chosen="7",
)

_MANY_COLOURS: Final = ("256color", "kitty", "alacritty", "foot", "ghostty", "wezterm", "direct")


def palette_for(environ: Mapping[str, str], colours: Colours = Colours.AUTO) -> Palette:
    """The palette of a terminal with these environment variables.

    Where the person has settled nothing, ``NO_COLOR`` (https://no-color.org) means none, if it is
    there and not empty.
    """
    if colours is Colours.NEVER or (colours is Colours.AUTO and environ.get("NO_COLOR")):
        return PLAIN
    term = environ.get("TERM", "")
    if environ.get("COLORTERM") or any(part in term for part in _MANY_COLOURS):
        return MANY
    return EIGHT
