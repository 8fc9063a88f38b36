"""What the window shows of one room, and what its buttons do: everything but the widgets.

This stands where the console's screen stands, above the same `Conversation`. Where the console
prints a line, the window has a place for the thing itself, so events that have a place (messages,
people, files) are taken here as values, and only the rest is told in words by the conversation.

Nothing is drawn when it happens. What has changed is noted in `changed`, and `on_change` is called
once; the window then draws, a frame later, whatever has changed until then. A thousand messages in
one turn of the reactor cost one look, and what the window draws at a time is its own choice.

A message that was sent and not yet answered is pending: it shows below all others, and moves to its
place in the common order when the server sends it back. One that fails stays where it failed, with
the reason and its text, so that it can be sent again.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import tzinfo
from enum import Enum, Flag, auto
from typing import Final

from chatbox.chat.wire import MAX_TEXT_BYTES, check_text
from chatbox.client import words
from chatbox.client.chat.events import (
    EVERYONE,
    Back,
    Cut,
    Event,
    Failed,
    FileList,
    Headcount,
    HistoryPage,
    Joined,
    Kind,
    Listed,
    Lost,
    Presence,
    Problem,
    Request,
    Said,
    Succeeded,
    UserList,
)
from chatbox.client.chat.session import ClientSession, State
from chatbox.client.commands import (
    Action,
    BadCommand,
    FetchFile,
    Help,
    Limit,
    Quit,
    Reply,
    Say,
    ShowFiles,
    ShowHistory,
    ShowOnline,
    help_lines,
    parse,
)
from chatbox.client.conversation import Conversation, Hints
from chatbox.client.files.transfers import Fetch, likely_name
from chatbox.client.gui.downloads import STANDING, Rows
from chatbox.client.gui.entries import Draft, Entry, Look, Story
from chatbox.errors import RemoteError
from chatbox.text import printable

__all__ = ["MAX_SHOWN", "Link", "Part", "Pending", "Room"]

MAX_SHOWN: Final = 10_000
"""Messages that can be scrolled back to; more than a day of a busy room, some ten megabytes in Tk.
What waits to be drawn has the same bound, since the window would drop the rest at once."""

HISTORY_AT_JOIN: Final = 100
"""Messages of before that are shown to somebody who comes: a few screens."""

OLDER_AT_ONCE: Final = 40
"""Messages of before those that are fetched and drawn when somebody wants to read them."""

HINTS: Final = Hints(
    standing=STANDING,
    elsewhere="Choose another place or name under “Save as”.",
    lost="The download goes on as long as this window is open.",
)


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


class Room:
    """One person's view of one room, from having joined to the end of the connection."""

    def __init__(
        self,
        session: ClientSession,
        *,
        host: str,
        fetch: Fetch,
        flush: Callable[[], None],
        clock: Callable[[], float],
        rows: Rows,
        folder: str = "",
        rate_limit: int | None = None,
        zone: tzinfo | None = None,
        open_file: Callable[[str], None] | None = None,
    ) -> None:
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
        self.files: list[Listed] = []
        self.unread = 0
        """Messages of others since the window was last looked at."""
        self.watched = True
        """Whether a person has the window before them."""
        self.goodbye = False
        """Whether the connection ended because we said goodbye."""
        self._session = session
        self._rows = rows
        self._folder = folder
        self._zone = zone
        self._flush = flush
        self._clock = clock
        self._echoed: set[int] = set()
        self._story = Story(session, zone)
        self._older: int | None = None
        """The place before which there are messages that were not asked for yet."""
        self._asked_older = 0
        """The request for some of them; 0 if there is none."""
        self._in_crowd = False
        """Whether only the number of people is told, and not who comes and goes."""
        self._conversation = Conversation(
            session,
            host=host,
            fetch=fetch,
            flush=flush,
            tell=self.notice,
            changed=self._follow_downloads,
            clock=clock,
            zone=zone,
            hints=HINTS,
            rate_limit=rate_limit,
            open_file=open_file,
            tell_progress=lambda _: None,  # the rows say it
        )

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

    # What the person does

    def send(self, text: str, to: str = "") -> bool:
        """Say `text` to everyone, or to `to` if that is not blank; or do what it commands.

        A command begins with one slash, as in the console. False if it was not taken.
        """
        text, to = _sendable(text).strip("\n"), _sendable(to).strip()
        try:
            action = parse(text)
        except BadCommand as error:
            self.notice(str(error))
            return False
        match action:
            case None:
                return False
            case Say(text=message, recipient=whom):
                is_command = text.startswith("/") and not text.startswith("//")
                return self._say(message, whom if is_command else to)
            case Reply(text=message) if self._conversation.correspondent:
                return self._say(message, self._conversation.correspondent)
        self._do(action)
        return True

    def show_online(self) -> None:
        """Ask who is here."""
        self._conversation.act(ShowOnline())

    def show_files(self) -> None:
        """Ask what the server has to download."""
        self._conversation.act(ShowFiles())

    @property
    def has_older(self) -> bool:
        """Whether there are messages before those that came."""
        return bool(self._older)

    def show_older(self) -> None:
        """Ask for some messages before those that are here."""
        may_ask = self._session.state is State.JOINED and not self._session.is_full
        if self._older and may_ask and not (self._asked_older or self.older):
            self._asked_older = self._session.ask_history(OLDER_AT_ONCE, before=self._older)
            self._flush()

    def refresh(self) -> None:
        """Update the screen: ask for everything that is a list."""
        self.show_online()
        self.show_files()

    def suggest_path(self, name: str) -> str:
        """Where the file called `name` could be saved without being in the way of another."""
        base = likely_name(name)
        stem, ending = os.path.splitext(base)
        path, count = os.path.join(self._folder, base), 1
        while os.path.lexists(path):
            count += 1
            path = os.path.join(self._folder, f"{stem} ({count}){ending}")
        return path

    def download(self, name: str, save_as: str = "", *, pause_half_way: bool = True) -> None:
        """Fetch the file called `name`, and save it as `save_as` if that is not blank."""
        name, save_as = _sendable(name), save_as.strip()
        if not name.strip():
            self.notice("Which file? Choose one in the list, or type its name.")
            return
        path = save_as or self.suggest_path(name)
        self._conversation.act(FetchFile(name, path, pause_half_way))
        self._follow_downloads()

    def logout(self) -> None:
        """Say goodbye. Downloads do not need the connection, and go on."""
        if self._session.state is State.JOINED:
            self._session.leave()
        elif self.link is Link.RECONNECTING:
            self._session.give_up()
        self._flush()
        self._note(Part.LINK)

    def watch(self, watched: bool) -> None:
        """A person has turned to the window, or away from it."""
        self.watched = watched
        if watched and self.unread:
            self.unread = 0
            self._note(Part.LINK)

    def take_changes(self) -> Part:
        """What has changed since this was last called."""
        changed, self.changed = self.changed, Part.NOTHING
        return changed

    # What happens

    def handle(self, event: Event) -> None:
        """Take an event of the session."""
        match event:
            case Joined(name=name):
                self.notice(f"You are in, as {printable(name)}.")
                self._session.ask_history(HISTORY_AT_JOIN)
                self.refresh()
                self._note(Part.LINK)
            case HistoryPage():
                self._take_page(event)
            case Failed(request=Request(kind=Kind.HISTORY) as request) if (
                request.number == self._asked_older
            ):
                self._asked_older = 0
                self._conversation.handle(event)
            case Said():
                self._hear(event)
            case Presence():
                self._come_or_go(event)
            case UserList(names=names):
                self.online = list(names)
                self.headcount = len(names)
                self._note(Part.ONLINE)
            case Headcount(count=count):
                self.headcount = count
                self._in_crowd = True
                self._note(Part.ONLINE)
            case FileList(files=files):
                self.files = list(files)
                self._note(Part.FILES)
            case Succeeded(request=Request(kind=Kind.SAY) as request, at=at):
                self._echoed.discard(request.number)
                # What everybody hears we hear, too; of what is private there is only this answer.
                if request.recipient not in (EVERYONE, self.me):
                    now = int(self._clock() * 1000)
                    said = Said(self.me, request.recipient, request.text, at=at or now)
                    self._add(*self._story.tell(said))
                self._note(Part.PENDING)
            case Failed(request=Request(kind=Kind.SAY) as request, problem=problem):
                self._echoed.discard(request.number)
                self._add_failed(request.text, request.recipient, words.explain(problem))
                self._note(Part.PENDING)
            case Cut() | Back():
                self._reconnect(event)
            case Lost():
                self._lose(event)
            case _:
                self._conversation.handle(event)

    def notice(self, text: str) -> None:
        """Show a line that nobody said."""
        self._story.interrupt()
        self._add(Entry(Look.NOTICE, printable(text, keep_newlines=True)))

    # How it works

    def _say(self, text: str, to: str) -> bool:
        try:
            check_text(text, self._session.limits.get("text", MAX_TEXT_BYTES))
        except RemoteError as error:
            self._add_failed(text, to, words.explain(Problem(error.code, error.detail)))
            return True
        before = len(self._session.pending)
        self._conversation.act(Say(text, to or EVERYONE))
        self._note(Part.PENDING)
        return len(self._session.pending) > before

    def _do(self, action: Action) -> None:
        """Do what a command asks for that says nothing to anybody."""
        match action:
            case FetchFile(name=name, save_as=save_as, pause_half_way=pause_half_way):
                path = os.path.join(self._folder, os.path.expanduser(save_as)) if save_as else ""
                self.download(name, path, pause_half_way=pause_half_way)
            case ShowHistory():
                self.show_older()
            case Help(operators=operators):
                lines = help_lines(operators=operators)
                # Letters of different widths make no columns.
                self.notice("\n".join(re.sub(" {2,}", ": ", line.strip()) for line in lines))
            case Quit():
                self.logout()
            case Limit(name=str(name)):
                self._conversation.act(action)
                for one in self._conversation.downloads:
                    if one.name == name:
                        self.notice(one.last_words)
            case _:
                self._conversation.act(action)
                self._follow_downloads()

    def _note(self, part: Part) -> None:
        was_clean = not self.changed
        self.changed |= part
        if was_clean:
            self.on_change()

    def _add(self, *entries: Entry) -> None:
        self.entries.extend(entries)
        self._note(Part.MESSAGES)

    def _take_page(self, page: HistoryPage) -> None:
        """Messages of before: those of the last screens, or older ones that were asked for."""
        is_older = page.request.number == self._asked_older
        story = Story(self._session, self._zone) if is_older else self._story
        entries = [entry for said in page.said for entry in story.tell(said)]
        self._older = page.before
        if is_older:
            self._asked_older, self.older = 0, entries
        else:
            self._add(*entries)
        self._note(Part.OLDER)

    def _hear(self, said: Said) -> None:
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
            self._note(Part.PENDING)
        elif not self.watched:
            self.unread += 1
            self._note(Part.LINK)
        if said.recipient != EVERYONE and said.sender != self.me:
            self._conversation.correspondent = said.sender
        self._add(*self._story.tell(said))

    def _add_failed(self, text: str, recipient: str, why: str) -> None:
        self._story.interrupt()
        to = "" if recipient == EVERYONE else recipient
        heading = f"Not sent to {_shown_recipient(to) or 'everyone'}: {why}"
        shown = printable(text, keep_newlines=True)
        typed = f"/{text}" if text.startswith("/") else text  # else it would be a command
        self._add(Entry(Look.FAILED, shown, self.me, heading, draft=Draft(typed, to)))

    def _come_or_go(self, presence: Presence) -> None:
        name = presence.name
        if presence.here != (name in self.online):
            if presence.here:
                self.online.append(name)
            else:
                self.online.remove(name)
            self.headcount = max(0, self.headcount + (1 if presence.here else -1))
            self._note(Part.ONLINE)
        if name != self.me:
            if self._in_crowd and self._session.state is State.JOINED:
                self._in_crowd = False
                self.show_online()  # who came and went until now was not told
            verb = "joined" if presence.here else "left"
            self._add(*self._story.turn_the_page(presence.at))
            self.notice(f"{words.time_text(presence.at, self._zone)}  {printable(name)} {verb}")

    def _reconnect(self, event: Cut | Back) -> None:
        if isinstance(event, Back):
            self._conversation.come_back()
            if not event.restarted:
                self.notice("Back again.")
            self.refresh()
        elif event.restarting:
            self.notice("The server restarts; back in a moment.")
        else:
            self.notice("The connection is cut. Coming back by itself…")
        self._asked_older = 0
        self._note(Part.LINK | Part.PENDING)

    def _lose(self, lost: Lost) -> None:
        self.goodbye = lost.expected
        for request in lost.unanswered if not lost.expected else ():
            if request.kind is Kind.SAY and request.number not in self._echoed:
                why = "the connection was lost before the server confirmed it."
                self._add_failed(request.text, request.recipient, why)
        self.online, self.headcount = [], 0
        self._asked_older = 0
        self._conversation.handle(replace(lost, unanswered=()))
        self._note(Part.LINK | Part.PENDING | Part.ONLINE)

    def _follow_downloads(self) -> None:
        """Show in the rows what has become of the downloads, and say what a person must know."""
        for sentence in self._rows.follow(self._conversation.downloads):
            self.notice(sentence)


def _shown_recipient(name: str) -> str:
    return "" if name == EVERYONE else printable(name)


def _sendable(text: str) -> str:
    """Text as Tk has it as text that can be sent: halves of characters that Tk keeps are joined."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
