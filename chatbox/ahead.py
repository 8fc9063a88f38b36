"""Shared files are hashed before anybody downloads them, while the server has nothing to send.

Every download ends with the file's sha-256, and to take it costs a processor more than to send the
file does. So it is taken ahead: the folder is looked at now and then, and what has no digest yet
goes through the `Hasher`, one file at a time. What is known is written down, so each file is read
once and not at every start.

- Downloads come first: when one is asked for, this stops at once, and when one that stood goes on,
  soon. It goes on itself when none is under way. What it had begun is not lost; if that is the very
  file, the download goes on with it.
- A file that is still being written is left alone until it has rested: for a moment at first, and
  for long if it has changed after it was hashed. So a file that grows slowly is not read again and
  again.
- What cannot be read is not tried again until it has changed.

Nothing depends on it. A file whose digest is not known is hashed while it is being sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, execute
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from chatbox.digests import Digests, condition, read_digests, write_digests
from chatbox.errors import RemoteError
from chatbox.hashing import SETTLED_NS, Identity
from chatbox.shelf import SharedFile, Shelf

__all__ = ["LOOK_SECONDS", "RESTED_NS", "SAVE_SECONDS", "SOON_SECONDS", "HashAhead"]

LOOK_SECONDS: Final = 30
"""How long until the folder is looked at again. With ten thousand files that takes 40 ms, in a
thread."""

SOON_SECONDS: Final = 3
"""How long if some file had not rested yet."""

IDLE_SECONDS: Final = 1
"""How long until we look again whether anything is being sent."""

SAVE_SECONDS: Final = 60
"""What a crash may cost: digests of so long are not written down yet."""

RESTED_NS: Final = 600 * 10**9
"""How long a file that has changed after it was hashed must have rested, to be hashed once more."""

_log = Logger()

_T = TypeVar("_T")


class InThread(Protocol):
    """`deferToThread`, or a stand-in for it."""

    def __call__(self, call: Callable[[], _T], /) -> Deferred[_T]:
        """Have `call`, which may wait for a disk, called in a thread."""


class HashAhead(Service):
    """Hashes what lies on `shelf`, and keeps the digests in the file `path`.

    `is_busy` says whether something is being sent. `now_ns` is the wall clock that the file
    system's times come from.
    """

    def __init__(
        self,
        reactor: Any,
        shelf: Shelf,
        path: str,
        is_busy: Callable[[], bool],
        *,
        in_thread: InThread = deferToThread,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._reactor = reactor
        self._shelf = shelf
        self._path = path
        self._is_busy = is_busy
        self._thread = in_thread
        self._now_ns = now_ns
        self._found: Sequence[tuple[str, Identity]] = ()
        """What was on the shelf at the last look."""
        self._tried: dict[str, Identity] = {}
        """What was hashed, or could not be."""
        self._running: Deferred[None] | None = None
        self._hashing: Deferred[bool] | None = None
        self._saved: Digests = {}
        """What is written down."""
        self._recalled: Digests = {}
        """Of that, what was not found yet: its disk may be mounted late."""
        self._saved_at = 0.0

    def startService(self) -> None:
        """Begin."""
        super().startService()
        self._saved_at = self._reactor.seconds()
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._failed)

    def stopService(self) -> Deferred[None] | None:
        """Hash no more, and write down what is known."""
        super().stopService()
        if self._running is not None:
            self._running.cancel()
        return self._in_thread(self._save)

    def step_aside(self) -> None:
        """Something is being sent from now on: hash nothing until that is over."""
        if self._hashing is not None and not self._hashing.called:
            self._hashing.callback(False)

    async def _run(self) -> None:
        """Look, hash what is found, and look again, until we are cancelled."""
        await self._in_thread(self._recall)
        while True:
            unknown, wait = await self._in_thread(self._look)
            for name, identity in unknown:
                await self._hash(name, identity)
                if self._reactor.seconds() - self._saved_at >= SAVE_SECONDS:
                    await self._in_thread(self._save)
            await self._in_thread(self._save)
            await deferLater(self._reactor, wait, lambda: None)

    async def _hash(self, name: str, identity: Identity) -> None:
        """Hash one file, as soon as nothing is being sent."""
        while True:
            while self._is_busy():
                await deferLater(self._reactor, IDLE_SECONDS, lambda: None)
            try:
                file = self._shelf.open(name)
            except RemoteError:
                break
            try:
                if file.identity != identity or await self._has_ended(file):
                    break
            except OSError:  # no descriptors are left
                break
            finally:
                file.close()
        self._tried[name] = identity

    async def _has_ended(self, file: SharedFile) -> bool:
        """Whether the hashing of a file came to its end, before we had to step aside."""
        ended: Deferred[bool] = Deferred()
        self._hashing = ended

        def end() -> None:
            if not ended.called:
                ended.callback(True)

        def look() -> None:
            if self._is_busy():
                self.step_aside()

        file.start_hashing(lambda: self._reactor.callFromThread(end))
        looking = LoopingCall(look)
        looking.clock = self._reactor
        looking.start(IDLE_SECONDS, now=False)
        try:
            return await ended
        finally:
            looking.stop()

    def _in_thread(self, call: Callable[[], _T]) -> Deferred[_T]:
        """Have `call`, which may wait for a disk, called in a thread if one can be had."""
        try:
            return self._thread(call)
        except RuntimeError:  # none are left: then everybody has to wait
            return execute(call)

    def _failed(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            _log.failure("shared files are not hashed ahead any more", failure)

    # In a thread.

    def _recall(self) -> None:
        """Read what was written down."""
        self._saved = {}
        try:
            self._saved = read_digests(self._path)
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warn("the digests of shared files cannot be read: {error}", error=error)
        self._recalled = self._saved.copy()

    def _look(self) -> tuple[list[tuple[str, Identity]], float]:
        """Find what wants to be hashed, and say in how many seconds to look again."""
        try:
            self._found = self._shelf.identities()
        except RemoteError:
            return [], LOOK_SECONDS
        self._tried = {name: self._tried[name] for name, _ in self._found if name in self._tried}
        unknown = []
        wait = LOOK_SECONDS
        for name, identity in self._found:
            tried = self._tried.get(name)
            # Once, for somebody may doubt it.
            recalled = self._recalled.pop((name, condition(identity)), None)
            if tried == identity or self._shelf.hasher.remembered(identity) is not None:
                continue
            if recalled is not None:
                self._shelf.hasher.remember(identity, recalled)
                continue
            age = identity.age_ns(self._now_ns())
            if age > (SETTLED_NS if tried is None else RESTED_NS):
                unknown.append((name, identity))
            elif tried is None and age >= 0:
                wait = SOON_SECONDS
        return unknown, wait

    def _save(self) -> None:
        """Write down what is known of what was found, if that is not what was written before."""
        self._saved_at = self._reactor.seconds()
        known: Digests = {}
        for name, identity in self._found:
            digest = self._shelf.hasher.remembered(identity)
            if digest is not None:
                known[name, condition(identity)] = digest
        if not self._found or known == self._saved:
            return
        self._saved = known
        try:
            write_digests(self._path, known)
        except OSError as error:
            _log.warn("the digests of shared files cannot be kept: {error}", error=error)
