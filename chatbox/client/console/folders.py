"""Which folders of this machine somebody may mean who has typed the beginning of a path."""

from __future__ import annotations

import os
from contextlib import suppress

from chatbox.text import is_printable

__all__ = ["folders_like"]


def folders_like(beginning: str) -> list[str]:
    """Return the folders beside the one that was begun, each as it would be typed, with its slash.

    Hidden ones come when their dot is typed. What is no text, or cannot be shown, cannot be typed.
    """
    last = beginning.rpartition("/")[2]
    above = beginning[: len(beginning) - len(last)]
    found: list[str] = []
    with suppress(OSError, ValueError), os.scandir(os.path.expanduser(above) or ".") as entries:
        for entry in entries:
            hidden = entry.name.startswith(".") and not last.startswith(".")
            if not hidden and is_printable(entry.name) and entry.is_dir():
                found.append(f"{above}{entry.name}/")
    return found
