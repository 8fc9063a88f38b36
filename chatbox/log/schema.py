"""The tables of a SQLite log, their versions, and every statement that is run on them.

``message`` has what everybody may read and ``letter`` what only its readers may; ``mailbox``
lists the letters of each reader. So history is two short walks along an index, whoever asks and
however many letters others write. Places (``id``) are common to both. ``who`` and ``mark`` are the
attempt that a row comes from, if it has one. ``state`` has one row: the places up to ``reserved``
may have been given out, ``kept`` rows are there up to the place ``counted``, messages up to
``floor`` may have been forgotten.

A commit costs what it writes, a page of each table and a step of each statement; most are a few
messages for everybody. So all that a message needs is in its own row: such a commit is one
statement and one page, or three when a new page begins. What can be found out at the start, the
rows after ``counted`` and the attempts, is not written for each message.

Python's sqlite3 releases the interpreter's lock around every step of a statement and waits to have
it back, 5 ms and more if another thread computes. So a statement here does its work in one step: an
insertion takes many rows at once, and history comes as one JSON text a column. Row by row, 1000
rows of history took seconds beside a busy reactor.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

from chatbox.errors import LocalError

__all__ = [
    "ATTEMPTS",
    "CHECKPOINT",
    "COUNT",
    "FORGET",
    "HISTORY_AFTER",
    "HISTORY_LAST",
    "MIGRATIONS",
    "OLDEST",
    "REVOKE",
    "STATE",
    "Statement",
    "insertions",
    "migrate",
]

APPLICATION_ID: Final = 0x63686174
"""Marks the file as ours ("chat"), for `file` and for `migrate`."""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE message (
            id INTEGER PRIMARY KEY, at INTEGER NOT NULL,
            sender TEXT NOT NULL, recipient TEXT NOT NULL, text TEXT NOT NULL)""",
        """CREATE TABLE letter (
            id INTEGER PRIMARY KEY, at INTEGER NOT NULL,
            sender TEXT NOT NULL, recipient TEXT NOT NULL, text TEXT NOT NULL,
            readers TEXT NOT NULL)""",
        """CREATE TABLE mailbox (
            reader TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (reader, id)) WITHOUT ROWID""",
        """CREATE TABLE attempt (
            slot INTEGER PRIMARY KEY,
            id INTEGER NOT NULL, who TEXT NOT NULL, mark BLOB NOT NULL)""",
        """CREATE TABLE state (
            one INTEGER PRIMARY KEY CHECK (one = 1), reserved INTEGER NOT NULL,
            kept INTEGER NOT NULL, floor INTEGER NOT NULL)""",
        "INSERT INTO state VALUES (1, 0, 0, 0)",
    ),
    (
        "ALTER TABLE message ADD COLUMN who TEXT",
        "ALTER TABLE message ADD COLUMN mark BLOB",
        "ALTER TABLE letter ADD COLUMN who TEXT",
        "ALTER TABLE letter ADD COLUMN mark BLOB",
        *(
            f"""UPDATE {table} SET (who, mark) = (
                SELECT who, mark FROM attempt WHERE slot = {table}.id % 65536)
            WHERE id IN (SELECT id FROM attempt)"""
            for table in ("message", "letter")
        ),
        "DROP TABLE attempt",
        "ALTER TABLE state ADD COLUMN counted INTEGER NOT NULL DEFAULT 0",
        "UPDATE state SET counted = reserved",
    ),
)
"""What leads from each version of the schema to the next; a new file has version 0."""

ATTEMPTS: Final = """
    SELECT id, at, who, mark FROM (
        SELECT * FROM (SELECT id, at, who, mark FROM message ORDER BY id DESC LIMIT :most)
        UNION ALL
        SELECT * FROM (SELECT id, at, who, mark FROM letter ORDER BY id DESC LIMIT :most)
        ORDER BY id DESC LIMIT :most)
    WHERE mark NOT NULL ORDER BY id
"""
"""The attempts among the newest rows, the oldest first."""

COUNT: Final = """
    SELECT reserved, kept + (SELECT count(*) FROM message WHERE id > counted)
                          + (SELECT count(*) FROM letter WHERE id > counted) FROM state
"""
"""The places that may have been given out, and the number of rows."""

CHECKPOINT: Final = "PRAGMA wal_checkpoint(PASSIVE)"
"""Copies what nobody stands in the way of, and waits for nobody."""

STATE: Final = "UPDATE state SET reserved = ?, kept = ?, counted = ?"

