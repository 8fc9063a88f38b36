"""The console: standard input and output as the two ends of one conversation.

What they look like is up to a `View`. If both are a terminal, it is that of
`chatbox.client.console.live`. Else lines come and go as plain text: `PlainView`, for pipes and
files, with the downloads as `chatbox.client.files.progress_line` shows them.

Reading stops while the session has as many unanswered requests as it may have, and the server's
lines wait while standard output takes no more, so a fast pipe on either side costs no memory.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final
from typing import Protocol as Interface

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure
from zope.interface import implementer

from chatbox.chat import wire
from chatbox.client import words
from chatbox.client.chat.events import Event, Joined
from chatbox.client.chat.lines import LineBuffer
from chatbox.client.chat.session import State
from chatbox.client.connect.connection import LEAVE_TIMEOUT, ChatConnection
from chatbox.client.conversation import Conversation
from chatbox.client.exits import Exit
from chatbox.client.files.desktop import open_file
from chatbox.client.files.progress_line import Screen, Ticker, columns_of
from chatbox.client.files.transfers import Download, Fetch
from chatbox.client.terminal.editor import Control
from chatbox.steady import wall_clock

__all__ = ["Console", "PlainView", "View"]

MAX_TYPED_BYTES: Final = wire.TEXT_BYTES_CEILING + 1024
"""The longest message that any server takes, and a command's words before it."""

FLUSH_TIMEOUT: Final = 5.0
"""Seconds that whoever reads our standard output may take for the last words."""


class View(Interface):
    """What a person sees and types."""

    def feed(self, data: bytes) -> Sequence[str | Control]:
        """Take what came in; return the lines that are complete, and what else was asked."""

    def end(self) -> Sequence[str | Control]:
        """Nothing more comes in; return what was still to be said."""

    def tell(self, text: str) -> None:
        """Show a line."""

    def hear(self, event: Event, me: str) -> None:
        """Show what has happened to somebody called `me`."""

    def show(self, downloads: Sequence[Download]) -> None:
        """Show how far the downloads are."""


class PlainView:
    """Lines in, and lines out to a `Screen`."""

    def __init__(self, screen: Screen, clock: Callable[[], float]) -> None:
        self.tell = screen.line
        self.show = screen.show
        self._clock = clock
        self._lines = LineBuffer(MAX_TYPED_BYTES)

    def feed(self, data: bytes) -> Sequence[str | Control]:
        """Take a piece of the input."""
        return [_text(line) for line in self._lines.feed(data)]

    def end(self) -> Sequence[str | Control]:
        """The input is over."""
        return [_text(line) for line in self._lines.end()]

    def hear(self, event: Event, me: str) -> None:
        """Print what there is to say about it."""
        for line in words.describe(event, me, now=self._clock()):
            self.tell(line)


def _text(line: bytes | None) -> str | Control:
    return Control.TOO_LONG if line is None else line.decode("utf-8", "replace")


