"""Moves a log from SQLite to Redis, or back.

::

    python -m chatbox.log.export PATH | redis-cli -n DB --pipe
    python -m chatbox.log.export redis://HOST/DB PATH

The first writes a SQLite log as the commands that put it into Redis, which ``redis-cli --pipe``
reads. Messages get the places that they would have had in Redis, by their time, so their order
stays and their places do not: a client that was connected before asks for its history afresh. The
servers must be stopped, and the Redis must have no messages yet: a place is only ever after all
others. The second is the way back: see `chatbox.log.fetch`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from typing import Final

from chatbox.log import Kind, Record
from chatbox.log.store import Reader
from chatbox.log.streams import PREFIX, words_of

__all__ = ["commands", "main"]

_PAGE: Final = 10_000

_ALL: Final = """
    SELECT * FROM (
        SELECT id, at, sender, recipient, text, '[]' FROM message WHERE id > :after
        UNION ALL
        SELECT id, at, sender, recipient, text, readers FROM letter WHERE id > :after
    ) ORDER BY id LIMIT :count
"""


def commands(path: str, prefix: str = PREFIX) -> Iterator[bytes]:
    """Yield the commands, in the protocol of Redis (RESP). Raises sqlite3.Error."""
    at = number = 0
    for record in _records(path):
        if record.at > at:
            at, number = record.at, 0
        else:
            number += 1  # so many in one millisecond, or the clock was set back
        data = words_of(record)[-1]
        for stream in [f"mail:{reader}" for reader in record.readers] or ["kept"]:
            yield _command("XADD", prefix + stream, f"{at}-{number}", "d", data)
    # The places of what is said next are after these, whatever clock they are of.
    yield _command("XADD", prefix + "log", f"{at}-{number + 1}", "d", "")
    yield _command("XDEL", prefix + "log", f"{at}-{number + 1}")


def _records(path: str) -> Iterator[Record]:
    Reader(path).history(None, 0, "")  # says what is wrong if this is no log of ours
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    after = 0
    while rows := db.execute(_ALL, {"after": after, "count": _PAGE}).fetchall():
        for id, at, sender, recipient, text, readers in rows:
            yield Record(id, at, Kind.MESSAGE, sender, recipient, text, tuple(json.loads(readers)))
        after = rows[-1][0]
    db.close()


def _command(*words: str) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


def main() -> None:
    """Write the commands to standard output; or if there are two arguments, go the way back."""
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit(
            "usage: python -m chatbox.log.export PATH | redis-cli --pipe\n"
            "       python -m chatbox.log.export redis://HOST/DB PATH"
        )
    if len(sys.argv) == 3:
        from chatbox.log.fetch import run

        run(*sys.argv[1:])
    if not os.path.isfile(sys.argv[1]):  # SQLite would make it
        sys.exit(f"{sys.argv[1]}: there is no such file")
    try:
        for command in commands(sys.argv[1]):
            sys.stdout.buffer.write(command)
        sys.stdout.buffer.flush()
    except sqlite3.Error as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    except OSError as error:
        # Python must not try again when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(f"the output cannot be written: {error.strerror}")


if __name__ == "__main__":
    main()
