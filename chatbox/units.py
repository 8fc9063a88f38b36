"""Rates and ports as people write them: ``10MB``, ``800kB/s``, ``100Mbit``; ``55000-55019``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["MIN_RATE", "parse_rate", "port_ranges"]

MIN_RATE: Final = 1000
"""Bytes per second. With less, a packet leaves less often than every second, and a limit starts to
look like a server that is gone."""

_MAX_RATE: Final = 10**15
"""Far above any network; a larger number is a slip."""

# Not "Mb": the small letter means bits to some and nothing to others, a factor of eight.
_FORM: Final = re.compile(
    r"(\d{1,15}(?:\.\d{1,15})?) ?([kKmMgGtT]?)(B|[Bb]it|bps|)(?:/s)?", re.ASCII
)
_FACTORS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def parse_rate(text: str) -> int:
    """
    Read a rate: a number, its unit (k, M, G, T for powers of a thousand, then B for bytes or bit
    for bits; bytes if it is left out), and ``/s`` if one likes. Bytes per second.

    :raises ValueError: with a sentence that says how to write one.
    """
    text = text.strip()
    match = _FORM.fullmatch(text)
    if not match:
        raise ValueError(
            f"{text!r} is no rate. Write bytes per second such as 800kB or 10MB, or bits such as"
            " 100Mbit."
        )
    number, factor, unit = match.groups()
    rate = float(number) * _FACTORS[factor.lower()] / (1 if unit in ("", "B") else 8)
    if not MIN_RATE <= rate <= _MAX_RATE:
        raise ValueError(f"{text} is out of range: rates go from 1kB to 1000TB per second.")
    return round(rate)


def port_ranges(ports: Iterable[int], between: str = ", ") -> str:
    """Write ports in order; those that follow each other as FIRST-LAST, and `between` such rows."""
    rows: list[list[int]] = []
    for port in sorted(set(ports)):
        if rows and port == rows[-1][-1] + 1:
            rows[-1].append(port)
        else:
            rows.append([port])
    return between.join(f"{row[0]}-{row[-1]}" if row[1:] else str(row[0]) for row in rows)
