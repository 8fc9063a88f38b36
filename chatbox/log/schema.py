"""The tables of a SQLite log, their versions, and every statement that is run on them.

``message`` has what everybody may read and ``letter`` what only its readers may; ``mailbox``
lists the letters of each reader. So history is two short walks along an index, whoever asks and
however many letters others write. Places (``id``) are common to both. ``attempt`` is a ring: a new
row takes the slot of an old one. ``state`` has one row: the places up to ``reserved`` may have been
given out, ``kept`` rows are there, messages up to ``floor`` may have been forgotten.

Python's sqlite3 releases the interpreter's lock around every step of a statement and waits to have
it back, 5 ms and more if another thread computes. So a statement here does its work in one step: an
insertion takes many rows at once, and history comes as one JSON text a column. Row by row, 1000
rows of history took seconds beside a busy reactor.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

from chatbox.errors import LocalError

__all__ = [
    "ATTEMPTS",
    "ATTEMPT_SLOTS",
    "FORGET",
    "HISTORY_AFTER",
    "HISTORY_LAST",
    "MIGRATIONS",
    "OLDEST",
    "insert",
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
)
"""What leads from each version of the schema to the next; a new file has version 0."""

ATTEMPT_SLOTS: Final = 1 << 16
"""Messages of which the file remembers who tried to say them: what a start reads, in some 0.1 s."""

ATTEMPTS: Final = """
    SELECT a.id, who, mark, coalesce(m.at, l.at, 0) FROM attempt AS a
    LEFT JOIN message AS m ON m.id = a.id LEFT JOIN letter AS l ON l.id = a.id ORDER BY a.id
"""

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
    where_message="WHERE id > :after", and_mailbox="AND m.id > :after", order=""
)
HISTORY_LAST: Final = _FOUND.format(where_message="", and_mailbox="", order="DESC")

OLDEST: Final = """
    SELECT max(id), count(*) FROM (
        SELECT id, at FROM (SELECT id, at FROM message ORDER BY id LIMIT :most)
        UNION ALL
        SELECT id, at FROM (SELECT id, at FROM letter ORDER BY id LIMIT :most)
        ORDER BY id LIMIT :most)
    WHERE at < :before
"""
"""The last place, and the number, of the oldest rows that are older than a time."""

FORGET: Final = (
    """DELETE FROM mailbox WHERE (reader, id) IN (
        SELECT r.value, letter.id FROM letter, json_each(letter.readers) AS r
        WHERE letter.id <= :to)""",
    "DELETE FROM letter WHERE id <= :to",
    "DELETE FROM message WHERE id <= :to",
    "UPDATE state SET floor = :to",
)
"""Statements that remove the rows up to a place."""

_COLUMNS: Final = {"message": 5, "letter": 6, "mailbox": 2, "attempt": 4}

_MOST_ROWS: Final = 128
"""Rows in one statement: at 6 values each, under the limit of 999 that old libraries have. Smaller
statements have half as many each, so that few texts of SQL serve all numbers of rows."""

_INSERT: Final = {
    (table, 1 << power): f"{'REPLACE' if table == 'attempt' else 'INSERT'} INTO {table} VALUES "
    + ",".join(["(" + ",".join("?" * columns) + ")"] * (1 << power))
    for table, columns in _COLUMNS.items()
    for power in range(_MOST_ROWS.bit_length())
}


def insert(db: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows into a table, many in one step."""
    start = 0
    for size in _sizes(len(rows)):
        values = [value for row in rows[start : start + size] for value in row]
        db.execute(_INSERT[table, size], values)
        start += size


def _sizes(count: int) -> Iterator[int]:
    size = _MOST_ROWS
    while count:
        while size > count:
            size >>= 1
        yield size
        count -= size


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
