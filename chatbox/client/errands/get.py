"""``chatbox get``: downloads for a script, with their progress on standard error.

Files come one after another, in one visit. What is wrong with one of them does not keep the others
from coming: a line says so, and the exit status is that of the first that failed. A server that
goes away on the way is waited for; without it, no other file is tried.
"""

from __future__ import annotations

import os
import sys
import termios
import threading
from argparse import Namespace
from collections import deque
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from chatbox.client import words
from chatbox.client.actions import Steering
from chatbox.client.chat.events import Offer
from chatbox.client.chat.session import ClientSession
from chatbox.client.config import SETTLED_HOST, required_host
from chatbox.client.errands.oneshots import Visit, visit
from chatbox.client.exits import Exit, Stop, Stopping
from chatbox.client.files.download import PartFile
from chatbox.client.files.fetcher import Fetcher
from chatbox.client.files.names import save_path
from chatbox.client.files.progress_line import Screen, Ticker, columns_of, is_terminal
from chatbox.client.files.transfers import Download, Stage
from chatbox.errors import RemoteError
from chatbox.text import printable

__all__ = ["get"]

RETURN_PATIENCE: Final = 60.0
"""Seconds for a server to be back, when it went away in the middle of a download."""

RETURN_DELAY: Final = 1.0
"""Seconds between two attempts."""

_REFUSALS: Final = frozenset({Exit.NOT_THERE, Exit.REFUSED})
"""What a server says of one file."""

_AWAY: Final = frozenset({Exit.LOST, Exit.NO_CONNECTION})
"""How it looks when a server is not there."""

_HOPELESS: Final = frozenset({Exit.LOST, Exit.NO_UDP})
"""Ends of a download after which no other would fare better."""


async def get(reactor: Any, options: Namespace) -> Exit:
    """Download files; print the sha-256 and the path of each as sha256sum does.

    On a terminal the line that says that it has come has both already.
    """
    required_host(options.host, options.files[0])  # the first thing to say if there is none
    folder = options.output
    if len(options.files) > 1 and folder and not os.path.isdir(os.path.expanduser(folder)):
        raise Stop(
            Exit.USAGE, f"{printable(folder)} is no folder, which several files need to go to."
        )
    errand = _Errand(reactor, options)
    await errand.run()
    return errand.status


