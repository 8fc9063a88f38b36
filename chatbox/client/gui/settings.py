"""What the window remembers from one time to the next."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Final

from chatbox.files import write_whole

__all__ = ["Settings", "on_screen"]

_GEOMETRY: Final = re.compile(r"(\d{1,5})x(\d{1,5})(?:\+(-?\d{1,5})\+(-?\d{1,5}))?", re.ASCII)


@dataclass
class Settings:
    """The last choices of the person. Whatever cannot be read is as if it had not been kept."""

    name: str = ""
    address: str = ""
    tls: bool = False
    theme: str = "light"
    zoom: int = 0
    geometry: str = ""
    """Size and place of the window, as Tk writes them."""
    shared: str = ""
    """The folder that was shared last."""
    shared_limit: str = ""
    """What all downloads together could take then, as it was typed."""
    shared_tls: bool = False
    """Whether one came in with TLS."""

    @classmethod
    def load(cls, path: str) -> Settings:
        """Read them from a file."""
        settings = cls()
        try:
            with open(path, encoding="utf-8") as file:
                kept = json.load(file)
        except (OSError, ValueError, RecursionError):
            return settings
        for field in fields(cls):
            value = kept.get(field.name) if isinstance(kept, dict) else None
            if type(value) is type(getattr(settings, field.name)):
                setattr(settings, field.name, value)
        return settings

    def save(self, path: str) -> None:
        """Write them to a file; where that is not possible they are forgotten."""
        with suppress(OSError):
            write_whole(path, json.dumps(asdict(self), indent=1).encode())


def on_screen(geometry: str, usual: tuple[int, int], screen: tuple[int, int]) -> str:
    """Size and place of a window, as Tk writes them, so that all of it is on the screen.

    It is that of `geometry`, which may be from another screen or mean nothing, or else of the
    `usual` size, wherever it is put.
    """
    match = _GEOMETRY.fullmatch(geometry)
    sizes = map(int, match.group(1, 2)) if match else usual
    size = [min(one, room) for one, room in zip(sizes, screen, strict=True)]
    written = "x".join(map(str, size))
    if match and match[3]:
        for at, long, room in zip(match.group(3, 4), size, screen, strict=True):
            written += f"+{min(max(int(at), 0), room - long)}"
    return written
