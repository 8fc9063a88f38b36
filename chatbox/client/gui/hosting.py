"""Runs the server of somebody who hosts a room: a process that ends with the window."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from chatbox.client.chat.lines import LineBuffer
from chatbox.client.exits import Exit, Stop
from chatbox.client.gui.host import Plan, Report

__all__ = ["Hosting"]

START_TIMEOUT: Final = 20.0
"""Seconds until a server listens; it takes less than one."""

STOP_TIMEOUT: Final = 5.0
"""Seconds that it may take to stop before it is killed."""

MAX_LOG_LINE: Final = 4096


class Hosting(ProcessProtocol):
    """One server. `ended` is called with a sentence if it ends without having been asked to."""

    def __init__(self, reactor: Any, ended: Callable[[str], None]) -> None:
        self.report = Report()
        """What it has said of itself."""
        self._reactor = reactor
        self._tell_ended = ended
        self._lines = LineBuffer(MAX_LOG_LINE)
        self._process: IProcessTransport | None = None
        self._started: Deferred[None] = Deferred()
        self._gone: Deferred[None] = Deferred()
        self._stopping = False

    async def start(self, plan: Plan, state_dir: str) -> None:
        """Start it, and wait until it listens. Raises Stop with a sentence."""
        arguments = plan.arguments(state_dir)
        command = [sys.executable, "-m", "chatbox.client.gui.served", *arguments]
        os.makedirs(state_dir, exist_ok=True)
        self._process = self._reactor.spawnProcess(
            self, command[0], command, os.environ, state_dir, childFDs={0: "w", 1: "r", 2: 1}
        )
        try:
            await self._started.addTimeout(START_TIMEOUT, self._reactor)
        except TimeoutError:
            await self.stop()
            raise Stop(Exit.FAILED, "The server does not start.") from None

    async def stop(self) -> None:
        """Stop it, and wait until it is gone."""
        self._stopping = True
        if self._process is None:
            return
        self._process.closeStdin()
        try:
            await self._gone.addTimeout(STOP_TIMEOUT, self._reactor)
        except TimeoutError:
            self._gone = Deferred()
            self._process.signalProcess("KILL")
            await self._gone

    # What Twisted calls

    def outReceived(self, data: bytes) -> None:
        """It says something."""
        for line in self._lines.feed(data):
            self.report.read((line or b"").decode("utf-8", "replace"))
        if self.report.is_ready and not self._started.called:
            self._started.callback(None)

    def processEnded(self, reason: Failure) -> None:
        """It is gone."""
        self._process = None
        sentence = self.report.why_it_ended()
        if not self._started.called:
            self._started.errback(Stop(Exit.FAILED, sentence))
        elif not self._stopping:
            self._tell_ended(sentence)
        if not self._gone.called:
            self._gone.callback(None)
