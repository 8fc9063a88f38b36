"""The digests of shared files, written down for the next start of the server.

A line has one file: its sha-256, size, times of change of the contents and of the file (nanoseconds
since the epoch), its inode, and its name. It holds for a file of that name in that condition and
for no other, so an old line does no harm: it is of no use. The device is not in it, since the same
disk may have another number after the machine has started again.

The names are in it because on some file systems (FAT) numbers of inodes are dealt out afresh, and
parts of one archive are often as long as each other and as old.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Final

from chatbox.files import write_whole
from chatbox.hashing import Identity

__all__ = ["Condition", "Digests", "condition", "digests_path", "read_digests", "write_digests"]

Condition = tuple[int, int, int, int]
"""What an identity says, but for the device."""

Digests = dict[tuple[str, Condition], bytes]
"""The sha-256 of files, by their names and what condition they are in."""

MAX_BYTES: Final = 8 << 20
"""Read of one file at most; a full shelf of long names makes half of it."""

_LINE: Final = re.compile(r"([0-9a-f]{64}) (\d{1,20}) (-?\d{1,20}) (-?\d{1,20}) (\d{1,20}) (.+)")


def digests_path(state_dir: str, folder: str) -> str:
    """Return where to write down the digests of the files in `folder`, and of no other's.

    Servers that share other folders may have the same state directory.
    """
    which = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()
    return os.path.join(state_dir, f"digests-{which[:16]}")


def condition(identity: Identity) -> Condition:
    """Return what of an identity still holds after a new start of the machine."""
    return identity.size, identity.mtime_ns, identity.ctime_ns, identity.inode


def read_digests(path: str) -> Digests:
    """Return what was written down; lines that make no sense are left out. Raises OSError."""
    with open(path, "rb") as file:
        text = file.read(MAX_BYTES).decode(errors="replace")
    found = {}
    for line in text.split("\n"):
        if match := _LINE.fullmatch(line):
            digest, size, mtime_ns, ctime_ns, inode, name = match.groups()
            key = name, (int(size), int(mtime_ns), int(ctime_ns), int(inode))
            found[key] = bytes.fromhex(digest)
    return found


def write_digests(path: str, known: Digests) -> None:
    """Write down the digests of files, in place of what was written before. Raises OSError."""
    lines = []
    for (name, told), digest in known.items():
        numbers = " ".join(map(str, told))
        lines.append(f"{digest.hex()} {numbers} {name}\n")
    write_whole(path, "".join(lines).encode())
