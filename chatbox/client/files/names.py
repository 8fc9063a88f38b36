"""What a download's file is called here.

A server calls its files what it likes, and what it says must never choose a place on this disk. A
person may, with a name of their own. So a name of the server's is a file's name in a folder that
the person knows, or it is refused; there are no escapes in it, nothing hidden, and nothing that
would be taken for what is left of another download.

Who writes to that place, and what is there already, is the business of
`chatbox.client.files.place`.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from chatbox.errors import RemoteError
from chatbox.text import MAX_NAME_BYTES, REPLACEMENT, is_plain_name, printable

__all__ = ["JOURNAL_SUFFIX", "PART_SUFFIX", "free_path", "likely_name", "save_path"]

PART_SUFFIX: Final = ".part"
"""Behind the name of a file that is not whole yet."""

JOURNAL_SUFFIX: Final = ".part.journal"
"""Behind that name, where it is written what of the part is on the disk for certain."""


def save_path(name: str, save_as: str | None) -> str:
    """Where the file `name` goes: into this folder, unless the person named a file or a folder.

    :raises RemoteError: if no shelf has a file of that name, a hidden one for instance.
    :raises OSError: if it is one that a download of another file goes by.
    """
    if not save_as:
        folder = ""
    else:
        save_as = os.path.expanduser(save_as)
        if not (save_as.endswith("/") or os.path.isdir(save_as)):
            return save_as
        folder = save_as
    if not is_plain_name(name):
        what = "That is no name of a shared file; if there is one, say what to save it as."
        raise RemoteError("bad-file-name", what)
    if name.lower().endswith((PART_SUFFIX, JOURNAL_SUFFIX)):
        raise OSError(errno.EINVAL, "No file is saved under such a name unless you choose it", name)
    return os.path.join(folder, name)


def likely_name(name: str) -> str:
    """The name itself, if `save_path` takes it, else one that it takes and that is like it."""
    if not is_plain_name(name):
        name = printable(name).replace(REPLACEMENT, "_").replace("/", "_").replace("\\", "_")
        name = name.lstrip(".") or "file"
        name = name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    for suffix in (JOURNAL_SUFFIX, PART_SUFFIX):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)] + name[-len(suffix) :].replace(".", "_")
    return name


def free_path(folder: str, name: str) -> str:
    """Where in `folder` a file called `name`, or like it, would be in the way of no other."""
    base = likely_name(name)
    stem, ending = os.path.splitext(base)
    path, count = os.path.join(folder, base), 1
    while os.path.lexists(path):
        count += 1
        path = os.path.join(folder, f"{stem} ({count}){ending}")
    return path
