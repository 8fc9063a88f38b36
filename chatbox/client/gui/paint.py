"""Small pictures with smooth edges, painted here: the corners of buttons, fields and bars.

Tk draws no round corners, but takes a PNG. What is painted is a box with a border. Tk lays its
middle out like tiles, so one picture does for a widget of any size, and it should not be too small:
a large widget of small tiles takes long to draw. Nothing is see-through for the same reason; what
lies behind the box is painted around its corners.
"""

from __future__ import annotations

import math
import struct
import zlib

__all__ = ["box", "png"]


def box(
    size: int, radius: float, fill: str, *, behind: str, border: str = "", width: float = 1.0
) -> bytes:
    """A PNG of `size` by `size` pixels: a box with round corners, on a ground.

    `fill`, `behind` and `border` are ``#rrggbb``; without `border` there is none. `width` is the
    border's.
    """
    corner = min(math.ceil(radius + width), size // 2)
    colours = (_rgb(fill), _rgb(border or fill), _rgb(behind))
    top = []
    for y in range(corner):
        left = [_pixel(x, y, radius, width, colours) for x in range(corner)]
        middle = _pixel(corner, y, 0.0, width, colours)
        top.append(b"".join([*left, middle * (size - 2 * corner), *reversed(left)]))
    side = [_pixel(x, corner, 0.0, width, colours) for x in range(corner)]
    inside = _pixel(corner, corner, 0.0, width, colours)
    row = b"".join([*side, inside * (size - 2 * corner), *reversed(side)])
    return png(size, size, b"".join([*top, *[row] * (size - 2 * corner), *reversed(top)]))


def _pixel(
    x: int, y: int, radius: float, width: float, colours: tuple[tuple[int, int, int], ...]
) -> bytes:
    """One pixel near the upper left corner."""
    # How far the pixel's middle lies outside the edge of the box (inside: negative).
    dx, dy = radius - x - 0.5, radius - y - 0.5
    away = math.hypot(max(dx, 0.0), max(dy, 0.0)) + min(max(dx, dy), 0.0) - radius
    filled = min(max(0.5 - away - width, 0.0), 1.0)
    there = min(max(0.5 - away, 0.0), 1.0)
    parts = (filled, there - filled, 1.0 - there)
    channels = zip(*colours, strict=True)
    mixed = (sum(a * b for a, b in zip(parts, one, strict=True)) for one in channels)
    return bytes([*map(round, mixed), 255])


def png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG file of pixels, each of which is four bytes: red, green, blue, opacity."""
    stride = 4 * width
    rows = b"".join(b"\0" + pixels[at : at + stride] for at in range(0, stride * height, stride))
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
