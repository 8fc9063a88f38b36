"""Single errands for scripts: one request, its result on standard output, an exit status.

Everything else, such as progress and complaints, goes to standard error. Whoever runs an errand is
in the room for that moment, so it goes under a name that nobody else has, and that belongs to the
person's account if there is one.
"""

from __future__ import annotations

import secrets
import sys
import threading
from argparse import Namespace
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import deferLater

from chatbox.chat.wire import ACCOUNT_SEPARATOR
from chatbox.client import words
from chatbox.client.access import Access
from chatbox.client.commands import Steering
from chatbox.client.config import required_host
from chatbox.client.connection import (
    ANSWER_TIMEOUT,
    LEAVE_TIMEOUT,
    ChatConnection,
    Fetcher,
    join_server,
)
from chatbox.client.console import Screen, Ticker, columns_of, is_terminal
from chatbox.client.events import (
    EVERYONE,
    Event,
    Failed,
    FileList,
    Gap,
    HistoryPage,
    Left,
    Lost,
    Offer,
    Said,
    Succeeded,
    UserList,
)
from chatbox.client.exits import STOPPING, Exit, Stop, Stopping, exit_for_refusal
from chatbox.client.session import ClientSession, State
from chatbox.client.transfers import Download, Fetch, Stage, save_path
from chatbox.errors import RemoteError
from chatbox.text import printable

if TYPE_CHECKING:
    from chatbox.client.download import PartFile

__all__ = ["Visit", "files", "get", "history", "say", "visit", "visitor_name", "who"]

RETURN_PATIENCE: Final = 60.0
"""Seconds for a server to be back, when it went away in the middle of a download."""

RETURN_DELAY: Final = 1.0
"""Seconds between two attempts."""

Answer = TypeVar("Answer", Succeeded, UserList, FileList, HistoryPage, Offer)


class Visit:
    """A joined connection that makes one request at a time and waits for its answer.

    `first` is the number of a request that went ahead with the name, 0 if none did.
    """

    def __init__(self, reactor: Any, connection: ChatConnection, first: int = 0) -> None:
        self.session: ClientSession = connection.session
        self.peer = connection.peer
        self._reactor = reactor
        self._connection = connection
        self.first = self._number = first
        self._early: tuple[int, Event] | None = None
        """An answer that came before it was waited for, and to which request."""
        self._waiting: Deferred[Event] | None = None
        self._lost = False
        self.gaps = 0
        """How often the server has said that messages are missing."""
        connection.listen(self._hear)

    async def ask(self, kind: type[Answer], number: int) -> Answer:
        """Wait for the answer to the request of this number, which is a `kind`. Raises Stop."""
        self._number = number
        event = await self._next_event(ANSWER_TIMEOUT)
        if isinstance(event, Failed):
            code = event.problem.code
            kind_of_stop = Stopping if code in STOPPING else Stop
            raise kind_of_stop(exit_for_refusal(code), words.explain(event.problem))
        if not isinstance(event, kind):
            raise Stop(Exit.LOST, "The connection to the server was lost before it answered.")
        return event

    async def leave(self) -> None:
        """Say goodbye, and wait a moment for the server to take it."""
        if self.session.state is State.JOINED:
            self._number = self.session.leave()
            with suppress(Stop):  # leaving without the server's blessing is leaving, too
                await self._next_event(LEAVE_TIMEOUT)
        self._connection.drop()

    async def _next_event(self, timeout: float) -> Event:
        early, self._early = self._early, None
        if early is not None and early[0] == self._number:
            return early[1]
        if self._lost:
            raise Stop(Exit.LOST, "The connection to the server is lost.")
        self._waiting = Deferred()
        try:
            waiting = self._waiting.addTimeout(timeout, self._reactor)
            self._connection.flush()
            return await waiting
        except TimeoutError:
            raise Stop(Exit.LOST, f"The server has not answered for {timeout:.0f} s.") from None
        finally:
            self._waiting = None

    def _hear(self, event: Event) -> None:
        """Pass on what ends the wait; what others say meanwhile is of no interest."""
        request = getattr(event, "request", None)
        is_answer = request is not None and request.number == self._number
        if isinstance(event, Lost):
            self._lost = True
        elif isinstance(event, Gap):
            self.gaps += 1
        if is_answer or isinstance(event, Lost | Left):
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                waiting.callback(event)
            elif is_answer:
                self._early = self._number, event


@asynccontextmanager
async def visit(
    reactor: Any, options: Namespace, ask: Callable[[ClientSession], int] = lambda _: 0
) -> AsyncIterator[Visit]:
    """Join for one errand, and leave whatever happens.

    `ask` makes the first request in the same breath as it joins, which saves a round trip.
    """
    host = required_host(options.host)
    access = Access.from_options(options)
    numbers: list[int] = []
    connection = await join_server(
        reactor,
        host,
        visitor_name(options),
        access,
        ahead=lambda session: numbers.append(ask(session)),
    )
    visitor = Visit(reactor, connection, numbers[-1])
    try:
        yield visitor
    finally:
        await visitor.leave()


def visitor_name(options: Namespace) -> str:
    """The name that was said, or one like the person's own that nobody else has."""
    return options.name or f"{options.settings.name}{ACCOUNT_SEPARATOR}{secrets.token_hex(2)}"


async def who(reactor: Any, options: Namespace) -> Exit:
    """Print who is in the room, one name a line, without this visitor."""
    async with visit(reactor, options, ClientSession.ask_users) as visitor:
        answer = await visitor.ask(UserList, visitor.first)
    for name in answer.names:
        if name != visitor.session.name:
            print(printable(name))
    return Exit.OK


async def files(reactor: Any, options: Namespace) -> Exit:
    """Print the shared files: name, TAB, size in bytes."""
    async with visit(reactor, options, ClientSession.ask_files) as visitor:
        answer = await visitor.ask(FileList, visitor.first)
    for file in answer.files:
        print(f"{printable(file.name)}\t{'' if file.size is None else file.size}")
    return Exit.OK


async def say(reactor: Any, options: Namespace) -> Exit:
    """Say one thing; success means that it is in the log."""
    recipient = options.to or EVERYONE
    async with visit(reactor, options, lambda our: our.say(options.text, recipient)) as visitor:
        await visitor.ask(Succeeded, visitor.first)
    return Exit.OK


async def history(reactor: Any, options: Namespace) -> Exit:
    """Print what was said: place in the log, time, sender, recipient and text, TAB between them."""
    async with visit(reactor, options) as visitor:
        await print_history(visitor, options.count, options.after)
    return Exit.OK


async def print_history(visitor: Visit, wanted: int, after: int | None) -> None:
    """Print messages, page by page; say where some are gone. Raises Stop."""
    while True:
        number = visitor.session.ask_history(wanted, after)
        answer = await visitor.ask(HistoryPage, number)
        if visitor.gaps:
            print("Some messages are missing here: they are gone.", file=sys.stderr, flush=True)
            visitor.gaps = 0
        for said in answer.said:
            print(_record(said))
        wanted -= len(answer.said)
        after = answer.more
        if wanted <= 0 or after is None:
            return


_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def _record(said: Said) -> str:
    """One message as one line of five fields."""
    try:
        at = f"{datetime.fromtimestamp((said.at or 0) / 1000, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):  # a server may send any number
        at = ""
    fields = (str(said.id), at, said.sender, said.recipient, said.text)
    return "\t".join(printable(field.translate(_ESCAPES)) for field in fields)


async def get(reactor: Any, options: Namespace) -> Exit:
    """Download one file; print its sha-256 and path as sha256sum does."""
    from chatbox.client.download import PartFile

    try:
        path = save_path(options.file, options.output or options.settings.downloads)
        target = PartFile(path, overwrite=options.overwrite)
    except RemoteError as problem:
        raise Stop(Exit.NOT_THERE, f"{printable(options.file)}: {problem.detail}") from None
    except OSError as problem:
        raise Stop(
            Exit.CANNOT_SAVE,
            f"{words.os_error_text(problem)} Use -o to save it elsewhere, or --overwrite.",
        ) from None
    errand = _Errand(reactor, options, target, path)
    download = errand.download

    def ask(session: ClientSession) -> int:
        download.ask()
        return session.download(options.file)

    while download.stage is not Stage.ENDED:
        try:
            async with visit(reactor, options, ask) as visitor:
                offer = await visitor.ask(Offer, visitor.first)
                fetcher = Fetcher(reactor, visitor.peer, options.udp_via)
                try:
                    await errand.run(offer, fetcher, visitor.peer)
                finally:
                    await fetcher.tell_ends()
        except Stop as problem:
            await errand.wait_or_raise(problem)
    if download.status is Exit.OK and download.ended is not None and download.ended.digest:
        print(f"{download.ended.digest.hex()}  {printable(download.ended.path or path)}")
    return Exit.FAILED if download.status is None else download.status


class _Errand:
    """One download with its progress on standard error."""

    def __init__(self, reactor: Any, options: Namespace, target: PartFile, path: str) -> None:
        self._reactor = reactor
        self._quiet: bool = options.quiet
        self._done: Deferred[None] = Deferred()
        self._asked = False
        self._last_line = ""
        self._screen = Screen(_write_error, terminal=is_terminal(2), columns=lambda: columns_of(2))
        self._ticker = Ticker(reactor, self._screen.show, self._running)
        self._away_since: float | None = None
        self.download = Download(
            options.file,
            target,
            path,
            tell=self._tell,
            changed=self._changed,
            clock=reactor.seconds,
            pause_half_way=options.pause,
            rate_limit=options.limit,
            hint="Press Enter to let it go on, or type c and Enter to give it up.",
            ask_again=self._server_has_gone,
        )

    async def run(self, offer: Offer, fetcher: Fetch, host: str) -> None:
        """Fetch it, to the good or bad end, or until the server goes away."""
        self._done = Deferred()
        self._away_since = None
        self.download.begin(offer, fetcher, host)
        try:
            await self._done
        except CancelledError:
            self.download.interrupt()
            raise
        finally:
            self._ticker.stop()
            self._screen.clear()
        if self.download.stage is Stage.ASKED:
            self._tell(f"The server has gone away; trying again for {RETURN_PATIENCE:.0f} s.")
            self._away_since = self._reactor.seconds()
            await deferLater(self._reactor, RETURN_DELAY, lambda: None)
        elif self._quiet and self.download.status is not Exit.OK:
            self._screen.line(self._last_line)

    async def wait_or_raise(self, problem: Stop) -> None:
        """There was no offer. Wait before the next attempt, if the server may be back soon."""
        now = self._reactor.seconds()
        if self._away_since is None:
            if not isinstance(problem, Stopping):
                raise problem
            self._tell(f"{problem.sentence} Trying again for {RETURN_PATIENCE:.0f} s.")
            self._away_since = now
        elif problem.status not in (Exit.LOST, Exit.NO_CONNECTION):
            raise problem
        if not 0 <= now - self._away_since < RETURN_PATIENCE:
            raise problem
        await deferLater(self._reactor, RETURN_DELAY, lambda: None)

    def _server_has_gone(self, _: Download, stopping: bool) -> bool:
        return True

    def _running(self) -> list[Download]:
        is_shown = self.download.stage is not Stage.ENDED and not self._quiet
        return [self.download] if is_shown else []

    def _tell(self, line: str) -> None:
        self._last_line = line
        if not self._quiet:
            self._screen.line(line)

    def _changed(self) -> None:
        self._ticker.update()
        if self.download.stage in (Stage.ENDED, Stage.ASKED) and not self._done.called:
            self._done.callback(None)
        elif self.download.stage in (Stage.PAUSED, Stage.HALF_WAY) and not self._asked:
            self._asked = True
            # A thread, since standard input may be a file, a terminal or nothing; a daemon, since
            # it may wait for a line that never comes.
            threading.Thread(target=self._read_wish, daemon=True).start()

    def _read_wish(self) -> None:
        line = sys.stdin.readline() if sys.stdin is not None else ""
        self._reactor.callFromThread(self._act_on_wish, line)

    def _act_on_wish(self, line: str) -> None:
        self._asked = False
        if not line:
            self.download.go_on_alone()
        else:
            is_no = line.strip().casefold().startswith("c")
            self.download.steer(Steering.CANCEL if is_no else Steering.PROCEED)


def _write_error(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
