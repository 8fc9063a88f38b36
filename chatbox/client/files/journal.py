"""
What is known of a half-finished file, kept beside it, so that a later attempt asks only for the
rest.

The journal of `NAME.part` is `NAME.part.journal`. What it owns: which bytes of which file are in
the part. It must never say more than is true. Saying less costs a little time, saying too much
costs the whole download, which then ends with the wrong digest (that is compared in any case, so
wrong data never gets the name).

It is three pages of `PAGE_BYTES`, each a whole claim with a checksum of its own, written in place:
it does not grow, and a reader needs to look at nothing else.

- Pages 0 and 1 in turn: what is *on the disk*. Such a claim is written only after an fdatasync of
  the part, and brought to the disk itself before the other page is touched. So a machine that loses
  its power spoils at most one of them, and what the other says still holds.
- Page 2: what has been *handed to the system*. That holds as long as the machine runs on, whatever
  becomes of this program: a kill takes nothing from the system's memory. Therefore it costs no wait
  for the disk and may be written often, by the reactor's thread. It names the boot of the machine
  in which it holds, and after another boot it counts for nothing.

The first claim is on the disk before the part holds a byte: it says whose that is and nothing else.
So no loss of power leaves a part of ours that is not known as one.

A claim also names the part, so that a journal beside somebody else's part claims nothing, and the
file on the server by size, time of change and, where it was known, digest. Which file the part is
of, the newest claim says (the highest serial number) of those that are whole and hold. Of the
claims about that file the largest counts: what is there stays there, and what has just been brought
to the disk was written before what has been handed over meanwhile.

What the part is known by is a *sample* of it: a few bytes, and where they stand. Its inode will not
do, for a number that has become free goes to the next file that is made, and where a file system
has none of its own (FAT, FUSE) it makes up others when it is mounted again. Bytes that are mostly
zeros are no sample, since every file begins with them for which room was made ahead. Until there is
a better one, and when the machine stopped before any of it was brought to the disk, the inode will
do, or a sample that was handed over and came to the disk by itself. A file that has the sample and
is another's after all has the same bytes of the same file in it, so it is of as much use, or comes
to the wrong digest.

Ways not taken: a log of records, appended (it grows, and has to be read and repaired as a whole);
a tail on the part itself (it cannot be removed in the same instant in which the file gets its name,
so a kill in between would take everything); to know the part by its size and times (a kill leaves
others than were claimed last, and not all file systems keep them), or by an extended attribute
(those that have no inodes have none of these); an fdatasync for each claim (either the reactor
waits for the disk, or a fast network is far ahead of what is claimed).
"""

from __future__ import annotations

import errno
import hashlib
import heapq
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import Final

from chatbox.rdt.packet import MAX_HAVE_RANGES, MAX_SIZE

__all__ = [
    "MAX_RANGES",
    "PAGE_BYTES",
    "Beginning",
    "Claim",
    "Journal",
    "Sample",
    "Subject",
    "is_anothers",
    "is_of",
    "most_of",
    "pack",
    "unpack",
]

PAGE_BYTES: Final = 4096
"""One claim: no less than the page of a memory and the sector of a disk, which are written whole.
"""

SAMPLE_BYTES: Final = 1024
"""Read once for each attempt: less than the first packet brings, more than two files have in common
that only begin alike."""

MIN_SAMPLE: Final = 256
"""Fewer are no sample; a file that has no more is here in one packet."""

MAX_RANGES: Final = MAX_HAVE_RANGES
"""Stretches in one claim: as many as an OPEN can name."""

ANY_BOOT: Final = bytes(16)
"""In the place of the boot: this is on the disk, and holds whatever happens to the machine."""

_HANDED_OVER: Final = 2
"""The page of the claims that hold only until the machine stops."""

_PAGES: Final = 3

_SEAL = struct.Struct(">8s16s")
"""Magic and version; checksum of all that follows in the page."""

_MAGIC: Final = b"chatbox\x02"

_CLAIM = struct.Struct(">QQQQ16sB32sQH16sH")
_RANGE = struct.Struct(">QQ")

_READING: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_NOT_OURS: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EACCES})
"""What the system says where there is nothing, a link, a socket, or what we may not read. Whatever
else it says may not be so at the next attempt, and tells nothing about what is there."""

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


@dataclass(frozen=True, slots=True)
class Sample:
    """Some bytes of a part."""

    start: int
    """Where they begin."""
    size: int
    """How many they are, at most `SAMPLE_BYTES`."""
    digest: bytes
    """What they come to (16 bytes)."""

    @classmethod
    def of(cls, start: int, data: memoryview) -> Sample | None:
        """The first of what stands at `start`; None if it could be in many a file."""
        taken = bytes(data[:SAMPLE_BYTES])
        if len(taken) < MIN_SAMPLE or 2 * taken.count(0) > len(taken):
            return None
        return cls(start, len(taken), _checksum(taken))

    def is_in(self, part: int) -> bool:
        """Whether they are in an open file. Raises OSError."""
        return _checksum(os.pread(part, self.size, self.start)) == self.digest


