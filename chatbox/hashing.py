"""The sha-256 of whole files, taken in one thread beside the reactor's.

A download ends with the digest of the whole file, so the file is hashed while it is being sent.
That is work for a thread: `hashlib` releases the interpreter's lock for each block. There is one
thread for all files. It begins with the first file and ends when nothing is left, so a program that
never hashes has no thread, a daemon may fork first, and nobody has to stop one.

- Files take turns, one slice each, so a small file does not wait behind a large one.
- A file that several downloads want is hashed once.
- Digests are remembered by what the file was when it was opened (`Identity`), so the next download
  of the same file has its digest at once.
- A file can change and not show it: a program that maps it into its memory may write for half a
  minute before its times change, and in a file system in memory they never do. Only who gets the
  file finds out. A digest that was doubted is taken once more.
- A file that nobody waits for any more is read no further, and what was begun is remembered in the
  same way: the next download of it goes on there. So whoever comes and goes costs no more than
  somebody who stays.

The thread reads through its own duplicate of the descriptor with `pread`, which moves no shared
position and lets the owner close the file whenever it likes.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from twisted.logger import Logger

from chatbox.threads import start_thread

__all__ = ["Hasher", "Hashing", "Identity"]

_log = Logger()

_Kept = TypeVar("_Kept")

READ_BYTES: Final = 1 << 20
"""One read: large enough that the call is cheap beside the hashing, small enough to stop soon."""

SLICE_READS: Final = 16
"""Reads of one file before the next file has its turn."""

MAX_REMEMBERED: Final = 16_384
"""Digests kept, the oldest use forgotten first: more than a list of files has names. An entry takes
some 300 bytes."""

MAX_BEGUN: Final = 1024
"""As many that are begun are kept. An entry takes some 650 bytes."""

SETTLED_NS: Final = 2_000_000_000
"""A file's times have steps of up to 2 s (FAT). Two changes within one step look like one, so what
was changed this recently when reading began is hashed but not remembered."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file, in which condition: equal identities have equal contents."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """Take the identity from what `os.fstat` says."""
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )

    def age_ns(self, now_ns: int) -> int:
        """For how long nothing has changed; negative if the change is said to be to come."""
        return now_ns - max(self.mtime_ns, self.ctime_ns)

    def same_contents(self, other: Identity) -> bool:
        """Compare what writing changes; a renamed or deleted file keeps its contents."""
        return (self.size, self.mtime_ns) == (other.size, other.mtime_ns)


@dataclass(eq=False, slots=True)
class Hashing:
    """One caller's wish for a digest. `digest` and `done` are set once, by the thread."""

    wake: Callable[[], None]
    done: bool = False
    digest: bytes | None = None


@dataclass(eq=False, slots=True)
class _Job:
    """A file on its way through the thread. `fd` is ours to close; -1 if it is on no way now.

    `settled` says that any change since reading began is to be seen in the identity.
    """

    identity: Identity
    settled: bool
    fd: int = -1
    wishes: list[Hashing] = field(default_factory=list)
    offset: int = 0
    state: hashlib._Hash = field(default_factory=hashlib.sha256)


