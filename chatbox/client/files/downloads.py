"""A person's downloads from one server: asked for, on their way, and asked for again.

A `Download` knows one file and its transfer. What concerns several of them is here: how many there
may be, which answer of the server is for which, how they share a limit, which one a command means,
and when one is asked for again whose server went away.

A download whose transfer has not begun, or has ended because the server went away, is in one of
three places:

- *asked*: a request for its ticket is on its way;
- *waiting*: the server is away, and it is asked for when that is back;
- *due*: it is asked for as soon as the session has room for a request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from chatbox.chat.codes import Code
from chatbox.client import words
from chatbox.client.actions import FetchFile, Steering
from chatbox.client.chat.events import Failed, Offer
from chatbox.client.chat.session import ClientSession, State
from chatbox.client.chat.states import AWAY
from chatbox.client.exits import STOPPING, Exit, exit_for_refusal
from chatbox.client.files.names import save_path
from chatbox.client.files.shares import shares
from chatbox.client.files.transfers import Download, Fetch, Stage
from chatbox.client.words import Hints
from chatbox.errors import RemoteError
from chatbox.text import printable

__all__ = ["MAX_DOWNLOADS", "MAX_SAVED", "Downloads"]

MAX_DOWNLOADS: Final = 16
"""Downloads of one client at a time. The server has its own bound; this one keeps a long pasted
list of commands from opening files without end."""

MAX_SAVED: Final = 100
"""Files that have come and that `/open` knows; more than anybody remembers."""

_STANDING: Final = (Stage.PAUSED, Stage.HALF_WAY)

_PASSING: Final = STOPPING | {""}
"""Refusals of a server that is about to go away, or none at all since it has: it may come back."""


class Downloads:
    """All of one session.

    `fetch` begins a transfer, and `flush` is called when the session may have something to send.
    `tell` takes lines for the person, and `tell_progress` what a download says of itself. `changed`
    is called when one has changed its stage. `clock` gives seconds. `folder` is where files go that
    a person gives no place, empty for the current one; `rate_limit` holds for all together, in
    bytes per second. `open_file` shows a file that is complete.
    """

    def __init__(
        self,
        session: ClientSession,
        *,
        host: str,
        fetch: Fetch,
        flush: Callable[[], None],
        tell: Callable[[str], None],
        tell_progress: Callable[[str], None],
        changed: Callable[[], None],
        clock: Callable[[], float],
        hints: Hints,
        folder: str,
        rate_limit: int | None,
        open_file: Callable[[str], None] | None,
    ) -> None:
        self.running: list[Download] = []
        """Those that have not ended, in the order asked for."""
        self.saved: deque[tuple[str, str]] = deque(maxlen=MAX_SAVED)
        """Names and paths of those that have ended well."""
        self._asked: dict[int, Download] = {}
        """By the number of the request."""
        self._waiting: list[Download] = []
        self._due: list[Download] = []
        self._backs = 0
        """How often the server has been back."""
        self._begun_at: dict[Download, int] = {}
        """How often that was when a download began."""
        self._session = session
        self._host = host
        self._fetch = fetch
        self._flush = flush
        self._tell = tell
        self._tell_progress = tell_progress
        self._changed = changed
        self._clock = clock
        self._hints = hints
        self._folder = folder
        self._rate_limit = rate_limit
        self._open_file = open_file

    # What the person does

    def fetch(self, wanted: FetchFile) -> None:
        """Ask for a file, once it is clear that it could be saved."""
        from chatbox.client.files.download import PartFile

        if len(self.running) >= MAX_DOWNLOADS:
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
                changed=self._download_changed,
                clock=self._clock,
                pause_half_way=wanted.pause_half_way,
                rate_limit=self._rate_limit,
                hint=self._hints.standing,
                ask_again=self._ask_again,
            )
            self.running.append(download)
            self._share_limit()
            self._asked[self._session.download(wanted.name)] = download

    def steer(self, steering: Steering, name: str | None) -> None:
        """Pass a wish on to the download that it is for, of that name if one is given."""
        fitting = self._fitting(name)
        if len(fitting) > 1:
            names = ", ".join(sorted({printable(one.name) for one in fitting}))
            self._tell(f"Which one? /{steering.value} FILE, with one of: {names}")
        elif fitting:
            fitting[0].steer(steering)

    def limit(self, rate: int | None, name: str) -> None:
        """Let those of this name take at most `rate` bytes per second; None for no limit."""
        for download in self._fitting(name):
            download.limit(rate)
        self._share_limit()

    def limit_all(self, rate: int | None) -> None:
        """Let all together take at most so much from now on."""
        self._rate_limit = rate
        for download in self.running:
            download.own_limit = None
        self._share_limit()
        if rate is None:
            self._tell("All downloads: as fast as they can from now on.")
        else:
            self._tell(f"All downloads together: at most {words.rate_text(rate)} from now on.")

    def describe(self) -> None:
        """Say how far each is, and where the others are."""
        for download in self.running:
            self._tell(download.describe())
        for name, path in self.saved:
            self._tell(f"{printable(name)} is here: {printable(path)}")
        if not self.running and not self.saved:
            self._tell("No downloads yet. /files lists what there is, /download FILE fetches it.")

    def open(self, name: str | None) -> None:
        """Open what has come last, of that name if one is given."""
        fitting = [path for one, path in self.saved if name in (None, one)]
        if not fitting:
            which = "No file" if name is None else f"No {printable(name)}"
            self._tell(f"{which} has come yet. /downloads lists those that have.")
        elif self._open_file is None:
            self._tell(f"Nothing here opens files. It is at {printable(fitting[-1])}.")
        else:
            self._open_file(fitting[-1])

    def go_on_alone(self) -> None:
        """Nobody will say any more what is to become of one that stands."""
        for download in list(self.running):
            download.go_on_alone()

    def interrupt(self) -> None:
        """The person leaves: end them all, and say where each stops."""
        running, self.running = self.running, []
        self._asked.clear()  # an offer that still comes begins nothing
        for download in running:
            download.interrupt()

    # What happens

    def take(self, answer: Offer | Failed) -> bool:
        """Take the answer to a request of ours; False if it is not one."""
        number = answer.request.number if answer.request is not None else 0
        download = self._asked.pop(number, None)
        if download is None:
            return False
        if isinstance(answer, Offer):
            self._begun_at[download] = self._backs
            download.begin(answer, self._fetch, self._host)
        elif self._session.survives and answer.problem.code in _PASSING:
            self._waiting.append(download)
        else:
            problem = answer.problem
            why = words.explain(problem)
            if problem.code == Code.NO_SUCH_FILE and self._hints.files:
                why = f"{why} {self._hints.files}"
            download.refuse(why, exit_for_refusal(problem.code))
        return True

    def come_back(self) -> None:
        """There is a connection again: those that waited for it are asked for."""
        self._backs += 1
        self._due += self._waiting
        self._waiting.clear()
        self.ask_for_due()

    def ask_for_due(self) -> None:
        """Ask for those that are due, as far as the session has room for requests."""
        session = self._session
        while self._due and session.state is State.JOINED and not session.is_full:
            download = self._due.pop(0)
            if download.stage is Stage.ASKED:  # else it was given up meanwhile
                download.ask()
                self._asked[session.download(download.name)] = download

    def doubt(self) -> None:
        """The connection is gone, perhaps because the server is: see whether that still sends."""
        for download in list(self.running):
            download.doubt()

    def lose(self) -> None:
        """There will be no connection any more. What is on its way does not need it."""
        for download in (*self._asked.values(), *self._waiting, *self._due):
            download.refuse("the connection was lost before the server answered.", Exit.LOST)
        self._asked.clear()
        self._waiting.clear()
        self._due.clear()
        if self.running:
            self._tell(self._hints.lost)
            self.doubt()

    # How it works

    def _download_changed(self) -> None:
        ended = [one for one in self.running if one.stage is Stage.ENDED]
        self.running = [one for one in self.running if one.stage is not Stage.ENDED]
        for one in ended:
            self._begun_at.pop(one, None)
        self.saved.extend((one.name, one.saved_as) for one in ended if one.status is Exit.OK)
        self._share_limit()
        self._changed()

    def _ask_again(self, download: Download, stopping: bool) -> bool:
        """The server has gone away in the middle of a download: ask for it when it is back.

        It is back already if that has happened since the download began. One that is `stopping` and
        has not been away yet would only refuse; one that was silent may just be asked.
        """
        session = self._session
        if session.state not in (State.JOINED, *AWAY) or not session.survives:
            return False
        was_back = self._begun_at.get(download) != self._backs
        if was_back or (session.state is State.JOINED and not stopping):
            self._due.append(download)
            self.ask_for_due()
            self._flush()
        else:
            self._waiting.append(download)
        return True

    def _share_limit(self) -> None:
        """Give each that does not stand its share."""
        moving = [one for one in self.running if one.stage not in _STANDING]
        given = shares(self._rate_limit, [one.own_limit for one in moving])
        for download, rate in zip(moving, given, strict=True):
            download.take_at_most(rate)

    def _fitting(self, name: str | None) -> list[Download]:
        """Those of `name`, all if that is None; tells if there are none."""
        fitting = [one for one in self.running if name is None or one.name == name]
        if not fitting:
            self._tell(
                "No download is running." if name is None else "No such download is running."
            )
        return fitting