@dataclass(frozen=True, slots=True)
class Subject:
    """What a claim is about: which part, and which file on the server."""

    inode: int
    """Of the part, when it was made."""
    size: int
    """Bytes in the file."""
    mtime_ms: int
    """When the server's file was last changed, milliseconds since the epoch."""
    digest: bytes | None = None
    """The sha-256 of the whole file, if the server knew it at the beginning."""
    sample: Sample | None = None
    """Of the part, if there is any yet."""

    def same(self, other: Subject) -> bool:
        """Whether it is the same file. It has one part, whatever was known of that by then."""
        return (self.size, self.mtime_ms) == (other.size, other.mtime_ms)


@dataclass(frozen=True, slots=True)
class Claim:
    """That these bytes of that file are in that part."""

    serial: int
    """The later, the higher."""
    subject: Subject
    ranges: tuple[tuple[int, int], ...]
    """Half-open, ascending, none touching another; at most `MAX_RANGES`."""
    boot: bytes = ANY_BOOT
    """The boot of the machine in which this holds (16 bytes)."""

    @property
    def total(self) -> int:
        """How many bytes that are."""
        return sum(stop - start for start, stop in self.ranges)


class Beginning(Enum):
    """What an attempt found of those before it."""

    NEW = "new"  # nothing
    RESUMED = "resumed"  # some of this file
    CHANGED = "changed"  # some of what the server's file was before it changed
    UNUSABLE = "unusable"  # a part of ours of which nothing is certain


def pack(claim: Claim) -> bytes:
    """A claim as a page."""
    subject = claim.subject
    sample = subject.sample or Sample(0, 0, bytes(16))
    parts = [
        _CLAIM.pack(
            claim.serial,
            subject.inode,
            subject.size,
            subject.mtime_ms,
            claim.boot,
            subject.digest is not None,
            subject.digest or bytes(32),
            sample.start,
            sample.size,
            sample.digest,
            len(claim.ranges),
        )
    ]
    parts += [_RANGE.pack(start, stop) for start, stop in claim.ranges]
    rest = b"".join(parts).ljust(PAGE_BYTES - _SEAL.size, b"\0")
    return _SEAL.pack(_MAGIC, _checksum(rest)) + rest


def unpack(page: bytes) -> Claim | None:
    """Read a page; None if it is not a whole claim of ours."""
    if len(page) != PAGE_BYTES:
        return None
    magic, checksum = _SEAL.unpack_from(page)
    if magic != _MAGIC or checksum != _checksum(page[_SEAL.size :]):
        return None
    serial, inode, size, mtime_ms, boot, known, digest, *sampled, count = _CLAIM.unpack_from(
        page, _SEAL.size
    )
    sample = Sample(*sampled) if sampled[1] else None
    if count > MAX_RANGES or known > 1 or size > MAX_SIZE:
        return None
    if sample and not (sample.size <= SAMPLE_BYTES and sample.start + sample.size <= size):
        return None
    first = _SEAL.size + _CLAIM.size
    ranges = tuple(_RANGE.iter_unpack(page[first : first + count * _RANGE.size]))
    last = -1
    for start, stop in ranges:
        if not last < start < stop <= size:
            return None
        last = stop
    subject = Subject(inode, size, mtime_ms, digest if known else None, sample)
    return Claim(serial, subject, ranges, boot)


