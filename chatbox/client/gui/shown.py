"""What the window shows of one room, as plain values, and how events change them.

Nothing is drawn when it happens. What has changed is noted in `changed`, and `on_change` is called
once; the window then draws, a frame later, whatever has changed until then. A thousand messages in
one turn of the reactor cost one look, and what the window draws at a time is its own choice.

A message that was sent and not yet answered is pending: it shows below all others, and moves to its
place in the common order when the server sends it back. One that fails stays where it failed, with
the reason and its text, so that it can be sent again.

What may be done about all this, and who asks for what, is in `chatbox.client.gui.model`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import tzinfo
from enum import Enum, Flag, auto
from typing import Final

from chatbox.client import words
from chatbox.client.chat.events import EVERYONE, Kind, Listed, Presence, Request, Said
from chatbox.client.chat.session import ClientSession, State
from chatbox.client.gui.entries import Draft, Entry, Look, Story
from chatbox.text import printable

__all__ = ["MAX_SHOWN", "Link", "Part", "Pending", "Shown"]

MAX_SHOWN: Final = 10_000
"""Messages that can be scrolled back to; more than a day of a busy room, some ten megabytes in Tk.
What waits to be drawn has the same bound, since the window would drop the rest at once."""


class Part(Flag):
    """A part of the window that may have changed."""

    NOTHING = 0
    MESSAGES = auto()
    PENDING = auto()
    ONLINE = auto()
    FILES = auto()
    LINK = auto()
    OLDER = auto()


@dataclass(frozen=True, slots=True)
class Pending:
    """A message that the server has not answered."""

    text: str
    to: str
    """Whom it is for, as it is shown; blank for everyone."""


class Link(Enum):
    """How the window stands with the server; the value says it."""

    CONNECTED = "Connected"
    RECONNECTING = "Connection cut. Coming back by itself…"
    LEAVING = "Saying goodbye…"
    LOST = "Not connected"


_LINKS: Final = {
    State.FRESH: Link.LOST,
    State.JOINING: Link.RECONNECTING,
    State.JOINED: Link.CONNECTED,
    State.AWAY: Link.RECONNECTING,
    State.REJOINING: Link.RECONNECTING,
    State.LEAVING: Link.LEAVING,
    State.ENDED: Link.LOST,
}


class Shown:
    """One person's view of one room, from having joined to the end of the connection."""

    def __init__(
        self, session: ClientSession, *, clock: Callable[[], float], zone: tzinfo | None
    ) -> None:
        """`clock` gives seconds since the epoch; times are shown as they are in `zone`."""
        self.changed = Part.NOTHING
        """What has changed since the window last looked; it sets this back."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when there is something to look at that was not there before."""
        self.entries: deque[Entry] = deque(maxlen=MAX_SHOWN)
        """What the window has yet to draw; it takes them out, oldest first."""
        self.older: list[Entry] = []
        """The same, of what comes before all that is drawn; it takes all at once."""
        self.online: list[str] = []
        """Those who are here, as far as we know them by name."""
        self.headcount = 0
        """How many are here: in a crowd, perhaps others than those that we know."""
        self.in_crowd = False
        """Whether only the number of people is told, and not who comes and goes."""
        self.files: list[Listed] = []
        self.unread = 0
        """Messages of others since the window was last looked at."""
        self.watched = True
        """Whether a person has the window before them."""
        self._session = session
        self._clock = clock
        self._zone = zone
        self._story = Story(session, zone)
        self._echoed: set[int] = set()
        """The requests that are not answered, though what they say has come back."""

    @property
    def me(self) -> str:
        """What we are called."""
        return self._session.name

    @property
    def link(self) -> Link:
        """How we stand with the server."""
        return _LINKS[self._session.state]

    @property
    def pending(self) -> list[Pending]:
        """What was sent and not answered, oldest first."""
        return [
            Pending(printable(one.text, keep_newlines=True), _shown_recipient(one.recipient))
            for one in self._session.pending
            if one.kind is Kind.SAY and one.number not in self._echoed
        ]

    # What the window says of itself

    def take_changes(self) -> Part:
        """What has changed since this was last called."""
        changed, self.changed = self.changed, Part.NOTHING
        return changed

    def watch(self, watched: bool) -> None:
        """A person has turned to the window, or away from it."""
        self.watched = watched
        if watched and self.unread:
            self.unread = 0
            self.note(Part.LINK)

    # Messages

    def notice(self, text: str) -> None:
        """Show a line that nobody said."""
        self._story.interrupt()
        self._add(Entry(Look.NOTICE, printable(text, keep_newlines=True)))

    def hear(self, said: Said) -> None:
        """Somebody says something, perhaps ourselves."""
        if said.sender == self.me:
            mine = (
                one.number
                for one in self._session.pending
                if one.kind is Kind.SAY
                and (one.recipient, one.text) == (said.recipient, said.text)
                and one.number not in self._echoed
            )
            self._echoed.update(list(mine)[:1])
            self.note(Part.PENDING)
        elif not self.watched:
            self.unread += 1
            self.note(Part.LINK)
        self._add(*self._story.tell(said))

    def succeed(self, request: Request, at: int | None) -> None:
        """What we said is in the log, since `at` (milliseconds since the epoch; None: unknown)."""
        self._echoed.discard(request.number)
        # What everybody hears we hear, too; of what is private there is only this answer.
        if request.recipient not in (EVERYONE, self.me):
            now = int(self._clock() * 1000)
            said = Said(self.me, request.recipient, request.text, at=at or now)
            self._add(*self._story.tell(said))
        self.note(Part.PENDING)

    def fail(self, request: Request, why: str) -> None:
        """What we said is not in the log."""
        self._echoed.discard(request.number)
        self.add_failed(request.text, request.recipient, why)
        self.note(Part.PENDING)

    def fail_unanswered(self, requests: Iterable[Request], why: str) -> None:
        """The connection is lost, and there will be no more answers."""
        for request in requests:
            if request.kind is Kind.SAY and request.number not in self._echoed:
                self.add_failed(request.text, request.recipient, why)

    def add_failed(self, text: str, recipient: str, why: str) -> None:
        """Show what could not be sent, so that it can be sent again."""
        self._story.interrupt()
        to = "" if recipient == EVERYONE else recipient
        heading = f"Not sent to {_shown_recipient(to) or 'everyone'}: {why}"
        shown = printable(text, keep_newlines=True)
        typed = f"/{text}" if text.startswith("/") else text  # else it would be a command
        self._add(Entry(Look.FAILED, shown, self.me, heading, draft=Draft(typed, to)))

    def add_page(self, page: Iterable[Said], *, older: bool) -> None:
        """Show messages of before: the last ones, or `older` ones, above all that there is."""
        story = Story(self._session, self._zone) if older else self._story
        entries = [entry for said in page for entry in story.tell(said)]
        if older:
            self.older = entries
        else:
            self._add(*entries)
        self.note(Part.OLDER)

    # People and files

    def list_people(self, names: Iterable[str]) -> None:
        """Show who is here."""
        self.online = list(names)
        self.headcount = len(self.online)
        self.note(Part.ONLINE)

    def count_people(self, count: int) -> None:
        """Show how many are here: so many that we are not told who comes and goes."""
        self.headcount = count
        self.in_crowd = True
        self.note(Part.ONLINE)

    def come_or_go(self, presence: Presence) -> None:
        """Somebody is here now, perhaps ourselves, or not any more."""
        name = presence.name
        if presence.here != (name in self.online):
            if presence.here:
                self.online.append(name)
            else:
                self.online.remove(name)
            self.headcount = max(0, self.headcount + (1 if presence.here else -1))
            self.note(Part.ONLINE)
        if name != self.me:
            verb = "joined" if presence.here else "left"
            self._add(*self._story.turn_the_page(presence.at))
            self.notice(f"{words.time_text(presence.at, self._zone)}  {printable(name)} {verb}")

    def list_files(self, files: Iterable[Listed]) -> None:
        """Show what can be downloaded."""
        self.files = list(files)
        self.note(Part.FILES)

    # How it works

    def note(self, part: Part) -> None:
        """Let the window look at a part of it."""
        was_clean = not self.changed
        self.changed |= part
        if was_clean:
            self.on_change()

    def _add(self, *entries: Entry) -> None:
        self.entries.extend(entries)
        self.note(Part.MESSAGES)


def _shown_recipient(name: str) -> str:
    return "" if name == EVERYONE else printable(name)
