"""``chatbox get``: one download for a script, with its progress on standard error."""

from __future__ import annotations

import sys
import threading
from argparse import Namespace
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from chatbox.client import words
from chatbox.client.commands import Steering
from chatbox.client.connection import Fetcher
from chatbox.client.console import Screen, Ticker, columns_of, is_terminal
from chatbox.client.download import PartFile
from chatbox.client.events import Offer
from chatbox.client.exits import Exit, Stop, Stopping
from chatbox.client.oneshots import visit
from chatbox.client.session import ClientSession
from chatbox.client.transfers import Download, Fetch, Stage, save_path
from chatbox.errors import RemoteError
from chatbox.text import printable

__all__ = ["get"]

RETURN_PATIENCE: Final = 60.0
"""Seconds for a server to be back, when it went away in the middle of a download."""

RETURN_DELAY: Final = 1.0
"""Seconds between two attempts."""


async def get(reactor: Any, options: Namespace) -> Exit:
    """Download one file; print its sha-256 and path as sha256sum does."""
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