def most_of(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Of ascending ranges, the largest ones that a claim has room for, ascending."""
    all_of_them = tuple(ranges)
    if len(all_of_them) <= MAX_RANGES:
        return all_of_them
    return tuple(sorted(heapq.nlargest(MAX_RANGES, all_of_them, key=lambda one: one[1] - one[0])))


def is_of(path: str, part: str) -> bool:
    """
    Whether there is a journal of what is at `part`, though all it claims may be void.

    :raises OSError: if that cannot be seen now.
    """
    with _open_to_read(path) as fd, _open_to_read(part) as part_fd:
        return fd is not None and part_fd is not None and _name(_whole(_read_pages(fd)), part_fd)


def is_anothers(path: str) -> bool:
    """
    Whether something is there that is no journal, not even one that claims nothing yet.

    :raises OSError: if that cannot be seen now.
    """
    if not os.path.lexists(path):
        return False
    with _open_to_read(path) as fd:
        if fd is None:
            return True
        data = os.pread(fd, _PAGES * PAGE_BYTES + 1, 0)
    pages = (data[at : at + PAGE_BYTES] for at in range(0, len(data), PAGE_BYTES))
    return len(data) > _PAGES * PAGE_BYTES or any(
        page.strip(b"\0") and not page.startswith(_MAGIC) for page in pages
    )


@contextmanager
def _open_to_read(path: str) -> Iterator[int | None]:
    """Lend a descriptor of a file; None if there is none that could be ours."""
    try:
        fd = os.open(path, _READING)
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise
        yield None
        return
    try:
        yield fd if stat.S_ISREG(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)


def _read_pages(fd: int) -> list[Claim | None]:
    return [unpack(os.pread(fd, PAGE_BYTES, at * PAGE_BYTES)) for at in range(_PAGES)]


def _whole(pages: Iterable[Claim | None]) -> list[Claim]:
    return [claim for claim in pages if claim is not None]


def _holding(claims: Iterable[Claim]) -> list[Claim]:
    return [claim for claim in claims if claim.boot in (ANY_BOOT, this_boot())]


def _newest(claims: Iterable[Claim]) -> Claim | None:
    return max(claims, key=lambda claim: claim.serial, default=None)


def _name(claims: Sequence[Claim], part: int) -> bool:
    """Whether whole claims name an open part."""
    newest = _newest(_holding(claims))
    sample = newest.subject.sample if newest is not None else None
    if sample is not None:
        return sample.is_in(part)
    inode = os.fstat(part).st_ino
    samples = [claim.subject.sample for claim in claims]
    return any(claim.subject.inode == inode for claim in claims) or any(
        sample is not None and sample.is_in(part) for sample in samples
    )


def _counting(claims: Iterable[Claim]) -> Claim | None:
    """The one of whole claims that counts, None if none does."""
    holding = _holding(claims)
    newest = _newest(holding)
    if newest is None:
        return None
    about_it = [claim for claim in holding if claim.subject.same(newest.subject)]
    largest = max(about_it, key=lambda claim: (claim.total, claim.serial))
    return replace(largest, subject=newest.subject)


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


@cache
def this_boot() -> bytes | None:
    """What tells this boot of the machine from all others (16 bytes), None if nothing does."""
    try:
        with open(_BOOT_ID) as file:
            boot = bytes.fromhex(file.read().strip().replace("-", ""))
    except (OSError, ValueError):
        return None
    return boot if len(boot) == len(ANY_BOOT) and boot != ANY_BOOT else None


class Journal:
    """
    The file. Whoever opens it holds the lock on the part.

    :raises OSError: from every method.
    """

    def __init__(self, path: str, *, may_be_new: bool = True) -> None:
        flags = os.O_RDWR | os.O_CREAT * may_be_new | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o666)
        self._serial = 0
        self._next_page = 0

    def read(self) -> Claim | None:
        """The claim that counts, None if there is none."""
        return _counting(self._read())

    def look(self, part: int) -> tuple[bool, Claim | None]:
        """Whether an open part is the one that this is of, and the claim that counts, if any."""
        whole = self._read()
        return _name(whole, part), _counting(whole)

    def begin(self, subject: Subject) -> None:
        """Only name the part, make room for claims, and wait until that is on the disk."""
        self._serial += 1
        first = pack(Claim(self._serial, subject, ()))
        os.pwrite(self._fd, first.ljust(_PAGES * PAGE_BYTES, b"\0"), 0)
        if os.fstat(self._fd).st_size > _PAGES * PAGE_BYTES:  # it was another program's
            os.ftruncate(self._fd, _PAGES * PAGE_BYTES)
        self._next_page = 1
        self.sync()

    def claim_handed_over(self, subject: Subject, ranges: Iterable[tuple[int, int]]) -> None:
        """Claim what the system was given; does not wait for the disk."""
        boot = this_boot()
        if boot is not None:
            self._write(_HANDED_OVER, subject, ranges, boot)

    def claim_on_disk(self, subject: Subject, ranges: Iterable[tuple[int, int]]) -> None:
        """Claim what was brought to the disk before. Does not wait; `sync` does, and must come
        before the next such claim.
        """
        self._write(self._next_page, subject, ranges, ANY_BOOT)
        self._next_page = 1 - self._next_page

    def take_back(self) -> bool:
        """Claim no more what was only handed over; whether anything is claimed still."""
        os.pwrite(self._fd, bytes(PAGE_BYTES), _HANDED_OVER * PAGE_BYTES)
        claim = self.read()
        return claim is not None and bool(claim.ranges)

    def sync(self) -> None:
        """Bring the claims to the disk."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Let go of the file; what it says stays."""
        os.close(self._fd)

    def _read(self) -> list[Claim]:
        """All claims that are whole; the next ones go on from there."""
        claims = _read_pages(self._fd)
        whole = _whole(claims)
        self._serial = max((claim.serial for claim in whole), default=0)
        # The older of the two pages for what is on the disk is the one to be written next.
        first, second = (claim.serial if claim else -1 for claim in claims[:_HANDED_OVER])
        self._next_page = int(second < first)
        return whole

    def _write(
        self, number: int, subject: Subject, ranges: Iterable[tuple[int, int]], boot: bytes
    ) -> None:
        self._serial += 1
        page = pack(Claim(self._serial, subject, most_of(ranges), boot))
        os.pwrite(self._fd, page, number * PAGE_BYTES)
