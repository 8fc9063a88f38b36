"""A screen that nobody sees: an X server without hardware, and pictures of what it shows."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

from chatbox.client.gui.paint import png
from tests.helpers.processes import PATIENCE

MISSING = None if shutil.which("Xvfb") else "there is no Xvfb, which shows windows to nobody"
"""Why there can be no such screen; None if there can."""


class Screen:
    """An X server on a display that was free; its framebuffer is a file in `folder`.

    A key that is held does not repeat: a program that presses it may find no time to let it go.
    """

    def __init__(self, folder: Path, width: int = 1280, height: int = 900) -> None:
        self._folder = folder
        read, write = os.pipe()
        self._process = subprocess.Popen(
            [
                *("Xvfb", "-displayfd", str(write), "-screen", "0", f"{width}x{height}x24"),
                *("-dpi", "96", "-r", "-nolisten", "tcp", "-noreset", "-fbdir", str(folder)),
            ],
            pass_fds=[write],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        with open(read, encoding="ascii") as told:
            number = told.readline().strip()
        assert number, "Xvfb has not started"
        self.name = f":{number}"
        """The display, as in $DISPLAY."""

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)

    def picture(self, x: int, y: int, width: int, height: int) -> bytes:
        """A part of what the screen shows, as PNG."""
        data = (self._folder / "Xvfb_screen0").read_bytes()
        header = struct.unpack_from(">25I", data)  # X11/XWDFile.h
        header_bytes, little, bits, stride, colours = (header[at] for at in (0, 7, 11, 12, 19))
        assert (bits, little) == (32, 0), "the pixels are blue, green, red and a byte of nothing"
        first = header_bytes + 12 * colours
        rows = []
        for row in range(y, y + height):
            start = first + row * stride + 4 * x
            line = bytearray(data[start : start + 4 * width])
            line[0::4], line[2::4] = line[2::4], line[0::4]
            line[3::4] = b"\xff" * width
            rows.append(bytes(line))
        return png(width, height, b"".join(rows))
