"""How much of what was said is kept: ``--keep``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["EVERYTHING", "Keep", "parse_keep"]

_SECONDS: Final = {"h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
_BYTES: Final = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}

_MIN_BYTES: Final = 10**6
"""The smallest size that makes sense: an empty log of 10 pages takes 40 KB."""


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept at most; None where there is no limit. The oldest message goes first."""

    age: int | None = None
    """Seconds, by the clock of the log."""
    count: int | None = None
    """Messages."""
    size: int | None = None
    """Bytes that the log takes where it is stored."""


EVERYTHING: Final = Keep()


def parse_keep(text: str) -> Keep:
    """Read ``90d,1000000,2GB``: an age (h, d, w, y), a number of messages, a size (KB to TB).

    Each at most once, in any order; ``all`` sets no limit. Raises ValueError with a sentence.
    """
    found: dict[str, int] = {}
    for word in [] if text.strip() == "all" else text.split(","):
        match = re.fullmatch(r"(\d{1,12})([a-zA-Z]*)", word.strip(), re.ASCII)
        number, unit = (int(match[1]), match[2]) if match else (0, "")
        if number and not unit:
            what, limit = "count", number
        elif number and unit.lower() in _SECONDS:
            what, limit = "age", number * _SECONDS[unit.lower()]
        elif number and unit.upper() in _BYTES:
            what, limit = "size", max(number * _BYTES[unit.upper()], _MIN_BYTES)
        else:
            raise ValueError(
                f"{word.strip()!r} is no limit. Write an age such as 90d, a number of messages such"
                " as 1000000, a size such as 2GB, several of these with commas between, or all."
            )
        if what in found:
            raise ValueError(f"There are two limits of the same sort: {text!r}.")
        found[what] = limit
    return Keep(found.get("age"), found.get("count"), found.get("size"))