class _Errand:
    """Downloads one after another; `status` is that of the first that failed."""

    def __init__(self, reactor: Any, options: Namespace) -> None:
        self.status = Exit.OK
        self.download: Download
        """The present one."""
        self._reactor = reactor
        self._options = options
        self._quiet: bool = options.quiet
        self._names = deque(options.files)
        """Those whose turn will come."""
        self._done: Deferred[None] = Deferred()
        self._reading = False
        """Whether a line is waited for."""
        self._asked: Download | None = None
        """The one of which somebody is asked whether it may go on."""
        self._last_line = ""
        self._screen = Screen(
            _write_error,
            terminal=is_terminal(2),
            columns=lambda: columns_of(2),
            clock=reactor.seconds,
        )
        # Who sees both standard output and standard error is told the digest and the path once.
        self._is_seen = not self._quiet and is_terminal(1) and is_terminal(2)
        self._ticker = Ticker(reactor, self._screen.show, self._running)
        self._was_there = False
        """The server has been there, so it may come back."""
        self._away_since: float | None = None

    async def run(self) -> None:
        """Fetch all of them, in as many visits as it takes."""
        more = self._turn_to_next()
        while more:
            try:
                await self._visit()
                break
            except Stop as problem:
                if not await self._may_return(problem):
                    self._fail(problem.status, problem.sentence + self._advice())
                    break
            if self.download.stage is Stage.ENDED:  # given up while the server was away
                more = self._turn_to_next()
        if self._names:
            self._screen.line(f"chatbox: not tried: {', '.join(map(printable, self._names))}")

    async def _visit(self) -> None:
        """Stay until none is left. Raises Stop if the server is away."""
        async with visit(self._reactor, self._options, self._ask) as visitor:
            fetcher = Fetcher(self._reactor, visitor.peer, self._options.udp_via)
            number = visitor.first
            try:
                await self._fetch(visitor, number, fetcher)
                while self.download.status not in _HOPELESS and self._turn_to_next():
                    await self._fetch(visitor, self._ask(visitor.session), fetcher)
            finally:
                await fetcher.tell_ends()

    def _turn_to_next(self) -> bool:
        """Make the next one that can be saved the present one; say whether there is one."""
        options = self._options
        while self._names:
            name = self._names.popleft()
            try:
                path = save_path(name, options.output or options.settings.downloads)
                target = PartFile(path, overwrite=options.overwrite)
            except RemoteError as problem:
                self._fail(Exit.NOT_THERE, f"{printable(name)}: {problem.detail}")
            except OSError as problem:
                is_there = isinstance(problem, FileExistsError)
                advice = f"Use -o to save it elsewhere{', or --overwrite' * is_there}."
                self._fail(Exit.CANNOT_SAVE, f"{words.os_error_text(problem)} {advice}")
            else:
                self.download = Download(
                    name,
                    target,
                    path,
                    tell=self._tell,
                    changed=self._changed,
                    clock=self._reactor.seconds,
                    pause_half_way=options.pause,
                    rate_limit=options.limit,
                    hint="Press Enter to let it go on, or type c and Enter to give it up.",
                    ask_again=self._server_has_gone,
                )
                return True
        return False

    def _ask(self, session: ClientSession) -> int:
        """Ask for the present one; returns the number of the request."""
        self.download.ask()
        return session.download(self.download.name)

    async def _fetch(self, visitor: Visit, number: int, fetcher: Fetcher) -> None:
        """Fetch the present one, to the good or bad end. Raises Stop if the server goes away."""
        download = self.download
        try:
            offer = await visitor.ask(Offer, number)
        except Stop as problem:
            if problem.status not in _REFUSALS:
                raise
            self._fail(problem.status, f"{printable(download.name)}: {problem.sentence}")
            return
        self._was_there = True
        self._away_since = None
        self._done = Deferred()
        download.begin(offer, fetcher, visitor.peer)
        visitor.when_lost(download.doubt)
        try:
            if download.stage is not Stage.ENDED:
                await self._done
        except CancelledError:
            download.interrupt()
            raise
        finally:
            self._ticker.stop()
            self._screen.clear()
        if download.stage is Stage.ASKED:
            raise Stop(Exit.LOST, "The server has gone away.")
        if download.status is Exit.OK:
            if download.ended is not None and download.ended.digest and not self._is_seen:
                path = printable(download.ended.path or download.path)
                print(f"{download.ended.digest.hex()}  {path}", flush=True)
        elif self._quiet:
            self._screen.line(self._last_line)
        if download.status is Exit.REFUSED:
            await visitor.check()  # it may say why

    async def _may_return(self, problem: Stop) -> bool:
        """If the server may be back soon, wait before the next attempt, else say so."""
        if isinstance(problem, Stopping):
            self._was_there = True
        if not self._was_there or problem.status not in _AWAY:
            return False
        now = self._reactor.seconds()
        if self._away_since is None:
            self._tell(f"{problem.sentence} Trying again for {RETURN_PATIENCE:.0f} s.")
            self._away_since = now
        if now - self._away_since >= RETURN_PATIENCE:
            return False
        await deferLater(self._reactor, RETURN_DELAY, lambda: None)
        return True

    def _advice(self) -> str:
        """What to do if the host that could not be reached was meant to be a file."""
        host, settled = self._options.host, self._options.settings.host
        if self._was_there or not settled or host == settled:
            return ""
        return (
            f" If {printable(host)} is a file on {printable(settled)}, put a dash before it:"
            f" chatbox get {SETTLED_HOST} FILE FILE..."
        )

    def _fail(self, status: Exit, sentence: str) -> None:
        """Say what is wrong, however quiet we are to be."""
        self._screen.line(f"chatbox: {sentence}")
        self._note(status)

    def _note(self, status: Exit) -> None:
        if self.status is Exit.OK:
            self.status = status

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
        if self.download.status is not None:
            self._note(self.download.status)
        if self.download.stage in (Stage.ENDED, Stage.ASKED) and not self._done.called:
            self._done.callback(None)
        elif self.download.stage in (Stage.PAUSED, Stage.HALF_WAY):
            self._asked = self.download
            if not self._reading:
                self._reading = True
                _forget_what_was_typed()
                # A thread, since standard input may be a file, a terminal or nothing; a daemon,
                # since it may wait for a line that never comes.
                threading.Thread(target=self._read_wish, daemon=True).start()

    def _read_wish(self) -> None:
        line = ""
        # What cannot be read, such as the terminal of a shell that has ended, says no more.
        with suppress(OSError, ValueError):
            line = sys.stdin.readline()
        self._reactor.callFromThread(self._act_on_wish, line)

    def _act_on_wish(self, line: str) -> None:
        self._reading = False
        if self._asked is not self.download:  # it was for one that has ended since
            return
        self._asked = None
        if not line:
            self.download.go_on_alone()
        else:
            is_no = line.strip().casefold().startswith("c")
            self.download.steer(Steering.CANCEL if is_no else Steering.PROCEED)


def _forget_what_was_typed() -> None:
    """Nobody has answered a question before it was asked. (Scripts may: a pipe keeps all.)"""
    if sys.stdin.isatty():
        termios.tcflush(sys.stdin, termios.TCIFLUSH)


def _write_error(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
