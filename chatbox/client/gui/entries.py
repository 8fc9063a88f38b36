"""What stands in the middle of the window, one below the other, made of what was said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, tzinfo
from enum import Enum
from typing import Final

from chatbox.client import words
from chatbox.client.chat.events import EVERYONE, Said
from chatbox.client.chat.session import ClientSession
from chatbox.text import printable

__all__ = ["SAME_BREATH_MS", "Draft", "Entry", "Look", "Story"]

SAME_BREATH_MS: Final = 5 * 60_000
"""What somebody says within this time of their last words needs no heading of its own."""


class Look(Enum):
    """What kind of entry it is, which is how it looks."""

    SAID = "said"
    PRIVATE = "private"
    NOTICE = "notice"
    FAILED = "failed"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Draft:
    """What a person wanted to say."""

    text: str
    """As it is typed."""
    to: str = ""
    """Blank for everyone."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in the middle of the window. All texts are safe to show."""

    look: Look
    text: str
    who: str = ""
    """Who said it, as in the list of who is online; blank where nobody did."""
    heading: str = ""
    """Whose words follow, such as "bob" or "bob to you"; blank if it is clear from above."""
    at: str = ""
    """The time of day."""
    mine: bool = False
    """Whether we said it."""
    draft: Draft | None = None
    """Of what failed: what to send again."""


class Story:
    """A run of messages in their order: each is headed by who it is, and each day by its date."""

    def __init__(self, session: ClientSession, zone: tzinfo | None) -> None:
        self._session = session
        self._zone = zone
        self._last: Said | None = None
        self._day = ""

    def interrupt(self) -> None:
        """Something else stands between, so what follows needs a heading."""
        self._last = None

    def tell(self, said: Said) -> list[Entry]:
        """What one message adds."""
        pages = self.turn_the_page(said.at)
        me = self._session.name
        look, mine = Look.SAID, said.sender == me
        heading = who = printable(said.sender)
        if said.recipient != EVERYONE:
            look = Look.PRIVATE
            self_or_you = "yourself" if mine else "you"
            whom = self_or_you if said.recipient == me else printable(said.recipient)
            heading = f"{'You' if mine else who} to {whom}"
        if self._last is not None and _in_one_breath(self._last, said):
            heading = ""
        self._last = said
        text, at = printable(said.text, keep_newlines=True), words.time_text(said.at, self._zone)
        return [*pages, Entry(look, text, who, heading, at, mine)]

    def turn_the_page(self, at: int | None) -> list[Entry]:
        """The date, where it changes."""
        try:
            day = f"{datetime.fromtimestamp((at or 0) / 1000, self._zone):%A, %d %B %Y}"
        except (ValueError, OverflowError, OSError):  # a server may send any number
            return []
        if at is None or day == self._day:
            return []
        self._day, self._last = day, None
        return [Entry(Look.DAY, day)]


def _in_one_breath(before: Said, after: Said) -> bool:
    if (before.sender, before.recipient) != (after.sender, after.recipient):
        return False
    return abs((after.at or 0) - (before.at or 0)) < SAME_BREATH_MS
