"""Pictures made of numbers."""

from __future__ import annotations

import struct
import zlib

from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.gui.paint import box, png


class PaintTests(SynchronousTestCase):
    """The pictures."""

    def pixels(self, data: bytes) -> list[list[tuple[int, ...]]]:
        """Read a PNG of ours, checksums included."""
        self.assertEqual(data[:8], b"\x89PNG\r\n\x1a\n")
        at, parts = 8, {}
        while at < len(data):
            (length,) = struct.unpack_from(">I", data, at)
            kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
            (crc,) = struct.unpack_from(">I", data, at + 8 + length)
            self.assertEqual(crc, zlib.crc32(kind + body))
            parts[kind] = body
            at += 12 + length
        width, height = struct.unpack_from(">II", parts[b"IHDR"])
        raw = zlib.decompress(parts[b"IDAT"])
        self.assertEqual(len(raw), height * (1 + 4 * width))
        rows = [raw[row * (1 + 4 * width) + 1 :][: 4 * width] for row in range(height)]
        return [[tuple(row[4 * x : 4 * x + 4]) for x in range(width)] for row in rows]

    def test_png(self) -> None:
        """The pixels that were given come out again."""
        data = bytes(range(24))
        rows = self.pixels(png(3, 2, data))
        self.assertEqual(b"".join(bytes(one) for row in rows for one in row), data)

    def test_box(self) -> None:
        """Inside, border, and what is behind the round corners; the same on all sides."""
        rows = self.pixels(box(20, 6, "#0000ff", behind="#ffffff", border="#ff0000"))
        self.assertEqual(len(rows), 20)
        self.assertEqual(rows[10][10], (0, 0, 255, 255))
        self.assertEqual(rows[0][10], (255, 0, 0, 255))
        self.assertEqual(rows[0][0], (255, 255, 255, 255))
        self.assertEqual(rows, rows[::-1])
        self.assertEqual(rows, [row[::-1] for row in rows])
        self.assertEqual(rows, [list(column) for column in zip(*rows, strict=True)])

    def test_no_border(self) -> None:
        """Without a border the edge has the colour of the inside."""
        rows = self.pixels(box(20, 6, "#0000ff", behind="#ffffff"))
        self.assertEqual(rows[0][10], rows[10][10])
