"""The console on a terminal: `chatbox.client.terminal` brought to a real one.

It takes the terminal, lets the view see the keys and the news, and writes what the view wants
written: once a turn of the reactor, however much has happened in it. And it sees to it that the
terminal is given back when the program ends, by whatever way, and while it is suspended.

Ctrl-Z. The terminal must be given back before the process stops, and after all that was written,
which leaves when the reactor finds the time. So the last of it is followed by a producer that is
asked for more only when everything is written; it stops the process group, as the terminal itself
would have done, and takes the terminal again when somebody lets it go on. In the background it may
not be touched: whoever is put there stops again at once, unless on the way out.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IPullProducer
from zope.interface import implementer

from chatbox.client.actions import ShowHistory
from chatbox.client.chat.events import Back, Event, Kind
from chatbox.client.chat.session import State
from chatbox.client.chat.states import AWAY
from chatbox.client.connect.connection import ChatConnection
from chatbox.client.console.console import Console
from chatbox.client.console.folders import folders_like
from chatbox.client.exits import Exit
from chatbox.client.files.transfers import Fetch
from chatbox.client.terminal.editor import Control
from chatbox.client.terminal.style import Palette
from chatbox.client.terminal.tty import Terminal
from chatbox.client.terminal.view import TerminalView
from chatbox.client.words import Hints
from chatbox.steady import wall_clock

__all__ = ["KEYS", "RECENT", "LiveConsole"]

RECENT: Final = 10
"""Messages that whoever comes in is shown, to see what the talk is about: half a screen."""

KEYS: Final = "Tab completes. Up, Down, Ctrl-R bring back old lines. Alt-Enter: another line."


class LiveConsole(Console):
    """A console whose person sits at a terminal. `place` says in a few words where they are."""

    def __init__(
        self,
        reactor: Any,
        connection: ChatConnection,
        fetch: Fetch,
        *,
        terminal: Terminal,
        palette: Palette,
        place: str,
        folder: str = "",
        rate_limit: int | None = None,
    ) -> None:
        self._live = TerminalView(
            me=connection.session.name,
            place=place,
            palette=palette,
            clock=wall_clock(reactor),
            changed=self._draw_soon,
        )
        super().__init__(
            reactor,
            connection,
            fetch,
            view=self._live,
            hints=Hints(keys=KEYS),
            folder=folder,
            rate_limit=rate_limit,
        )
        self._live.saved = lambda: (name for name, _ in self._conversation.downloads.saved)
        self._live.folders = folders_like
        self._terminal = terminal
        self._drawing: IDelayedCall | None = None
        self._is_shown = False  # whether the foot of the screen is ours to draw
        self._unseen: set[int] = set()  # requests that the roster has made

    async def run(self, stdin: int = 0, stdout: int = 1) -> Exit:
        """Talk until the person leaves or the connection is lost. Leaves if cancelled."""
        self._terminal.take()
        try:
            with self._hearing_signals():
                return await super().run(stdin, stdout)
        finally:
            self._terminal.give_back()

    # What Twisted calls

    def connectionMade(self) -> None:
        """Standard input and output are open."""
        self._take()
        super().connectionMade()
        self._ask_for_talk()
        self._ask_for_roster()

    # How it works

    def leave(self) -> None:
        """Say goodbye; `until_done` ends soon after."""
        super().leave()
        self._draw_soon()

    def _hear(self, event: Event) -> None:
        request = getattr(event, "request", None)
        if request is not None and request.number in self._unseen:
            self._unseen.discard(request.number)
            self._live.learn(event)
            self._settle()
            return
        super()._hear(event)
        if isinstance(event, Back):
            self._ask_for_roster()

    def _ask_for_talk(self) -> None:
        """Ask what was said last, if the server is one of ours: another may never answer that, and
        while an answer is awaited nothing that is said is shown."""
        if self._session.state is State.JOINED and self._session.limits:
            self._conversation.act(ShowHistory(RECENT))

    def _ask_for_roster(self) -> None:
        """Ask, unseen, what and who is there: once people are counted, Tab knows it all."""
        if self._session.state is State.JOINED and not self._session.is_full:
            self._unseen = {self._session.ask_files(), self._session.ask_users()}
            self._connection.flush()

    def _obey(self, control: Control) -> None:
        if control is Control.INTERRUPT:
            os.kill(os.getpid(), signal.SIGINT)  # as the terminal would have done
        elif control is Control.SUSPEND:
            self._suspend()
        else:
            super()._obey(control)

    def _close(self, status: Exit) -> None:
        self._hide()
        super()._close(status)

    # The screen

    def _draw_soon(self) -> None:
        """Something has changed: draw it when this turn of the reactor is over."""
        if self._drawing is None and self._status is None:
            self._drawing = self._reactor.callLater(0, self._draw)

    def _draw(self) -> None:
        self._drawing = None
        if self._is_shown:
            self._live.warn(self._trouble())
            self._write(self._live.draw())

    def _take(self) -> None:
        """Have the terminal, and show what there is to see."""
        self._terminal.take()
        size = self._terminal.size()
        self._write(self._live.begin(*size))
        if self._is_shown:  # we were stopped unasked, so nobody knows what stands where
            self._live.resize(*size)
        self._is_shown = True
        self._draw_soon()

    def _hide(self) -> None:
        """Take the foot off the screen; what was said stays."""
        if self._drawing is not None:
            self._drawing.cancel()
            self._drawing = None
        if self._is_shown:
            self._write(self._live.give_up())
            self._is_shown = False

    def _resized(self) -> None:
        self._live.resize(*self._terminal.size())

    def _trouble(self) -> str:
        """What the person should know about the connection, or about leaving."""
        if self._session.state is State.LEAVING:
            return "leaving"
        if self._input_ended:
            return "leaving when all is done"
        if self._session.state not in AWAY:
            return ""
        waiting = sum(request.kind is Kind.SAY for request in self._session.pending)
        return f"connection cut, coming back{f'; {waiting} to be sent' if waiting else ''}"

    # Signals and suspending

    @contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        handlers = {
            signal.SIGWINCH: self._resized,
            signal.SIGTSTP: self._suspend,
            signal.SIGCONT: self._resume,
        }
        before = {
            number: signal.signal(
                number, lambda *_, handler=handler: self._reactor.callFromThread(handler)
            )
            for number, handler in handlers.items()
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _suspend(self) -> None:
        """Give the terminal back and stop, when all is written that was to be."""
        if self._is_leaving or self.transport is None:
            return
        if self._is_shown:
            self._hide()
            self._when_written(self._stop)
        elif not self._terminal.is_taken:
            self._stop()

    def _stop(self) -> None:
        self._terminal.give_back()
        # The default handlers do the stopping and the going on; nothing of ours runs in between.
        ours = {number: signal.signal(number, signal.SIG_DFL) for number in _JOB_CONTROL}
        os.kill(0, signal.SIGTSTP)
        for number, handler in ours.items():
            signal.signal(number, handler)
        self._resume()

    def _resume(self) -> None:
        """We go on, in the foreground or not."""
        if self._is_leaving or self.transport is None:
            return
        if self._terminal.is_ours:
            self._take()
            self._stdio.resumeProducing()
        else:
            self._stdio.pauseProducing()
            self._reactor.callLater(0, self._suspend)

    @property
    def _is_leaving(self) -> bool:
        return self._status is not None or self._session.state is State.LEAVING

    def _when_written(self, action: Callable[[], None]) -> None:
        """Do something once all is written; something must have been written just before."""

        def done() -> None:
            self._stdio.unregisterProducer()
            self._stdio.registerProducer(self._connection, True)
            self._connection.resumeProducing()  # what it may have been told not to do before
            action()

        self._stdio.unregisterProducer()
        self._stdio.registerProducer(_WhenWritten(done), False)


_JOB_CONTROL: Final = (signal.SIGTSTP, signal.SIGCONT)


@implementer(IPullProducer)
class _WhenWritten:
    """Is asked for more when it is registered, and then when everything is written."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action
        self._asked = 0

    def resumeProducing(self) -> None:
        """Be asked."""
        self._asked += 1
        if self._asked == 2:
            self._action()

    def stopProducing(self) -> None:
        """There is nothing to stop."""
