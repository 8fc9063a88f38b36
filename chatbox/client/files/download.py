"""
A file on its way to the disk: `NAME.part` until it is whole and right, then `NAME`, never anything
in between.

The bytes are written where they belong as they come, in any order. The part grows with them, some
way ahead, since to write into room that is reserved is quicker. Whether there is room for all of it
is only looked up before: to reserve that would let a server fill the disk with the mere size that
it tells, and takes minutes where a file system writes zeros for it.

The sha-256 follows the part that is there without a gap, so that the digest is known moments after
the last byte. What comes right behind that part is hashed as it comes, while the core still has it
in its cache. What was there before, or came before its turn, is read back and hashed by a thread of
its own, which also does whatever waits for the disk. At the end that is: compare the digest, bring
the file to the disk (fsync), give it its name, and bring the name to the disk (fsync of the
folder). A program that shows `NAME` to somebody can rely on it.

An attempt that breaks off leaves the part and its journal (`chatbox.client.files.journal`). The
next one has at once what the journal claims, if the server's file is still the same, and its thread
takes the sha-256 of that while the rest arrives. How much a kill can take: less than `CLAIM_BYTES`
when the program is killed, about `SYNC_BYTES`, or what came in `SYNC_SECONDS`, when the machine
stops, and what came since it last kept something when a disk fails. Where a path is so long, fast
and lossy that more than `MAX_RANGES` stretches are here at once, it takes the smallest of them
besides, for the next attempt could not name them. What a part is called, and how one is known from
somebody else's file, is the business of `chatbox.client.files.place`.

The two threads share little. The reactor's writes, counts and claims; the other one reads, brings
to the disk, and claims that. What both touch, they touch with `_changed` held, and never wait for
the disk while they hold it. The hash needs no lock: as long as less is hashed than reached it is
the thread's, else the reactor's, which alone can reach further. A file may be given up just when it
is given its name: then the one who came first has won. The thread says that it is `_naming` only if
there is no end yet, and `close` waits for a moment until that is done, so that nobody is told of a
file that lies there that it did not arrive; but not until the name is on the disk. The second
thread outlives `close` by a moment, to bring to the disk what came last; the lock on the part lasts
as long, and a new attempt in this process waits for it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from chatbox.client.files.journal import Beginning, Claim, Journal, Sample, Subject
from chatbox.client.files.place import Place
from chatbox.rdt.ends import End, end_for
from chatbox.rdt.ranges import RangeSet
from chatbox.rdt.receiver import Verdict
from chatbox.threads import start_thread

__all__ = ["PartFile"]

READ_BYTES: Final = 1 << 20
"""One read of the thread: long enough that the interpreter lock is rarely asked for."""

CLAIM_BYTES: Final = 2 << 20
"""What may come until the journal says that the system has it. To say so takes some 20 us, which at
full speed would be felt if it were done much more often."""

SYNC_BYTES: Final = 4 << 20
"""What may come until it is brought to the disk. A disk that is slower than the network is given
more at a time, since more has come when it is ready again."""

SYNC_SECONDS: Final = 2.0
"""After such a while in which less than `READ_BYTES` came, less is brought to the disk, too: when a
transfer stands half way, when somebody paused it, and when it is slow."""

ROOM_BYTES: Final = 4 << 20
"""What is reserved ahead of what comes: so little that nobody waits for it, for a file system in
memory fills it with zeros first, and one that cannot reserve writes into each of its blocks."""

LEAVE_SECONDS: Final = 20.0
"""For which a new attempt waits until the disk has taken what the one before it left: less than a
server waits for the first packet (30 s in ours)."""

_NO_ROOM_AHEAD: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM})
"""What a file system that reserves nothing says, where the C library does not make up for that."""

_WORTHLESS: Final = frozenset({End.CANCELLED, End.FILE_CHANGED, End.HASH_MISMATCH})
"""Ends after which nothing that has come is of use for another attempt."""

_SHORTENED: Final = Verdict(End.DISK_ERROR, "The file was shortened while it was being written")

_leaving: Final[dict[str, threading.Thread]] = {}
"""Threads that are about to let go of a part, by its path."""


class PartFile:
    """
    One download's file: where `chatbox.rdt.receiver.Receiver` writes to (its `Sink`).

    :raises FileExistsError: if `path` is there already, or a part or journal of it that no download
        of ours has left, and `overwrite` is not given.
    :raises OSError: if it cannot become a file for another reason; its `strerror` is for people.
    """

    def __init__(self, path: str, *, overwrite: bool = False) -> None:
        self._place = Place(path, overwrite=overwrite)
        self.path = self._place.path
        self.beginning = Beginning.NEW
        """What `start` found."""
        self.resumed_from = 0
        """Bytes that were there from before."""
        self._mtime_ms: int | None = None
        self._digest: bytes | None = None
        self._size = 0
        self._inode = 0
        self._fd = -1
        self._journal: Journal | None = None
        self._have: tuple[tuple[int, int], ...] = ()
        self._wake: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None
        self._prepared = False
        self._problem: OSError | None = None
        """Why it could not be prepared."""
        # Shared with the thread.
        self._changed = threading.Condition()
        self._written = RangeSet()
        self._sample: Sample | None = None
        self._unsynced = 0
        self._forgotten = False
        """The system has forgotten some of what it was given."""
        self._uncertain = False
        """And nothing is known to have been brought to the disk before."""
        self._reached = 0
        self._sha256 = hashlib.sha256()
        self._hashed = 0
        self._wanted: bytes | None = None
        self._naming = False
        self._end: End | None = None
        self._verdict: Verdict | None = None
        # The reactor's own.
        self._room = 0
        self._unclaimed = 0
        self._told = 0

    @property
    def have(self) -> Sequence[tuple[int, int]]:
        """Bytes that were there from an earlier attempt when this one began."""
        return self._have

    def expect(self, mtime_ms: int | None, digest: bytes | None) -> None:
        """
        Say before `start` what the server tells of its file: when it was last changed, in
        milliseconds since the epoch, and its sha-256; None for what it does not tell.
        """
        self._mtime_ms, self._digest = mtime_ms, digest

    @property
    def is_free(self) -> bool:
        """Whether the attempt before this has let go of the part."""
        return self._place.part_path not in _leaving

    def prepare(self, size: int) -> None:
        """
        Take up what an earlier attempt has left, or make the file, if there is room for all of it.
        This waits for the disk, and is for a thread; what goes wrong `start` raises.
        """
        try:
            self._prepare(size)
        except OSError as error:
            self._problem = error
        self._prepared = True

    def start(self, size: int, wake: Callable[[], None]) -> None:
        """
        Be ready for `size` bytes, once prepared, which is done here if it was not before; `wake` is
        called from a thread when there is a verdict.

        :raises FileExistsError: as when this was made.
        :raises BlockingIOError: if the disk still has not taken what the attempt before this left.
        :raises OSError: if the disk has not enough room, or the file cannot be made, or no thread.
        """
        if not self._prepared:
            self.prepare(size)
        self._prepared = False
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem
        self._wake = wake
        try:
            self._thread = start_thread(self._run, "download file")
        except OSError:
            self._let_go()
            raise

    def give_up(self) -> None:
        """It was prepared, but is not to be started."""
        if self._prepared and self._problem is None:
            self._let_go()
        self._prepared = False

    def _prepare(self, size: int) -> None:
        leaving = _leaving.get(self._place.part_path)
        if leaving is not None:
            leaving.join(LEAVE_SECONDS)
            if leaving.is_alive():
                what = "The disk has yet to take what came of this file before; try again later"
                raise BlockingIOError(errno.EAGAIN, what, self._place.part_path)
        self._fd = self._place.open_part()
        try:
            found = os.fstat(self._fd)
            self._size, self._inode = size, found.st_ino
            self._journal = self._place.open_journal(found.st_size)
            is_ours, claim = self._journal.look(self._fd)
            self._place.refuse_anothers(is_ours or not found.st_size)
            self.beginning = self._compare(claim, found.st_size) if is_ours else Beginning.NEW
            if self.beginning is Beginning.RESUMED and claim is not None:
                self._take_up(claim)
            else:
                self._start_over(self._journal)
            self._place.check_room(self._fd, size)
        except OSError:
            self._let_go()
            raise

    def _let_go(self) -> None:
        """Leave what is there as it is, if that is anything."""
        with suppress(OSError):
            if not os.fstat(self._fd).st_size:
                self._place.clear()
        self._release()

    def recognise(self, mtime_ns: int) -> bool:
        """Whether a file that was last changed then is the one that this is a part of."""
        mtime_ms = mtime_ns // 1_000_000
        if self._mtime_ms is None:
            self._mtime_ms = mtime_ms
            with suppress(OSError):  # if it lasts, `write` says so
                self._claim()
        return self._mtime_ms == mtime_ms

    def write(self, offset: int, data: memoryview) -> None:
        """Write down bytes of the file; those that are there stay, for they may be hashed."""
        size = len(data)
        stop = offset + size
        if stop > self._room:
            room = min(self._size, stop + ROOM_BYTES)
            try:
                os.posix_fallocate(self._fd, self._room, room - self._room)
            except OSError as error:
                if error.errno not in _NO_ROOM_AHEAD:
                    raise
            self._room = room
        there = self._written.within(offset, stop)
        is_next = offset == self._hashed == self._reached and not there
        start = offset
        sample = known = self._sample
        for held, held_stop in (*there, (stop, stop)):
            missing = data[start - offset : held - offset]
            sample = sample or Sample.of(start, missing)
            while missing:
                start += os.pwrite(self._fd, missing, start)
                missing = data[start - offset : held - offset]
            start = held_stop
        with self._changed:
            self._written.add(offset, stop)
            self._sample = sample
            if not self._unsynced:
                self._changed.notify()
            self._unsynced += size
        if is_next:
            self._sha256.update(data)
            self._hashed = stop
        self._unclaimed += size
        if self._unclaimed >= CLAIM_BYTES or sample is not known:
            self._claim()

    def reached(self, prefix: int) -> None:
        """All before `prefix` is written."""
        self._reached = prefix
        if prefix - max(self._hashed, self._told) >= READ_BYTES:
            self._told = prefix
            with self._changed:
                self._changed.notify()

    def finish(self, digest: bytes) -> None:
        """The file is whole: if its sha-256 is `digest`, give it its name."""
        with self._changed:
            self._wanted = digest
            self._changed.notify()
        if self._verdict is not None:  # it was too early for it to be heard
            self._wake()

    def verdict(self) -> Verdict | None:
        """What became of it, None until that is known."""
        return self._verdict

    def close(self, end: End) -> Verdict | None:
        """
        Nothing more will be written. What is of no use to another attempt is removed, unless the
        file has its name already: then that is returned.
        """
        if self._thread is None or self._end is not None:
            return None
        with self._changed:
            self._changed.wait_for(lambda: not self._naming)
            verdict = self._verdict
            is_done = verdict is not None and verdict.end is End.DONE
            is_useless = end in _WORTHLESS or self._uncertain or not self._written
            is_useless |= self._subject() is None
            if not is_done and is_useless:
                self._place.clear()
            elif not is_done:
                with suppress(OSError):  # it does not matter now why the disk takes no more
                    self._claim()
            _leaving[self._place.part_path] = self._thread
            self._end = End.DONE if is_done else end
            self._changed.notify_all()
        return verdict if is_done else None

    def again(self) -> PartFile:
        """
        The same once more, for the next attempt.

        :raises OSError: as when it was made.
        """
        return PartFile(self.path, overwrite=self._place.overwrite)

    # ---- beginning

    def _compare(self, claim: Claim | None, found: int) -> Beginning:
        """What is there, `found` bytes, and may it be used?"""
        if claim is None:
            return Beginning.UNUSABLE
        subject = claim.subject
        if found > subject.size:
            return Beginning.UNUSABLE
        if not claim.ranges:
            return Beginning.UNUSABLE if found else Beginning.NEW
        if found < claim.ranges[-1][1]:
            return Beginning.UNUSABLE
        same = (
            subject.size == self._size
            and self._mtime_ms in (None, subject.mtime_ms)
            and (self._digest is None or subject.digest in (None, self._digest))
        )
        return Beginning.RESUMED if same else Beginning.CHANGED

    def _take_up(self, claim: Claim) -> None:
        """Go on where the last attempt ended."""
        self._mtime_ms = claim.subject.mtime_ms
        self._digest = self._digest or claim.subject.digest
        self._sample = claim.subject.sample
        self._have = claim.ranges
        self._room = os.fstat(self._fd).st_size
        self._written = RangeSet(claim.ranges)
        self._reached = self._told = self._written.prefix()
        self.resumed_from = self._written.total

    def _start_over(self, journal: Journal) -> None:
        """Begin with nothing, and with a journal that is on the disk before there is more."""
        if os.fstat(self._fd).st_size:
            os.ftruncate(self._fd, 0)  # before the journal forgets whose it was
            os.fdatasync(self._fd)
        journal.begin(Subject(self._inode, self._size, self._mtime_ms or 0, self._digest))
        with suppress(OSError):  # not all systems, nor all folders, allow that
            self._place.sync_folder()

    # ---- claims

    def _subject(self) -> Subject | None:
        """What claims are about; None as long as the server has not told when its file changed."""
        if self._mtime_ms is None:
            return None
        return Subject(self._inode, self._size, self._mtime_ms, self._digest, self._sample)

    def _claim(self) -> None:
        """Note in the journal what the system was given."""
        subject = self._subject()
        if self._journal is not None and subject is not None:
            self._unclaimed = 0
            with self._changed:
                if not self._forgotten:
                    self._journal.claim_handed_over(subject, self._written)

    def _sync(self) -> None:
        """Bring to the disk what is there, then note that it is."""
        with self._changed:
            ranges, subject = list(self._written), self._subject()
            self._unsynced = 0
        self._to_disk()
        if self._journal is not None and subject is not None:
            with self._changed:
                self._journal.claim_on_disk(subject, ranges)
            self._journal.sync()

    def _to_disk(self) -> None:
        """Wait until all that was written is on the disk."""
        try:
            os.fdatasync(self._fd)
        except OSError:
            # What the system could not write it has forgotten, as if it had never been handed over.
            with self._changed:
                self._forgotten = self._uncertain = True
                if self._journal is not None:
                    self._uncertain = not self._journal.take_back()
            raise

    # ---- ending

    def _release(self) -> None:
        """Let go of both files, and of the lock with them."""
        with suppress(OSError):  # what could not be written after all, and is closed all the same
            if self._journal is not None:
                self._journal.close()
        with suppress(OSError):
            os.close(self._fd)
        self._journal, self._fd = None, -1

    # ---- the thread

    def _run(self) -> None:
        try:
            verdict = self._judge()
        except OSError as error:
            verdict = Verdict(end_for(error), error.strerror or str(error))
        with self._changed:
            self._verdict = verdict
            self._naming = False
            self._changed.notify_all()
        try:
            if verdict is not None:
                self._wake()
        finally:
            self._leave()

    def _leave(self) -> None:
        """Wait until no more will be written, and bring the last of it to the disk."""
        with self._changed:
            self._changed.wait_for(lambda: self._end is not None)
        is_kept = self._end is not End.DONE and self._end not in _WORTHLESS and self._written
        if is_kept and not self._forgotten:
            with suppress(OSError):
                self._sync()
        if is_kept and self._uncertain:
            self._place.clear()
        self._release()
        if _leaving.get(self._place.part_path) is threading.current_thread():
            del _leaving[self._place.part_path]

    def _judge(self) -> Verdict | None:
        """Follow what comes, to the verdict; None if it was closed before."""
        block = memoryview(b"")
        is_behind = False
        while True:
            with self._changed:
                idle = False
                while not (idle or is_behind or self._busy()):
                    idle = not self._changed.wait(SYNC_SECONDS if self._unsynced else None)
                if self._end is not None:
                    return None
                wanted = self._wanted
            if self._unsynced >= SYNC_BYTES or (idle and self._unsynced):
                self._sync()
            missing = self._reached - self._hashed
            if missing > 0:
                block = block or memoryview(bytearray(READ_BYTES))
                got = os.preadv(self._fd, [block[:missing]], self._hashed)
                if not got:
                    return _SHORTENED
                self._sha256.update(block[:got])
                self._hashed += got
            elif wanted is not None:
                break
            # Once behind, it goes on until it is not: only then what comes is hashed as it comes.
            is_behind = self._hashed < self._reached
        digest = self._sha256.digest()
        if digest != wanted:
            return Verdict(End.HASH_MISMATCH)
        if os.fstat(self._fd).st_size != self._size:
            return _SHORTENED
        self._to_disk()
        with self._changed:
            if self._end is not None:
                return None
            self._naming = True
        self._place.give_name()
        verdict = Verdict(End.DONE, path=self.path, digest=digest)
        with self._changed:
            self._verdict = verdict
            self._naming = False
            self._changed.notify_all()
        with suppress(OSError):  # whatever fails from here on, the file is there
            self._place.sync_folder()
        return verdict

    def _busy(self) -> bool:
        """Whether there is something to be done at once."""
        return (
            self._end is not None
            or self._wanted is not None
            or self._reached - self._hashed >= READ_BYTES
            or self._unsynced >= SYNC_BYTES
        )
