"""What the window remembers from one time to the next."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields

from chatbox.files import write_whole

__all__ = ["Settings"]


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
