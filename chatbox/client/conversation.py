"""A person's conversation: what they type acts on the server, what happens is told to them.

This stands between the session, which knows the wire, and a console or a window, which knows the
screen. It owns the downloads and the wish to leave. It must never print, block, or know a
transport: it is given `flush` to call when the session may have something to send, `fetch` to begin
a transfer, `tell` for lines that the person should read, `changed` to call when a download has
changed its stage, `open_file` to show a file that is complete, and `clock`, in seconds since the
epoch.

Leaving has two degrees. `/quit` says goodbye at once. The end of the input (a pipe is empty, or
Ctrl-D) says goodbye once every request is answered and every download has ended; one that stands
then goes on by itself, since nobody is left to type `/proceed`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Final

from chatbox.client import words
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
from chatbox.client.commands import (
    Action,
    BadCommand,
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
    Steering,
    help_lines,
    parse,
)
from chatbox.client.exits import STOPPING, Exit, exit_for_refusal
from chatbox.client.files.names import save_path
from chatbox.client.files.shares import shares
from chatbox.client.files.transfers import Download, Fetch, Stage
from chatbox.errors import RemoteError
from chatbox.text import printable

__all__ = ["MAX_DOWNLOADS", "MAX_SAVED", "Conversation", "Hints"]

MAX_DOWNLOADS: Final = 16
"""Downloads of one client at a time. The server has its own bound; this one keeps a long pasted
list of commands from opening files without end."""

MAX_SAVED: Final = 100
"""Files that have come and that `/open` knows; more than anybody remembers."""

_STANDING: Final = (Stage.PAUSED, Stage.HALF_WAY)

_AWAY: Final = (State.AWAY, State.REJOINING)

_PASSING: Final = STOPPING | {""}
"""Refusals of a server that is about to go away, or none at all since it has: it may come back."""


@dataclass(frozen=True, slots=True)
class Hints:
    """How the person does what a sentence advises: here by a command, in a window by a button."""

    standing: str = "/proceed lets it go on, /cancel gives it up."
    """What to do about a download that stands."""
    elsewhere: str = "To save it elsewhere: /download FILE SAVE-AS"
    """What to do where a file cannot be saved."""
    lost: str = "The download goes on; /quit leaves without it."
    """What becomes of downloads without a connection."""
    keys: str = ""
    """What else the person can do than type lines."""


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
        hints: Hints = Hints(),
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
        self.downloads: list[Download] = []
        """Those that have not ended, in the order asked for."""
        self.saved: deque[tuple[str, str]] = deque(maxlen=MAX_SAVED)
        """Names and paths of those that have ended well."""
        self.status: Exit | None = None
        """How it ended: OK if we left, LOST if not; None while it goes on."""
        self.correspondent = ""
        """Who has last written to us privately."""
        self._lost: Lost | None = None
        self._input_has_ended = False
        self._asked: dict[int, Download] = {}
        self._histories: dict[int, LastMessages] = {}
        """What has come of the histories that were asked for, by the request for the next page."""
        self._waiting: list[Download] = []
        """Those that will be asked for when the server is back."""
        self._due: list[Download] = []
        """Those that will be asked for when there is room for a request."""
        self._backs = 0
        self._begun_at: dict[Download, int] = {}
        """How often the server had been back when a download began."""
        self._host = host
        self._fetch = fetch
        self._flush = flush
        self._tell = tell
        self._changed = changed
        self._clock = clock
        self._zone = zone
        self._hints = hints
        self._folder = folder
        self._rate_limit = rate_limit
        self._open_file = open_file
        self._tell_progress = tell_progress or tell
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
                self._steer(steering, name)
            case Limit(rate=rate, name=None):
                self._limit_all(rate)
            case Limit(rate=rate, name=name):
                for download in self._fitting(name):
                    download.limit(rate)
                self._share_limit()
            case ShowDownloads():
                self._show_downloads()
            case OpenFile(name=name):
                self._open(name)
            case Quit():
                self.leave()
            case _ if self.session.state not in (State.JOINED, *_AWAY):
                self._tell("Not connected.")
            case _ if self.session.state in _AWAY and not isinstance(action, Say | Reply):
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
                self._download(action)
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
            for download in list(self.downloads):
                download.go_on_alone()
        self._leave_if_done()
        self._flush()

    def leave(self) -> None:
        """Say goodbye now. Downloads that are on their way are named, since they stop here."""
        downloads, self.downloads = self.downloads, []
        self._asked.clear()  # an offer that still comes begins nothing
        for download in downloads:
            download.interrupt()
        if self.session.state is State.JOINED:
            self.session.leave()
        elif self.session.state in _AWAY:
            self.session.give_up()
        elif self._lost is not None:
            self.status = Exit.LOST
        self._flush()

    # What happens

    def handle(self, event: Event) -> None:
        """Take an event of the session."""
        match event:
            case Offer(request=request) if request.number in self._asked:
                download = self._asked.pop(request.number)
                self._begun_at[download] = self._backs
                download.begin(event, self._fetch, self._host)
            case Failed(request=Request(kind=Kind.DOWNLOAD) as request, problem=problem) if (
                request.number in self._asked and self.session.survives and problem.code in _PASSING
            ):
                self._waiting.append(self._asked.pop(request.number))
            case Failed(request=Request(kind=Kind.DOWNLOAD) as request, problem=problem) if (
                request.number in self._asked
            ):
                self._asked.pop(request.number).refuse(
                    words.explain(problem), exit_for_refusal(problem.code)
                )
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
                self._doubt_downloads()
            case Back():
                self.come_back()
            case Said(sender=sender, recipient=recipient) if recipient != EVERYONE:
                if sender != self.session.name:
                    self.correspondent = sender
            case _:
                pass  # nothing to remember
        self._ask_for_due()
        self._leave_if_done()

    def come_back(self) -> None:
        """There is a connection again: downloads that waited for it are asked for."""
        self._backs += 1
        self._due += self._waiting
        self._waiting.clear()
        self._ask_for_due()

    def transfer_changed(self) -> None:
        """A download has changed its stage."""
        ended = [one for one in self.downloads if one.stage is Stage.ENDED]
        self.downloads = [one for one in self.downloads if one.stage is not Stage.ENDED]
        for one in ended:
            self._begun_at.pop(one, None)
        self.saved.extend((one.name, one.saved_as) for one in ended if one.status is Exit.OK)
        self._share_limit()
        self._leave_if_done()
        self._flush()
        self._changed()

    # How it works

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

    def _download(self, wanted: FetchFile) -> None:
        """Ask for a file, once it is clear that it could be saved."""
        from chatbox.client.files.download import PartFile

        if len(self.downloads) >= MAX_DOWNLOADS:
            self._tell(f"{MAX_DOWNLOADS} downloads are running; wait for one to end.")
            return
        try:
            path = save_path(wanted.name, wanted.save_as or self._folder)
            target = PartFile(path)
        except RemoteError as error:
            self._tell(error.detail)
        except OSError as error:
            self._tell(f"{words.os_error_text(error)} {self._hints.elsewhere}")
        else:
            download = Download(
                wanted.name,
                target,
                path,
                tell=self._tell_progress,
                changed=self.transfer_changed,
                clock=self._clock,
                pause_half_way=wanted.pause_half_way,
                rate_limit=self._rate_limit,
                hint=self._hints.standing,
                ask_again=self._ask_again,
            )
            self.downloads.append(download)
            self._share_limit()
            self._asked[self.session.download(wanted.name)] = download

    def _ask_again(self, download: Download, stopping: bool) -> bool:
        """The server has gone away in the middle of a download: ask for it when it is back.

        It is back already if that has happened since the download began. One that is `stopping` and
        has not been away yet would only refuse; one that was silent may just be asked.
        """
        if self.session.state not in (State.JOINED, *_AWAY) or not self.session.survives:
            return False
        was_back = self._begun_at.get(download) != self._backs
        if was_back or (self.session.state is State.JOINED and not stopping):
            self._due.append(download)
            self._ask_for_due()
            self._flush()
        else:
            self._waiting.append(download)
        return True

    def _ask_for_due(self) -> None:
        while self._due and self.session.state is State.JOINED and not self.session.is_full:
            download = self._due.pop(0)
            if download.stage is Stage.ASKED:  # else it was given up meanwhile
                download.ask()
                self._asked[self.session.download(download.name)] = download

    def _show_downloads(self) -> None:
        """Say how far each is, and where the others are."""
        for download in self.downloads:
            self._tell(download.describe())
        for name, path in self.saved:
            self._tell(f"{printable(name)} is here: {printable(path)}")
        if not self.downloads and not self.saved:
            self._tell("No downloads yet. /files lists what there is, /download FILE fetches it.")

    def _open(self, name: str | None) -> None:
        """Open what has come last, of that name if one is given."""
        fitting = [path for one, path in self.saved if name in (None, one)]
        if not fitting:
            which = "No file" if name is None else f"No {printable(name)}"
            self._tell(f"{which} has come yet. /downloads lists those that have.")
        elif self._open_file is None:
            self._tell(f"Nothing here opens files. It is at {printable(fitting[-1])}.")
        else:
            self._open_file(fitting[-1])

    def _steer(self, steering: Steering, name: str | None) -> None:
        """Pass a wish on to the download that it is for."""
        fitting = self._fitting(name)
        if len(fitting) > 1:
            names = ", ".join(sorted({printable(one.name) for one in fitting}))
            self._tell(f"Which one? /{steering.value} FILE, with one of: {names}")
        elif fitting:
            fitting[0].steer(steering)

    def _limit_all(self, rate: int | None) -> None:
        """Let all downloads of this conversation together take at most so much from now on."""
        self._rate_limit = rate
        for download in self.downloads:
            download.own_limit = None
        self._share_limit()
        if rate is None:
            self._tell("All downloads: as fast as they can from now on.")
        else:
            self._tell(f"All downloads together: at most {words.rate_text(rate)} from now on.")

    def _share_limit(self) -> None:
        """Give each download that does not stand its share."""
        moving = [one for one in self.downloads if one.stage not in _STANDING]
        given = shares(self._rate_limit, [one.own_limit for one in moving])
        for download, rate in zip(moving, given, strict=True):
            download.take_at_most(rate)

    def _fitting(self, name: str | None) -> list[Download]:
        """The downloads of `name`, all if that is None; tells if there are none."""
        fitting = [one for one in self.downloads if name is None or one.name == name]
        if not fitting:
            self._tell(
                "No download is running." if name is None else "No such download is running."
            )
        return fitting

    def _lose(self, lost: Lost) -> None:
        """The connection is gone. What is being downloaded does not need it."""
        self._lost = lost
        if lost.expected:
            self.status = Exit.OK
            return
        for download in (*self._asked.values(), *self._waiting, *self._due):
            download.refuse("the connection was lost before the server answered.", Exit.LOST)
        self._asked.clear()
        self._waiting.clear()
        self._due.clear()
        if self.downloads:
            self._tell(self._hints.lost)
            self._doubt_downloads()

    def _doubt_downloads(self) -> None:
        """The connection is gone, perhaps because the server is: see whether that still sends."""
        for download in list(self.downloads):
            download.doubt()

    def _leave_if_done(self) -> None:
        """Be done if nothing is left to wait for, and no input or no server is left either."""
        if self._lost is not None and not self.downloads and self.status is None:
            self.status = Exit.LOST
        elif (
            self._input_has_ended
            and self.session.state is State.JOINED
            and not self.session.pending
            and not self.downloads
        ):
            self.session.leave()