class Hasher:
    """Hashes files in one daemon thread. All methods may be called from any thread."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        """`now_ns` is the wall clock that the file system's times come from."""
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._jobs: dict[Identity, _Job] = {}
        self._turns: deque[_Job] = deque()
        self._begun: OrderedDict[Identity, _Job] = OrderedDict()
        self._remembered: OrderedDict[Identity, bytes] = OrderedDict()
        self._doubted: OrderedDict[Identity, bytes] = OrderedDict()
        self._woken: deque[Hashing] = deque()
        self._running = False

    def remembered(self, identity: Identity) -> bytes | None:
        """Return the digest of a file that was hashed before, None if it is not known."""
        with self._lock:
            return self._remembered.get(identity)

    def remember(self, identity: Identity, digest: bytes) -> None:
        """Take the digest of a file from whoever knows it."""
        with self._lock:
            _keep(self._remembered, identity, digest, MAX_REMEMBERED)

    def doubt(self, identity: Identity) -> None:
        """Somebody has found another digest: forget what is remembered, so that it is taken again.

        What comes out as before is believed from then on: doubting costs one reading of the file.
        """
        with self._lock:
            digest = self._remembered.get(identity)
            if digest is not None and digest != self._doubted.get(identity):
                _keep(self._doubted, identity, digest, MAX_REMEMBERED)
                del self._remembered[identity]

    def start(self, fd: int, identity: Identity, wake: Callable[[], None]) -> Hashing:
        """Have the open file `fd` hashed; `wake` is called from the thread when that has ended.

        A remembered digest is in the answer at once; `wake` is called all the same. Raises OSError
        if `fd` cannot be duplicated, or no thread can be had.
        """
        wish = Hashing(wake)
        with self._lock:
            if not self._running:
                start_thread(self._run, "chatbox-hasher")  # it waits for the lock
                self._running = True
            known = self._remembered.get(identity)
            if known is not None:
                self._remembered.move_to_end(identity)
                wish.digest, wish.done = known, True
                self._woken.append(wish)
            elif (job := self._jobs.get(identity)) is not None:
                job.wishes.append(wish)
            else:
                ours = os.dup(fd)
                job = self._begun.pop(identity, None) or _Job(identity, self._settled(identity))
                job.fd = ours
                job.wishes.append(wish)
                self._jobs[identity] = job
                self._turns.append(job)
        return wish

    def stop(self, wish: Hashing) -> None:
        """Forget a wish. The file is read no further if nobody else wants its digest.

        What was read is not in vain. The wish's `wake` may still be called if it was about to be
        when this began.
        """
        with self._lock:
            for job in self._jobs.values():
                if wish in job.wishes:
                    job.wishes.remove(wish)
            if wish in self._woken:
                self._woken.remove(wish)

    def _run(self) -> None:
        """Give each file its turn until nothing is left."""
        buffer = memoryview(bytearray(READ_BYTES))
        while True:
            with self._lock:
                woken, self._woken = self._woken, deque()
                job = self._turns.popleft() if self._turns else None
                if job is None and not woken:
                    self._running = False
                    return
            for wish in woken:
                with _log.failuresHandled("waking the reader of a digest failed"):
                    wish.wake()
            if job is not None:
                self._take_turn(job, buffer)

    def _take_turn(self, job: _Job, buffer: memoryview) -> None:
        """Hash one slice of a file; then queue it again, end it, or put it aside."""
        try:
            for _ in range(SLICE_READS):
                wanted = min(READ_BYTES, job.identity.size - job.offset)
                if not (wanted and job.wishes):
                    break
                got = os.preadv(job.fd, [buffer[:wanted]], job.offset)
                if not got:
                    raise EOFError("the file became shorter")
                job.state.update(buffer[:got])
                job.offset += got
            now = Identity.of(os.fstat(job.fd))
            if job.offset == job.identity.size:
                self._end(job, now)
                return
        except (OSError, EOFError):
            self._end(job, None)
            return
        with self._lock:
            if job.wishes:
                self._turns.append(job)
                return
            # In the same breath as the look at the wishes: a new wish must not join a dropped job.
            del self._jobs[job.identity]
            if job.settled and now == job.identity:
                _keep(self._begun, job.identity, job, MAX_BEGUN)
            fd, job.fd = job.fd, -1
        os.close(fd)

    def _end(self, job: _Job, after: Identity | None) -> None:
        """Answer all who wait for this file; `after` is what it is now, None if reading failed.

        The digest counts if the contents did not change meanwhile. It is remembered if nothing did,
        and nothing could have done so unseen.
        """
        identity = job.identity
        unchanged = after is not None and after.same_contents(identity)
        digest = job.state.digest() if unchanged else None
        with self._lock:
            if digest is not None and job.settled and after == identity:
                _keep(self._remembered, identity, digest, MAX_REMEMBERED)
            del self._jobs[identity]
            for wish in job.wishes:
                wish.digest, wish.done = digest, True
            self._woken.extend(job.wishes)
        os.close(job.fd)

    def _settled(self, identity: Identity) -> bool:
        return identity.age_ns(self._now_ns()) > SETTLED_NS


def _keep(kept: OrderedDict[Identity, _Kept], identity: Identity, what: _Kept, most: int) -> None:
    """Keep one more."""
    kept[identity] = what
    if len(kept) > most:
        kept.popitem(last=False)