@implementer(IHalfCloseableProtocol)
class Console(Protocol):
    """Standard input and output around one conversation, from having joined to having left."""

    def __init__(
        self,
        reactor: Any,
        connection: ChatConnection,
        fetch: Fetch,
        *,
        terminal: bool = False,
        columns: Callable[[], int] = lambda: columns_of(1),
        view: View | None = None,
        hints: words.Hints | None = None,
        folder: str = "",
        rate_limit: int | None = None,
    ) -> None:
        """Without a `view` it is a plain one, on a terminal or not, of so many columns."""
        self._reactor = reactor
        self._connection = connection
        self._session = connection.session
        self._screen = Screen(
            self._write, terminal=terminal, columns=columns, clock=reactor.seconds
        )
        self._view: View = view or PlainView(self._screen, wall_clock(reactor))
        self._conversation = Conversation(
            self._session,
            host=connection.peer,
            fetch=fetch,
            flush=connection.flush,
            tell=self._view.tell,
            show=self._view.hear,
            changed=self._download_changed,
            clock=reactor.seconds,
            hints=hints,
            folder=folder,
            rate_limit=rate_limit,
            open_file=lambda path: open_file(reactor, path, self._view.tell),
        )
        downloads = self._conversation.downloads
        self._ticker = Ticker(reactor, self._view.show, lambda: downloads.running)
        self._typed: deque[str | Control] = deque()
        self._input_ended = False
        self._status: Exit | None = None
        self._deadline: IDelayedCall | None = None  # for the goodbye, then for the last words
        self._done: Deferred[Exit] = Deferred()

    async def run(self, stdin: int = 0, stdout: int = 1) -> Exit:
        """Talk until the person leaves or the connection is lost. Leaves if cancelled."""
        # They may be a terminal that the shell shares with us: give it back as it was.
        blocking = [(fd, os.get_blocking(fd)) for fd in (stdin, stdout)]
        try:
            # mypy takes the one of Windows, which has fewer arguments.
            StandardIO(self, stdin, stdout, self._reactor)  # type: ignore[call-arg]
            return await self.until_done()
        finally:
            for fd, was_blocking in blocking:
                os.set_blocking(fd, was_blocking)

    async def until_done(self) -> Exit:
        """Wait for the end. If cancelled, leave, and pass the cancellation on when that is done."""
        try:
            return await self._done
        except CancelledError:
            self._done = Deferred()
            if self._status is None:
                self.leave()
                await self._done
            raise

    # What Twisted calls, about standard input and output

    def connectionMade(self) -> None:
        """Standard input and output are open."""
        self._stdio.registerProducer(self._connection, True)
        self._conversation.handle(Joined(self._session.name, self._session.key))
        self._connection.listen(self._hear)
        self._settle()

    def dataReceived(self, data: bytes) -> None:
        """Something was typed, or came through a pipe."""
        self._typed += self._view.feed(data)
        self._settle()

    def readConnectionLost(self) -> None:
        """There is no more input."""
        self._typed += self._view.end()
        self._input_ended = True
        self._settle()

    def writeConnectionLost(self) -> None:
        """Nobody reads what we say, so there is no use in staying."""
        self.transport = None
        self.leave()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Standard input and output are closed: because we did so, or because of a bug."""
        self.transport = None
        self._finish()

    # How it works

    def leave(self) -> None:
        """Say goodbye; `until_done` ends soon after."""
        self._conversation.leave()
        self._settle()

    @property
    def _stdio(self) -> Any:
        # Our own transport, with those of its methods that are not every transport's.
        return self.transport

    def _write(self, text: str) -> None:
        if self.transport is not None:
            self.transport.write(text.encode("utf-8", "replace"))

    def _hear(self, event: Event) -> None:
        """Something has happened at the server's."""
        self._conversation.handle(event)
        self._settle()

    def _download_changed(self) -> None:
        """A download has begun, stands, goes on or has ended."""
        if self._status is None:
            self._ticker.update()
            self._settle()

    def _settle(self) -> None:
        """After anything has happened: do what has become possible or due."""
        if self._status is not None:
            return
        self._act_on_input()
        if self._session.state is State.LEAVING and self._deadline is None:
            self._deadline = self._reactor.callLater(LEAVE_TIMEOUT, self._connection.drop)
        if self._conversation.status is not None:
            self._close(self._conversation.status)

    def _act_on_input(self) -> None:
        """Act on the lines that were typed, as far as the session has room for requests."""
        while self._typed and not self._session.is_full:
            line = self._typed.popleft()
            if self._session.state is State.LEAVING and line is not Control.INTERRUPT:
                pass  # it follows /quit
            elif isinstance(line, Control):
                self._obey(line)
            else:
                self._conversation.enter(line)
        if self._input_ended:
            if not self._typed:
                self._conversation.end_input()
        elif self.transport is not None:
            if self._typed:
                self._stdio.pauseProducing()
            else:
                self._stdio.resumeProducing()

    def _obey(self, control: Control) -> None:
        """Do what is asked of the program, not of the server."""
        if control is Control.END:
            self._input_ended = True
        elif control is Control.TOO_LONG:
            self._view.tell(
                "That line is too long: no server takes a message of more than"
                f" {wire.TEXT_BYTES_CEILING} bytes."
            )

    def _close(self, status: Exit) -> None:
        """The conversation is over: say the last words, then close."""
        self._status = status
        self._ticker.stop()
        self._screen.clear()
        self._disarm()
        if self.transport is None:
            self._finish()
        else:
            self._deadline = self._reactor.callLater(FLUSH_TIMEOUT, self._finish)
            self._stdio.unregisterProducer()
            self._stdio.loseConnection()

    def _finish(self) -> None:
        self._disarm()
        self._ticker.stop()
        if self._status is None:
            self._status = Exit.FAILED
            self._connection.drop()
        if not self._done.called:
            self._done.callback(self._status)

    def _disarm(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None
