"""Lines out of bytes that arrive in pieces of any size."""

from __future__ import annotations

import sys
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.codes import Code
from chatbox.chat.lines import Lines
from chatbox.errors import RemoteError

MAX_BYTES = 5


def taken(lines: Lines) -> list[bytes | str]:
    """All that can be taken now: lines, and the codes of what is raised."""
    found: list[bytes | str] = []
    while True:
        try:
            line = lines.take()
        except RemoteError as error:
            found.append(error.code)
            continue
        if line is None:
            return found
        found.append(line)


class LinesTests(SynchronousTestCase):
    """What one client sends."""

    def test_one_by_one(self) -> None:
        """Lines are taken one by one; what was not taken stays."""
        lines = Lines(MAX_BYTES)
        self.assertIsNone(lines.take())
        lines.add(b"one\ntwo\r\n\nfo")
        self.assertEqual(lines.take(), b"one")
        self.assertEqual(lines.rest, b"two\r\n\nfo")
        lines.add(b"ur\n")
        self.assertEqual(taken(lines), [b"two\r", b"", b"four"])
        self.assertEqual(lines.rest, b"")

    def test_length(self) -> None:
        """A line may have so many bytes without its LF, and not one more."""
        lines = Lines(MAX_BYTES)
        lines.add(b"12345\n123456\nnext\n12345")
        self.assertEqual(taken(lines), [b"12345", Code.TOO_LONG, b"next"])
        lines.add(b"6")
        self.assertEqual(taken(lines), [Code.TOO_LONG])

    def test_endless(self) -> None:
        """Of a line without an end nothing is kept; it is refused once, and counted."""
        lines = Lines(MAX_BYTES)
        for turn in range(1, 4):
            lines.add(b"x" * 100)
            self.assertEqual(taken(lines), [Code.TOO_LONG] if turn == 1 else [])
            self.assertEqual((lines.rest, lines.skipped), (b"", turn * 100))
        lines.add(b"x\nnext\n" + b"y" * 7)
        self.assertEqual(taken(lines), [b"next", Code.TOO_LONG])
        self.assertEqual(lines.skipped, 7)

    def test_what_is_not_taken_is_small(self) -> None:
        """What waits is as large as what has come, whatever it will be cut into."""
        lines = Lines(MAX_BYTES)
        lines.add(b"ab\n" * 20_000)
        self.assertEqual(lines.take(), b"ab")
        held = sum(sys.getsizeof(getattr(lines, name)) for name in Lines.__slots__)
        self.assertLess(held, 3 * 20_000 + 500)

    def test_what_is_taken_is_not_kept(self) -> None:
        """A client that waits quietly holds no memory for what it said before."""
        lines = Lines(MAX_BYTES)
        lines.add(b"ab\n" * 20_000 + b"c")
        taken(lines)
        self.assertEqual(lines.rest, b"c")
        held = sum(sys.getsizeof(getattr(lines, name)) for name in Lines.__slots__)
        self.assertLess(held, 500)

    @given(st.binary(max_size=60).map(lambda data: data.replace(b"\0", b"\n")), st.data())
    def test_any_pieces(self, data: bytes, draw: st.DataObject) -> None:
        """The same is taken in whatever pieces it comes."""
        expected = [
            line if len(line) <= MAX_BYTES else Code.TOO_LONG for line in data.split(b"\n")[:-1]
        ]
        if len(data.split(b"\n")[-1]) > MAX_BYTES:
            expected.append(Code.TOO_LONG)
        cuts = draw.draw(st.lists(st.integers(0, len(data))))
        lines, found = Lines(MAX_BYTES), []
        for start, end in pairwise([0, *sorted(cuts), len(data)]):
            lines.add(data[start:end])
            found += taken(lines)
        self.assertEqual(found, expected)
