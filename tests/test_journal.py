"""What is claimed about a half-finished file: the pages, and the file that holds them."""

from __future__ import annotations

import errno
import os
from contextlib import nullcontext
from dataclasses import replace
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.files import journal
from chatbox.client.files.journal import (
    ANY_BOOT,
    MAX_RANGES,
    PAGE_BYTES,
    SAMPLE_BYTES,
    Claim,
    Journal,
    Sample,
    Subject,
    most_of,
    pack,
    unpack,
)
from chatbox.rdt.packet import MAX_SIZE

BOOT, OTHER_BOOT = b"a" * 16, b"b" * 16
SUBJECT = Subject(inode=12, size=10_000, mtime_ms=1_700_000_000_000, digest=b"d" * 32)

NUMBERS = st.integers(0, (1 << 64) - 1)


@st.composite
def samples(draw: st.DrawFn, size: int) -> Sample | None:
    """Any sample of a part of so many bytes."""
    start = draw(st.integers(0, size))
    taken = min(size - start, draw(st.integers(0, SAMPLE_BYTES)))
    return Sample(start, taken, draw(st.binary(min_size=16, max_size=16))) if taken else None


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    """Any claim that can be made."""
    size = draw(st.integers(0, MAX_SIZE))
    edges = draw(st.lists(st.integers(0, size), unique=True, max_size=2 * MAX_RANGES))
    edges = sorted(edges)[: len(edges) // 2 * 2]
    return Claim(
        draw(NUMBERS),
        Subject(
            draw(NUMBERS),
            size,
            draw(NUMBERS),
            draw(st.none() | st.binary(min_size=32, max_size=32)),
            draw(samples(size)),
        ),
        tuple(zip(edges[::2], edges[1::2], strict=True)),
        draw(st.binary(min_size=16, max_size=16)),
    )


def sealed(claim: Claim) -> Claim | None:
    """What becomes of a claim that `pack` seals, even one that should not be."""
    return unpack(pack(claim))


class PageTests(SynchronousTestCase):
    """A claim is a page, and nothing else is."""

    @given(claims())
    def test_there_and_back(self, claim: Claim) -> None:
        """A page says what it was made of."""
        page = pack(claim)
        self.assertEqual(len(page), PAGE_BYTES)
        self.assertEqual(unpack(page), claim)

    @given(st.binary(max_size=300), st.booleans())
    def test_any_bytes(self, noise: bytes, magic: bool) -> None:
        """Bytes that nobody sealed are no claim, whatever their length."""
        self.assertIsNone(unpack(noise))
        start = b"chatbox\x02" if magic else b""
        self.assertIsNone(unpack((start + noise).ljust(PAGE_BYTES, b"\0")[:PAGE_BYTES]))

    @given(st.binary(max_size=PAGE_BYTES - 24))
    def test_any_bytes_well_sealed(self, noise: bytes) -> None:
        """Nonsense under a right checksum is refused too, or is a claim that makes sense."""
        rest = noise.ljust(PAGE_BYTES - 24, b"\0")
        claim = unpack(b"chatbox\x02" + journal._checksum(rest) + rest)
        if claim is not None:
            self.assertEqual(unpack(pack(claim)), claim)
            for start, stop in claim.ranges:
                self.assertTrue(0 <= start < stop <= claim.subject.size)

    @given(claims(), st.integers(0, PAGE_BYTES - 1), st.integers(0, 7))
    def test_one_wrong_bit(self, claim: Claim, place: int, bit: int) -> None:
        """A page with one bit turned over is refused."""
        page = bytearray(pack(claim))
        page[place] ^= 1 << bit
        self.assertIsNone(unpack(bytes(page)))

    @given(claims(), claims(), st.integers(1, PAGE_BYTES - 1))
    def test_torn(self, old: Claim, new: Claim, place: int) -> None:
        """A page of which only the first part was written is the old one, the new one, or none."""
        first, second = pack(old), pack(new)
        self.assertIn(unpack(second[:place] + first[place:]), (None, old, new))
        self.assertIsNone(unpack(second[:place]))

    def test_ranges_that_are_none(self) -> None:
        """Ranges that are empty, touch, overlap, go back or leave the file are refused."""
        good = Claim(1, SUBJECT, ((0, 5), (6, 10_000)))
        self.assertEqual(sealed(good), good)
        for ranges in (
            ((5, 5),),
            ((6, 5),),
            ((0, 5), (5, 6)),
            ((0, 5), (4, 6)),
            ((6, 7), (0, 5)),
            ((0, 10_001),),
        ):
            self.assertIsNone(sealed(replace(good, ranges=ranges)), ranges)
        many = tuple((2 * number, 2 * number + 1) for number in range(MAX_RANGES + 1))
        self.assertEqual(sealed(replace(good, ranges=many[:-1])), replace(good, ranges=many[:-1]))
        self.assertIsNone(sealed(replace(good, ranges=many)))

    def test_sizes_that_are_none(self) -> None:
        """A file larger than any is refused."""
        self.assertIsNone(sealed(Claim(1, replace(SUBJECT, size=MAX_SIZE + 1), ())))

    def test_samples_that_are_none(self) -> None:
        """One that is too long, or leaves the file, is refused."""
        for start, size, good in ((9000, 1000, True), (9001, 1000, False), (0, 1025, False)):
            subject = replace(SUBJECT, sample=Sample(start, size, b"s" * 16))
            self.assertEqual(sealed(Claim(1, subject, ())) is not None, good)

    def test_what_is_a_sample(self) -> None:
        """Bytes that could be in many a file are none: a few, or mostly zeros."""
        text = bytes(range(256)) * 8
        for data, size in (
            (text, SAMPLE_BYTES),
            (text[:256], 256),
            (text[:255], 0),
            (b"ab" + bytes(1022) + text, 0),
            (b"a\0" * 200, 400),
            (b"a\0\0" * 200, 0),
        ):
            sample = Sample.of(5, memoryview(data))
            self.assertEqual(sample.size if sample else 0, size)

    def test_most_of(self) -> None:
        """Of too many ranges the largest are kept, in their order."""
        ranges = [(100 * n, 100 * n + 1 + (n * 37) % 83) for n in range(80)]
        kept = most_of(ranges)
        self.assertEqual(len(kept), MAX_RANGES)
        self.assertEqual(list(kept), sorted(kept))
        sizes = sorted((stop - start for start, stop in ranges), reverse=True)
        self.assertEqual(
            sorted((stop - start for start, stop in kept), reverse=True), sizes[:MAX_RANGES]
        )
        self.assertEqual(most_of(iter(ranges[:3])), tuple(ranges[:3]))


class JournalTests(SynchronousTestCase):
    """Three pages, of which the largest claim that holds is the truth."""

    def setUp(self) -> None:
        """A folder, and a machine that has booted once."""
        self.path = self.mktemp()
        self.boot(BOOT)

    def boot(self, boot: bytes | None) -> None:
        """Let the machine start anew."""
        patcher = mock.patch("chatbox.client.files.journal.this_boot", lambda: boot)
        patcher.start()
        self.addCleanup(patcher.stop)

    def open(self) -> Journal:
        """The journal, as a program finds it that has just started."""
        made = Journal(self.path)
        self.addCleanup(made.close)
        return made

    def ranges(self) -> tuple[tuple[int, int], ...] | None:
        """What is claimed."""
        claim = self.open().read()
        return None if claim is None else claim.ranges

    def spoil(self, page: int) -> None:
        """Destroy some bytes of a page."""
        with open(self.path, "r+b") as file:
            file.seek(page * PAGE_BYTES + 50)
            file.write(b"spoiled")

    def test_new(self) -> None:
        """A new journal claims nothing, and then names the part, for ever."""
        made = self.open()
        self.assertIsNone(made.read())
        made.begin(SUBJECT)
        self.assertEqual(made.read(), Claim(1, SUBJECT, ()))
        self.assertEqual(os.path.getsize(self.path), 3 * PAGE_BYTES)

    def test_handed_over(self) -> None:
        """What the system was given counts until the machine starts anew."""
        self.open().claim_handed_over(SUBJECT, [(0, 5)])
        claim = self.open().read()
        self.assertEqual(claim, Claim(1, SUBJECT, ((0, 5),), BOOT))
        self.boot(OTHER_BOOT)
        self.assertIsNone(self.ranges())

    def test_on_disk(self) -> None:
        """What is on the disk counts for ever, what was only handed over not after a crash."""
        made = self.open()
        made.claim_on_disk(SUBJECT, [(0, 5)])
        made.sync()
        made.claim_handed_over(SUBJECT, [(0, 7)])
        self.assertEqual(self.ranges(), ((0, 7),))
        self.boot(OTHER_BOOT)
        self.assertEqual(self.open().read(), Claim(1, SUBJECT, ((0, 5),), ANY_BOOT))

    def test_unknown_boot(self) -> None:
        """On a machine that does not tell one boot from another, only the disk counts."""
        self.boot(None)
        made = self.open()
        made.claim_on_disk(SUBJECT, [(0, 5)])
        made.claim_handed_over(SUBJECT, [(0, 7)])
        self.assertEqual(self.ranges(), ((0, 5),))

    def test_the_newest_counts(self) -> None:
        """However often, and by however many programs, claims were made."""
        for number in range(1, 8):
            self.assertEqual(self.ranges(), ((0, number - 1),) if number > 1 else None)
            made = self.open()
            made.read()
            if number % 3:
                made.claim_on_disk(SUBJECT, [(0, number)])
            else:
                made.claim_handed_over(SUBJECT, [(0, number)])

    def test_the_largest_counts(self) -> None:
        """What was handed over while the disk was busy is not forgotten when that has ended."""
        made = self.open()
        made.claim_handed_over(replace(SUBJECT, digest=None), [(0, 7), (8, 9)])
        made.claim_on_disk(SUBJECT, [(0, 7)])
        claim = self.open().read()
        assert claim is not None
        # What the server's digest is had only been told by then.
        self.assertEqual((claim.ranges, claim.subject), (((0, 7), (8, 9)), SUBJECT))
        # What another version of the file once had does not matter.
        made.claim_on_disk(replace(SUBJECT, mtime_ms=SUBJECT.mtime_ms + 1), [(0, 1)])
        self.assertEqual(self.ranges(), ((0, 1),))

    def test_a_spoiled_page(self) -> None:
        """Whichever page is spoiled, what is on the disk is lost by one claim at most."""
        for spoiled, expected in ((0, 3), (1, 4), (2, 4)):
            made = self.open()
            made.begin(SUBJECT)
            for number in range(1, 5):
                made.claim_on_disk(SUBJECT, [(0, number)])
            # The first is in page 0, then pages 1 and 0 in turn: 2 and 4 are in page 0.
            self.spoil(spoiled)
            self.assertEqual(self.ranges(), ((0, expected),))
            # The next claim must not take the place of the only one that is left.
            again = self.open()
            again.read()
            again.claim_on_disk(SUBJECT, [(0, 9)])
            self.spoil(spoiled)
            self.assertIn(self.ranges(), (((0, expected),), ((0, 9),)))

    def test_erased(self) -> None:
        """Nothing is claimed after that."""
        made = self.open()
        made.claim_on_disk(SUBJECT, [(0, 5)])
        made.claim_handed_over(SUBJECT, [(0, 6)])
        made.begin(SUBJECT)
        self.assertEqual(self.ranges(), ())

    @given(st.binary(max_size=4 * PAGE_BYTES))
    def test_any_file(self, contents: bytes) -> None:
        """A file of somebody else's claims nothing, and can be used."""
        with open(self.path, "wb") as file:
            file.write(contents)
        made = Journal(self.path)
        try:
            self.assertIsNone(made.read())
            # Some file systems lengthen a file by nothing but a write.
            refusal = OSError(errno.EPERM, "Operation not permitted")
            is_long = len(contents) > 3 * PAGE_BYTES
            with nullcontext() if is_long else mock.patch("os.ftruncate", side_effect=refusal):
                made.begin(SUBJECT)
            made.claim_on_disk(SUBJECT, [(1, 2)])
            found = made.read()
            self.assertEqual(found and found.ranges, ((1, 2),))
            self.assertEqual(os.path.getsize(self.path), 3 * PAGE_BYTES)
        finally:
            made.close()

    def test_a_link(self) -> None:
        """A link that somebody put there is not followed."""
        os.symlink("elsewhere", self.path)
        self.assertRaises(OSError, Journal, self.path)


class BootTests(SynchronousTestCase):
    """What tells one boot from another."""

    def test_this_machine(self) -> None:
        """It is the same twice, and sixteen bytes long."""
        boot = journal.this_boot()
        self.assertEqual(boot, journal.this_boot())
        self.assertEqual(len(boot or bytes(16)), 16)

    def test_no_such_thing(self) -> None:
        """Where there is none, or nonsense, there is none."""
        path = self.mktemp()
        read = journal.this_boot.__wrapped__
        with mock.patch("chatbox.client.files.journal._BOOT_ID", path):
            self.assertIsNone(read())
            for text in ("", "nonsense", "ab", "00000000-0000-0000-0000-000000000000"):
                with open(path, "w") as file:
                    file.write(text)
                self.assertIsNone(read(), text)
            with open(path, "w") as file:
                file.write("61616161-6161-6161-6161-616161616161\n")
            self.assertEqual(read(), BOOT)
