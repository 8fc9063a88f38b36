"""Who is here and what is on the shelf, as far as the server has told: what Tab knows.

It is made of what goes by. Nothing in it is shown as news, and nothing depends on its being right.
"""

from __future__ import annotations

from typing import Final

from chatbox.client.chat.events import Event, FileList, Headcount, Presence, UserList
from chatbox.text import is_printable

__all__ = ["MAX_KNOWN", "Roster"]

MAX_KNOWN: Final = 20_000
"""People, and files, that are remembered: twice what a room is built for."""


class Roster:
    """Names that a person may want to type."""

    def __init__(self) -> None:
        self.people: dict[str, None] = {}
        """Who is here, in the order of their coming."""
        self.files: tuple[str, ...] = ()
        self.count = 0
        """How many people are here: in a crowd, more than are known by name. 0 until the server has
        told: whoever comes before that, ourselves among them, is in what it tells."""

    def hear(self, event: Event) -> None:
        """Learn from what happens."""
        match event:
            case UserList(names=names):
                self.people = dict.fromkeys(filter(is_printable, names[:MAX_KNOWN]))
                self.count = len(names)
            case Headcount(count=count):
                self.count = count
            case FileList(files=files):
                names = tuple(file.name for file in files[:MAX_KNOWN])
                self.files = tuple(filter(is_printable, names))
            case Presence(name=name, here=True) if name not in self.people:
                self.count += bool(self.count)
                if is_printable(name) and len(self.people) < MAX_KNOWN:
                    self.people[name] = None
            case Presence(name=name, here=False):
                self.count = max(0, self.count - 1)
                self.people.pop(name, None)
            case _:
                pass  # nothing about who or what is there
