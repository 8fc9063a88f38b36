"""What the streams of a Redis log hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from chatbox.log import Entry, Kind, Record, gap

__all__ = [
    "END_OF_TIME",
    "PREFIX",
    "SEQUENCE_BITS",
    "entry_of",
    "floor_of",
    "holder_of",
    "id_of",
    "page_of",
    "place_of",
    "record_of",
    "records_of",
    "words_of",
]

PREFIX: Final = "chatbox:"
"""What the names of all keys begin with."""

SEQUENCE_BITS: Final = 20
"""A million places each millisecond, until the year 2248."""

END_OF_TIME: Final = 1 << (63 - SEQUENCE_BITS)
"""Milliseconds since the epoch that have no place any more: no field could hold it."""


def place_of(id: bytes) -> int:
    """Return the place that a stream's id, ``MILLISECONDS-NUMBER``, means.

    Raises ValueError if it is no id, or one of those for which there is no place.
    """
    at, _, number = id.partition(b"-")
    milliseconds, sequence = int(at), int(number or 0)
    if not (0 <= milliseconds < END_OF_TIME and 0 <= sequence < 1 << SEQUENCE_BITS):
        raise ValueError(f"there is no place for {id!r}")
    return (milliseconds << SEQUENCE_BITS) | sequence


def id_of(place: int) -> str:
    """Return the stream's id that a place means."""
    return f"{place >> SEQUENCE_BITS}-{place & ((1 << SEQUENCE_BITS) - 1)}"


def words_of(entry: Entry | Record) -> list[str]:
    """What the script is told of an entry; the last word is what the streams keep of it."""
    attempt = entry.attempt if isinstance(entry, Entry) else None
    data = [entry.sender, entry.recipient, entry.text, entry.readers, entry.identity]
    return [
        entry.kind.value,
        " ".join(dict.fromkeys(entry.readers)),  # who writes to themselves has one mailbox
        attempt.who if attempt else "",
        attempt.mark.hex() if attempt else "",
        attempt.via if attempt else "",
        json.dumps(data, ensure_ascii=False, separators=(",", ":")),
    ]


def entry_of(kind: Kind, data: bytes) -> Entry:
    """Return the entry that somebody has appended; see `words_of`.

    Raises ValueError if it makes no sense: others may write to this Redis, too.
    """
    sender, recipient, text, readers, identity = _read(data, list)
    if readers == {}:  # Lua has one kind of tables
        readers = []
    if not isinstance(readers, list):
        raise ValueError("these are no readers")
    _check_texts(sender, recipient, text, identity, *readers)
    return Entry(kind, sender, recipient, text, tuple(readers), identity=identity)


def holder_of(data: bytes) -> tuple[str, str, str]:
    """Return a name, the identity of who holds it, and the node. Raises ValueError as above."""
    holder = _read(data, dict)
    name, identity, node, proof = map(holder.get, ("name", "identity", "node", "proof"))
    _check_texts(name, identity, node, proof)
    return name, identity, node


def _read(data: bytes, kind: type) -> Any:
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("it is too deep") from None
    if not isinstance(found, kind):
        raise ValueError(f"this is no {kind.__name__}")
    return found


def _check_texts(*texts: object) -> None:
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is no text")
        text.encode()


def record_of(place: int, e: Entry, *, repeated: bool = False) -> Record:
    """Return the record of an entry at a place, whose time is Redis's."""
    at = place >> SEQUENCE_BITS
    return Record(
        place,
        *(at, e.kind, e.sender, e.recipient, e.text, e.readers, e.origin),
        repeated=repeated,
        identity=e.identity,
    )


def records_of(rows: Iterable[tuple[bytes, list[bytes]]] | None) -> Iterator[Record]:
    """Yield the records of rows of messages: a mark for one that makes no sense, nothing for one
    that has no place."""
    for id, fields in rows or ():
        with suppress(ValueError):
            yield _message(place_of(id), fields)


def _message(place: int, fields: list[bytes]) -> Record:
    if fields[0] != b"g":
        with suppress(ValueError):
            return record_of(place, entry_of(Kind.MESSAGE, fields[1]))
    return gap(place)


def floor_of(id: bytes) -> int:
    """Return the place that an id means; 0 if it means none."""
    try:
        return place_of(id)
    except ValueError:
        return 0


def page_of(replies: list[Any], after: int | None, count: int, newest: int) -> list[Record]:
    """Put together what the streams have, and say if something is missing up to the place `newest`.

    There is more to come behind that place for whoever asks; a mark beyond it would hide it.
    What everybody may read and the letters begin at places of their own, so what is left of the
    ones may come before the mark of the others. What was found is never fewer than what is there:
    whoever gets as many as they asked for goes on behind them.
    """
    *streams, has_mail, (gone, last), start = replies
    found = [one for rows in streams for one in records_of(rows)]
    if after is None:
        found.sort(key=lambda record: record.id)
        return found[-count:] if count else []
    floors = floor_of(start or b"0-1") - 1, floor_of((gone if has_mail else last) or b"0-0")
    marks = [gap(min(floor, newest)) for floor in floors if 0 < after < min(floor, newest)]
    page: list[Record] = []
    for record in sorted(found + marks, key=lambda record: record.id):
        if page and page[-1] in marks and record.kind is Kind.GAP:
            page.pop()  # this one says it all
        page.append(record)
    return page[:count]