# CROSS JOIN keeps SQLite from turning the two round.
_FOUND: Final = """
    SELECT (SELECT floor FROM state),
           json_group_array(id), json_group_array(at), json_group_array(sender),
           json_group_array(recipient), json_group_array(text), json_group_array(json(readers))
    FROM (
        SELECT * FROM (
            SELECT id, at, sender, recipient, text, NULL AS readers FROM message
            {where_message} ORDER BY id {order} LIMIT :count)
        UNION ALL
        SELECT * FROM (
            SELECT l.id, l.at, l.sender, l.recipient, l.text, l.readers
            FROM mailbox AS m CROSS JOIN letter AS l ON l.id = m.id
            WHERE m.reader = :reader {and_mailbox} ORDER BY m.id {order} LIMIT :count)
        ORDER BY id {order} LIMIT :count)
"""

HISTORY_AFTER: Final = _FOUND.format(
    where_message="WHERE id > :after AND id < :before",
    and_mailbox="AND m.id > :after AND m.id < :before",
    order="",
)
HISTORY_LAST: Final = _FOUND.format(
    where_message="WHERE id < :before", and_mailbox="AND m.id < :before", order="DESC"
)

OLDEST: Final = """
    SELECT max(id), count(*) FROM (
        SELECT id, at FROM (SELECT id, at FROM message ORDER BY id LIMIT :most)
        UNION ALL
        SELECT id, at FROM (SELECT id, at FROM letter ORDER BY id LIMIT :most)
        ORDER BY id LIMIT :most)
    WHERE at < :before
"""
"""The last place, and the number, of the oldest rows that are older than a time."""


def _removal(which: str) -> tuple[str, ...]:
    return (
        f"""DELETE FROM mailbox WHERE (reader, id) IN (
            SELECT r.value, letter.id FROM letter, json_each(letter.readers) AS r
            WHERE letter.id {which})""",
        f"DELETE FROM letter WHERE id {which}",
        f"DELETE FROM message WHERE id {which}",
    )


FORGET: Final = (*_removal("<= :to"), "UPDATE state SET floor = :to")
"""Statements that remove the rows up to a place."""

REVOKE: Final = (
    """UPDATE state SET kept = kept - (SELECT count(*) FROM message WHERE id > :after)
                                  - (SELECT count(*) FROM letter WHERE id > :after)
    WHERE counted > :after""",
    *_removal("> :after"),
    "UPDATE state SET reserved = :reserved",
)
"""Statements that remove the rows after a place, as if they had never been there. They may be in
the WAL without being seen, so something must change in any case: it is written over them."""

Statement = tuple[str, "Sequence[Any] | dict[str, Any]"]
"""A text of SQL and its values."""

_COLUMNS: Final = {"message": 7, "letter": 8, "mailbox": 2}

_MOST_VALUES: Final = 999
"""Values in one statement: old libraries take no more."""

_FEW_ROWS: Final = 16
"""Up to so many rows go in one statement. More go in as few as there are powers of two in their
number, so that few texts of SQL, which SQLite must know how to run, serve all numbers of rows."""


def insertions(table: str, values: Sequence[object]) -> Iterator[Statement]:
    """Yield what inserts rows, all their values in one list, into a table; many in one step."""
    columns = _COLUMNS[table]
    start = 0
    while rest := len(values) - start:
        rows = min(rest, _MOST_VALUES) // columns
        if rows > _FEW_ROWS:
            rows = 1 << rows.bit_length() - 1
        end = start + rows * columns
        yield _insertion(table, columns, rows), values[start:end]
        start = end


@cache
def _insertion(table: str, columns: int, rows: int) -> str:
    row = "(" + ",".join("?" * columns) + ")"
    return f"INSERT INTO {table} VALUES " + ",".join([row] * rows)


def migrate(db: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring a file to the newest version. Raises LocalError if it is not ours, or too new."""
    [version] = db.execute("PRAGMA user_version").fetchone()
    [application] = db.execute("PRAGMA application_id").fetchone()
    [tables] = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (tables or version):
        raise LocalError("This is a database of another program")
    if version > len(migrations):
        raise LocalError(
            f"A newer chatbox has made this log: its version is {version}, "
            f"and this chatbox knows versions up to {len(migrations)}"
        )
    for number, steps in enumerate(migrations[version:], version + 1):
        db.execute("BEGIN IMMEDIATE")
        try:
            for step in steps:
                db.execute(step)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {number}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise
