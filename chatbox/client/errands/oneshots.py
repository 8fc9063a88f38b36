"""Single errands for scripts: one request, its result on standard output, an exit status.

Everything else, such as progress and complaints, goes to standard error. Whoever runs an errand is
in the room for that moment, so it goes under a name that nobody else has, and that belongs to the
person's account if there is one.
"""

from __future__ import annotations

import secrets
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timezone
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, TimeoutError

from chatbox.chat.codes import Code
from chatbox.chat.wire import ACCOUNT_SEPARATOR
from chatbox.client import words
from chatbox.client.chat.events import (
    EVERYONE,
    Event,
    Failed,
    FileList,
    Gap,
    HistoryPage,
    Left,
    Lost,
    Offer,
    Problem,
    Said,
    Succeeded,
    UserList,
)
from chatbox.client.chat.pages import LastMessages
from chatbox.client.chat.session import ClientSession, State
from chatbox.client.config import SETTLED_HOST, required_host
from chatbox.client.connect.access import Access
from chatbox.client.connect.connection import (
    ANSWER_TIMEOUT,
    LEAVE_TIMEOUT,
    ChatConnection,
    join_server,
)
from chatbox.client.exits import STOPPING, Exit, Stop, Stopping, exit_for_refusal
from chatbox.text import printable

__all__ = ["MAX_LAST", "Visit", "files", "history", "say", "visit", "visitor_name", "who"]

MAX_LAST: Final = 100_000
"""How many of the last messages can be had: they are in memory before the first is printed."""

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
        self._last_words: Problem | None = None
        self.gaps = 0
        """How often the server has said that messages are missing."""
        self._tell_lost: Callable[[], None] = lambda: None
        connection.listen(self._hear)

    async def ask(self, kind: type[Answer], number: int) -> Answer:
        """Wait for the answer to the request of this number, which is a `kind`. Raises Stop."""
        self._number = number
        event = await self._next_event(ANSWER_TIMEOUT)
        if isinstance(event, Failed):
            raise _stop_for(event.problem)
        if not isinstance(event, kind):
            raise self._why_lost("The connection to the server was lost before it answered.")
        return event

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Call `tell`, and nothing that was given before, when the connection is gone."""
        self._tell_lost = tell
        if self._lost:
            tell()

    async def check(self) -> None:
        """See whether we are still welcome. Raises Stop if not, with the server's last words."""
        await self.ask(Succeeded, 0 if self._lost else self.session.ping())

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
            raise self._why_lost("The connection to the server is lost.")
        self._waiting = Deferred()
        try:
            waiting = self._waiting.addTimeout(timeout, self._reactor)
            self._connection.flush()
            return await waiting
        except TimeoutError:
            raise Stop(Exit.LOST, f"The server has not answered for {timeout:.0f} s.") from None
        finally:
            self._waiting = None

    def _why_lost(self, sentence: str) -> Stop:
        return (
            Stop(Exit.LOST, sentence) if self._last_words is None else _stop_for(self._last_words)
        )

    def _hear(self, event: Event) -> None:
        """Pass on what ends the wait; what others say meanwhile is of no interest."""
        request = getattr(event, "request", None)
        is_answer = request is not None and request.number == self._number
        if isinstance(event, Lost):
            self._lost = True
            self._tell_lost()
        elif isinstance(event, Gap):
            self.gaps += 1
        elif isinstance(event, Failed) and request is None:
            self._last_words = event.problem
        if is_answer or isinstance(event, Lost | Left):
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                waiting.callback(event)
            elif is_answer:
                self._early = self._number, event


def _stop_for(problem: Problem) -> Stop:
    kind = Stopping if problem.code in STOPPING else Stop
    why = f"{words.explain(problem)} {_ADVICE.get(problem.code, '')}".rstrip()
    return kind(exit_for_refusal(problem.code), why)


_ADVICE: Final[Mapping[str, str]] = {
    Code.NO_SUCH_FILE: "`chatbox files` lists those that are there.",
    Code.NO_SUCH_USER: "`chatbox who` lists who is.",
}
"""What else finds out what is right."""


@asynccontextmanager
async def visit(
    reactor: Any, options: Namespace, ask: Callable[[ClientSession], int] = lambda _: 0
) -> AsyncIterator[Visit]:
    """Join for one errand, and leave whatever happens.

    `ask` makes the first request in the same breath as it joins, which saves a round trip.
    """
    host = required_host(options.host, next(iter(getattr(options, "words", ())), ""))
    access = Access.from_options(options)
    numbers: list[int] = []
    try:
        connection = await join_server(
            reactor,
            host,
            visitor_name(options),
            access,
            ahead=lambda session: numbers.append(ask(session)),
        )
    except Stop as problem:
        if problem.status is Exit.NO_CONNECTION:
            raise Stop(problem.status, problem.sentence + _advice(options)) from None
        raise
    visitor = Visit(reactor, connection, numbers[-1])
    try:
        yield visitor
    finally:
        await visitor.leave()


def _advice(options: Namespace) -> str:
    """What to do if the host that could not be reached was not meant to be one."""
    host, settled = options.host, options.settings.host
    if options.command == "get" or not settled or host == settled:
        return ""  # get knows whether it was there before
    if options.command == "say":
        return (
            f" If {printable(host)} is a word to say on {printable(settled)}, put a dash before it:"
            f" chatbox say {SETTLED_HOST} TEXT..."
        )
    return f" Without {printable(host)} it goes to {printable(settled)}."


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
    if after is None:
        await _print_last(visitor, wanted)
        return
    more: int | None = after
    while wanted > 0 and more is not None:
        answer = await visitor.ask(HistoryPage, visitor.session.ask_history(wanted, more))
        _print_said(visitor, answer.said)
        wanted -= len(answer.said)
        more = answer.more if answer.more is not None and answer.more > more else None


async def _print_last(visitor: Visit, wanted: int) -> None:
    """Print the last messages, once their oldest page has come, and say if there may be more."""
    last = LastMessages(min(wanted, MAX_LAST))
    before: int | None = None
    while True:
        number = visitor.session.ask_history(last.missing, before=before)
        before = last.take(await visitor.ask(HistoryPage, number))
        if before is None:
            break
    _print_said(visitor, last.said)
    if last.missing > 0 and last.unknown:
        print(words.MAYBE_MORE, file=sys.stderr)
    elif last.missing <= 0 and wanted > MAX_LAST:
        print(f"These are the last {MAX_LAST}. For more: --after NUMBER", file=sys.stderr)


def _print_said(visitor: Visit, said: Sequence[Said]) -> None:
    if visitor.gaps:
        print("Some messages are missing here: they are gone.", file=sys.stderr, flush=True)
        visitor.gaps = 0
    for one in said:
        print(_record(one))


_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def _record(said: Said) -> str:
    """One message as one line of five fields."""
    try:
        at = f"{datetime.fromtimestamp((said.at or 0) / 1000, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):  # a server may send any number
        at = ""
    fields = (str(said.id), at, said.sender, said.recipient, said.text)
    return "\t".join(printable(field.translate(_ESCAPES)) for field in fields)
