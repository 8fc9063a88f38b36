"""A person's conversation: what they type acts on the server, what happens is told to them.

This stands between the session, which knows the wire, and a console or a window, which knows the
screen. It does what is asked for, has the `Downloads`, and owns the wish to leave. It must never
print, block, or know a transport: it is given `flush` to call when the session may have something
to send, `fetch` to begin a transfer, `tell` for lines that the person should read, `changed` to
call when a download has changed its stage, `open_file` to show a file that is complete, and
`clock`, in seconds since the epoch.

Leaving has two degrees. `/quit` says goodbye at once. The end of the input (a pipe is empty, or
Ctrl-D) says goodbye once every request is answered and every download has ended; one that stands
then goes on by itself, since nobody is left to type `/proceed`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import tzinfo

from chatbox.client import words
from chatbox.client.actions import (
    Action,
    FetchFile,
    Help,
    Limit,
    Moderate,
    OpenFile,
    Quit,
    Reply,
    Say,
    ShowBans,
    ShowDownloads,
    ShowFiles,
    ShowHistory,
    ShowOnline,
    Steer,
)
from chatbox.client.chat.events import (
    EVERYONE,
    Back,
    Cut,
    Event,
    Failed,
    HistoryPage,
    Kind,
    Lost,
    Offer,
    Request,
    Said,
)
from chatbox.client.chat.pages import LastMessages
from chatbox.client.chat.session import ClientSession, State
from chatbox.client.chat.states import AWAY
from chatbox.client.commands import BadCommand, help_lines, parse
from chatbox.client.exits import Exit
from chatbox.client.files.downloads import Downloads
from chatbox.client.files.transfers import Fetch

__all__ = ["Conversation"]


class Conversation:
    """One person's dealings with one server, over one session."""

    def __init__(
        self,
        session: ClientSession,
        *,
        host: str,
        fetch: Fetch,
        flush: Callable[[], None],
        tell: Callable[[str], None],
        changed: Callable[[], None],
        clock: Callable[[], float],
        zone: tzinfo | None = None,
        hints: words.Hints | None = None,
        folder: str = "",
        rate_limit: int | None = None,
        open_file: Callable[[str], None] | None = None,
        tell_progress: Callable[[str], None] | None = None,
        show: Callable[[Event, str], None] | None = None,
    ) -> None:
        """`folder` is where files go that a person gives no place; empty for the current one.
        `rate_limit` holds for all downloads together, in bytes per second. `tell_progress` takes
        what the downloads say, where they have a place of their own. `show` tells of an event to
        the person whose name it is given; without it that is done by `tell`.
        """
        self.session = session
        self._hints = hints or words.Hints()
        self.downloads = Downloads(
            session,
            host=host,
            fetch=fetch,
            flush=flush,
            tell=tell,
            tell_progress=tell_progress or tell,
            changed=self._downloads_changed,
            clock=clock,
            hints=self._hints,
            folder=folder,
            rate_limit=rate_limit,
            open_file=open_file,
        )
        self.status: Exit | None = None
        """How it ended: OK if we left, LOST if not; None while it goes on."""
        self.correspondent = ""
        """Who has last written to us privately."""
        self._lost: Lost | None = None
        self._input_has_ended = False
        self._histories: dict[int, LastMessages] = {}
        """What has come of the histories that were asked for, by the request for the next page."""
        self._flush = flush
        self._tell = tell
        self._changed = changed
        self._clock = clock
        self._zone = zone
        self._show = show or self._describe

    # What the person does

    def enter(self, line: str) -> None:
        """Act on one typed line."""
        try:
            action = parse(line)
        except BadCommand as error:
            self._tell(str(error))
        else:
            if action is not None:
                self.act(action)

    def act(self, action: Action) -> None:
        """Do what a person asked for, if the conversation allows it now."""
        match action:
            case Help(operators=operators):
                told = help_lines(operators=operators)
                for line in filter(None, (*told, self._hints.keys)):
                    self._tell(line)
            case Steer(steering=steering, name=name):
                self.downloads.steer(steering, name)
            case Limit(rate=rate, name=None):
                self.downloads.limit_all(rate)
            case Limit(rate=rate, name=str(name)):
                self.downloads.limit(rate, name)
            case ShowDownloads():
                self.downloads.describe()
            case OpenFile(name=name):
                self.downloads.open(name)
            case Quit():
                self.leave()
            case _ if self.session.state not in (State.JOINED, *AWAY):
                self._tell("Not connected.")
            case _ if self.session.state in AWAY and not isinstance(action, Say | Reply):
                self._tell("Not connected at the moment; try again when we are back.")
            case _ if self.session.is_full:
                self._tell("Too much is waiting for the server; try again in a moment.")
            case Say(text=text, recipient=recipient):
                self.session.say(text, recipient)
            case Reply() if not self.correspondent:
                self._tell("Nobody has written to you privately yet.")
            case Reply(text=text):
                self.session.say(text, self.correspondent)
            case ShowOnline():
                self.session.ask_users()
            case ShowFiles():
                self.session.ask_files()
            case ShowHistory(count=count):
                self._histories[self.session.ask_history(count)] = LastMessages(count)
            case FetchFile():
                self.downloads.fetch(action)
            case Moderate():
                self.session.moderate(
                    action.kind, action.whom, seconds=action.seconds, reason=action.reason
                )
            case ShowBans():
                self.session.ask_bans()
        self._flush()

    def end_input(self) -> None:
        """Nothing more will be typed: leave when all is done."""
        if not self._input_has_ended:
            self._input_has_ended = True
            self.downloads.go_on_alone()
        self._leave_if_done()
        self._flush()

    def leave(self) -> None:
        """Say goodbye now. Downloads that are on their way are named, since they stop here."""
        self.downloads.interrupt()
        if self.session.state is State.JOINED:
            self.session.leave()
        elif self.session.state in AWAY:
            self.session.give_up()
        elif self._lost is not None:
            self.status = Exit.LOST
        self._flush()

    # What happens

    def handle(self, event: Event) -> None:
        """Take an event of the session."""
        match event:
            case Offer() | Failed() if self.downloads.take(event):
                pass  # it has said what there is to say
            case HistoryPage(request=request) if request.number in self._histories:
                self._take_page(event, self._histories.pop(request.number))
            case _:
                self._show(event, self.session.name)
        match event:
            case Failed(request=Request(kind=Kind.HISTORY) as request):
                self._histories.pop(request.number, None)
            case Lost():
                self._lose(event)
            case Cut():
                self.downloads.doubt()
            case Back():
                self.downloads.come_back()
            case Said(sender=sender, recipient=recipient) if recipient != EVERYONE:
                if sender != self.session.name:
                    self.correspondent = sender
            case _:
                pass  # nothing to remember
        self.downloads.ask_for_due()
        self._leave_if_done()

    # How it works

    def _downloads_changed(self) -> None:
        """A download has changed its stage."""
        self._leave_if_done()
        self._flush()
        self._changed()

    def _describe(self, event: Event, me: str) -> None:
        for line in words.describe(event, me, now=self._clock(), zone=self._zone):
            self._tell(line)

    def _take_page(self, page: HistoryPage, last: LastMessages) -> None:
        """Ask for the page before this one, until there is all that was asked for."""
        before = last.take(page)
        if before is not None and self.session.state is State.JOINED and not self.session.is_full:
            number = self.session.ask_history(last.missing, before=before)
            self._histories[number] = last
            return
        self._show(replace(page, said=last.said), self.session.name)
        if last.missing > 0 and last.unknown:
            self._tell(words.MAYBE_MORE)

    def _lose(self, lost: Lost) -> None:
        """The connection is gone. What is being downloaded does not need it."""
        self._lost = lost
        if lost.expected:
            self.status = Exit.OK
        else:
            self.downloads.lose()

    def _leave_if_done(self) -> None:
        """Be done if nothing is left to wait for, and no input or no server is left either."""
        if self._lost is not None and not self.downloads.running and self.status is None:
            self.status = Exit.LOST
        elif (
            self._input_has_ended
            and self.session.state is State.JOINED
            and not self.session.pending
            and not self.downloads.running
        ):
            self.session.leave()
