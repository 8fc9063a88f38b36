"""The colours of the window, dark and light, and whose name has which.

Every text has a contrast of at least 4.5 to 1 with what is behind it (WCAG 2.2, 1.4.3); a test
computes it for all pairs that are used.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

__all__ = ["DARK", "LIGHT", "MIN_CONTRAST", "PALETTES", "Palette", "colour_of", "contrast"]

MIN_CONTRAST: Final = 4.5


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one theme, as ``#rrggbb``."""

    name: str
    ground: str
    """Behind everything."""
    surface: str
    """Of lists, fields and messages, which lie on the ground."""
    raised: str
    """Of buttons."""
    hover: str
    """Of a button under the pointer, and of a row that is chosen."""
    border: str
    text: str
    dim: str
    """Text of less weight: times, labels."""
    accent: str
    """What draws the eye: the one button that matters most, and our own name."""
    accent_hover: str
    on_accent: str
    danger: str
    good: str
    warning: str
    private: str
    """Behind what only two people read."""
    failed: str
    """Behind what was not sent."""
    people: tuple[str, ...]
    """For the names of others."""


DARK: Final = Palette(
    name="dark",
    ground="#14171c",
    surface="#1b1f26",
    raised="#2a303a",
    hover="#323a46",
    border="#363e4b",
    text="#e6e9ef",
    dim="#9aa5b8",
    accent="#6ea8fe",
    accent_hover="#8bbafe",
    on_accent="#0c1526",
    danger="#ff8a80",
    good="#6fd58b",
    warning="#e8bd5a",
    private="#2a2540",
    failed="#3a2226",
    people=(
        "#ffab70", "#7ee0a0", "#d7a6ff", "#ff9ec7", "#6fd9e8", "#e9d26b", "#b3c5ff", "#ff9c92",
    ),
)  # fmt: skip

LIGHT: Final = Palette(
    name="light",
    ground="#f1f3f7",
    surface="#ffffff",
    raised="#e6e9f0",
    hover="#dde2eb",
    border="#ccd2de",
    text="#1a202b",
    dim="#5a6478",
    accent="#1f5fd6",
    accent_hover="#184db0",
    on_accent="#ffffff",
    danger="#b3261e",
    good="#18703a",
    warning="#855700",
    private="#f1ebff",
    failed="#ffeceb",
    people=(
        "#a3460a", "#156b3c", "#7b2fb5", "#a81d63", "#0b6673", "#6e5a00", "#3b4cc0", "#a12a2a",
    ),
)  # fmt: skip

PALETTES: Final = {palette.name: palette for palette in (DARK, LIGHT)}


def colour_of(name: str) -> int:
    """Which of the colours for people somebody has: always the same, on every computer."""
    return zlib.crc32(name.casefold().encode("utf-8", "replace")) % len(DARK.people)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, from 1 to 21 (WCAG 2.2, "contrast ratio")."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
