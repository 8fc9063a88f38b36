"""What a person can do in the window's room, and what becomes of it: everything but the widgets.

This stands where the console's screen stands, above the same `Conversation`. Where the console
prints a line, the window has a place for the thing itself, so events that have a place (messages,
people, files) go to `Shown` as values, and only the rest is told in words by the conversation.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import tzinfo
from typing import Final

from chatbox.chat.wire import MAX_TEXT_BYTES, check_text
from chatbox.client import words
from chatbox.client.actions import (
    Action,
    FetchFile,
    Help,
    Limit,
    Quit,
    Reply,
    Say,
    ShowFiles,
    ShowHistory,
    ShowOnline,
)
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
    Lost,
    Presence,
    Problem,
    Request,
    Said,
    Succeeded,
    UserList,
)
from chatbox.client.chat.session import ClientSession, State
from chatbox.client.commands import BadCommand, help_lines, parse
from chatbox.client.conversation import Conversation
from chatbox.client.files.names import free_path
from chatbox.client.files.transfers import Fetch
from chatbox.client.gui.downloads import STANDING, Rows
from chatbox.client.gui.shown import Link, Part, Shown
from chatbox.errors import RemoteError
from chatbox.text import printable

__all__ = ["Room"]

HISTORY_AT_JOIN: Final = 100
"""Messages of before that are shown to somebody who comes: a few screens."""

OLDER_AT_ONCE: Final = 40
"""Messages of before those that are fetched and drawn when somebody wants to read them."""

HINTS: Final = words.Hints(
    standing=STANDING,
    elsewhere="Choose another place or name under “Save as”.",
    lost="The download goes on as long as this window is open.",
    files="",  # they are in the list beside
)


class Room:
    """One person in one room, from having joined to the end of the connection."""

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
        self.shown = Shown(session, clock=clock, zone=zone)
        self._session = session
        self._rows = rows
        self._folder = folder
        self._flush = flush
        self._older: int | None = None
        """The place before which there are messages that were not asked for yet."""
        self._asked_older = 0
        """The request for some of them; 0 if there is none."""
        self._conversation = Conversation(
            session,
            host=host,
            fetch=fetch,
            flush=flush,
            tell=self.shown.notice,
            changed=self._follow_downloads,
            clock=clock,
            zone=zone,
            hints=HINTS,
            rate_limit=rate_limit,
            open_file=open_file,
            tell_progress=lambda _: None,  # the rows say it
        )

    # What the person does

    def send(self, text: str, to: str = "") -> bool:
        """Say `text` to everyone, or to `to` if that is not blank; or do what it commands.

        A command begins with one slash, as in the console. False if it was not taken.
        """
        text, to = _sendable(text).strip("\n"), _sendable(to).strip()
        try:
            action = parse(text)
        except BadCommand as error:
            self.shown.notice(str(error))
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
        if self._older and may_ask and not (self._asked_older or self.shown.older):
            self._asked_older = self._session.ask_history(OLDER_AT_ONCE, before=self._older)
            self._flush()

    def refresh(self) -> None:
        """Update the screen: ask for everything that is a list."""
        self.show_online()
        self.show_files()

    def suggest_path(self, name: str) -> str:
        """Where the file called `name` could be saved without being in the way of another."""
        return free_path(self._folder, name)

    def download(self, name: str, save_as: str = "", *, pause_half_way: bool = True) -> None:
        """Fetch the file called `name`, and save it as `save_as` if that is not blank."""
        name, save_as = _sendable(name), save_as.strip()
        if not name.strip():
            self.shown.notice("Which file? Choose one in the list, or type its name.")
            return
        path = save_as or self.suggest_path(name)
        self._conversation.act(FetchFile(name, path, pause_half_way))
        self._follow_downloads()

    def logout(self) -> None:
        """Say goodbye. Downloads do not need the connection, and go on."""
        if self._session.state is State.JOINED:
            self._session.leave()
        elif self.shown.link is Link.RECONNECTING:
            self._session.give_up()
        self._flush()
        self.shown.note(Part.LINK)

    # What happens

    def handle(self, event: Event) -> None:
        """Take an event of the session."""
        shown = self.shown
        match event:
            case Joined(name=name):
                shown.notice(f"You are in, as {printable(name)}.")
                if self._session.limits:
                    # A server that is none of ours may never answer, and while an answer is
                    # awaited nothing that is said is shown.
                    self._session.ask_history(HISTORY_AT_JOIN)
                self.refresh()
                shown.note(Part.LINK)
            case HistoryPage():
                self._take_page(event)
            case Failed(request=Request(kind=Kind.HISTORY) as request) if (
                request.number == self._asked_older
            ):
                self._asked_older = 0
                self._conversation.handle(event)
            case Said(sender=sender, recipient=recipient):
                if recipient != EVERYONE and sender != shown.me:
                    self._conversation.correspondent = sender
                shown.hear(event)
            case Presence():
                self._come_or_go(event)
            case UserList(names=names):
                shown.list_people(names)
            case Headcount(count=count):
                shown.count_people(count)
            case FileList(files=files):
                shown.list_files(files)
            case Succeeded(request=Request(kind=Kind.SAY) as request, at=at):
                shown.succeed(request, at)
            case Failed(request=Request(kind=Kind.SAY) as request, problem=problem):
                shown.fail(request, words.explain(problem))
            case Cut() | Back():
                self._reconnect(event)
            case Lost():
                self._lose(event)
            case _:
                self._conversation.handle(event)

    # How it works

    def _say(self, text: str, to: str) -> bool:
        try:
            check_text(text, self._session.limits.get("text", MAX_TEXT_BYTES))
        except RemoteError as error:
            self.shown.add_failed(text, to, words.explain(Problem(error.code, error.detail)))
            return True
        before = len(self._session.pending)
        self._conversation.act(Say(text, to or EVERYONE))
        self.shown.note(Part.PENDING)
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
                self.shown.notice("\n".join(re.sub(" {2,}", ": ", line.strip()) for line in lines))
            case Quit():
                self.logout()
            case Limit(name=str(name)):
                self._conversation.act(action)
                for one in self._conversation.downloads.running:
                    if one.name == name:
                        self.shown.notice(one.last_words)
            case _:
                self._conversation.act(action)
                self._follow_downloads()

    def _take_page(self, page: HistoryPage) -> None:
        """Messages of before: those of the last screens, or older ones that were asked for."""
        is_older = page.request.number == self._asked_older
        self._older = page.before
        if is_older:
            self._asked_older = 0
        self.shown.add_page(page.said, older=is_older)

    def _come_or_go(self, presence: Presence) -> None:
        shown = self.shown
        shown.come_or_go(presence)
        if presence.name != shown.me and shown.in_crowd and self._session.state is State.JOINED:
            shown.in_crowd = False
            self.show_online()  # who came and went until now was not told

    def _reconnect(self, event: Cut | Back) -> None:
        if isinstance(event, Back):
            self._conversation.downloads.come_back()
            if not event.restarted:
                self.shown.notice("Back again.")
            self.refresh()
        else:
            self._conversation.downloads.doubt()
            if event.restarting:
                self.shown.notice("The server restarts; back in a moment.")
            else:
                self.shown.notice("The connection is cut. Coming back by itself…")
        self._asked_older = 0
        self.shown.note(Part.LINK | Part.PENDING)

    def _lose(self, lost: Lost) -> None:
        if not lost.expected:
            why = "the connection was lost before the server confirmed it."
            self.shown.fail_unanswered(lost.unanswered, why)
        self.shown.list_people([])
        self._asked_older = 0
        self._conversation.handle(replace(lost, unanswered=()))
        self.shown.note(Part.LINK | Part.PENDING)

    def _follow_downloads(self) -> None:
        """Show in the rows what has become of the downloads, and say what a person must know."""
        for sentence in self._rows.follow(self._conversation.downloads.running):
            self.shown.notice(sentence)


def _sendable(text: str) -> str:
    """Text as Tk has it as text that can be sent: halves of characters that Tk keeps are joined."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
