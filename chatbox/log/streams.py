"""What the streams of a Redis log hold."""

from __future__ import annotations

import json
from typing import Any, Final

from chatbox.log import Entry, Kind, Record, gap

__all__ = [
    "entry_of",
    "id_of",
    "page_of",
    "place_of",
    "record_of",
    "words_of",
]

_SEQUENCE_BITS: Final = 20
"""A million places each millisecond, until the year 2248."""


def place_of(id: bytes) -> int:
    """Return the place that a stream's id, ``MILLISECONDS-NUMBER``, means."""
    at, _, number = id.partition(b"-")
    return (int(at) << _SEQUENCE_BITS) | int(number or 0)


def id_of(place: int) -> str:
    """Return the stream's id that a place means."""
    return f"{place >> _SEQUENCE_BITS}-{place & ((1 << _SEQUENCE_BITS) - 1)}"


def words_of(entry: Entry | Record) -> list[str]:
    """What the script is told of an entry; the last word is what the streams keep of it."""
    attempt = entry.attempt if isinstance(entry, Entry) else None
    data = [entry.sender, entry.recipient, entry.text, entry.readers, entry.identity]
    return [
        entry.kind.value,
        " ".join(entry.readers),
        attempt.who if attempt else "",
        attempt.mark.hex() if attempt else "",
        attempt.via if attempt else "",
        json.dumps(data, ensure_ascii=False, separators=(",", ":")),
    ]


def entry_of(kind: Kind, data: bytes) -> Entry:
    """Return the entry that somebody has appended; see `words_of`."""
    sender, recipient, text, readers, identity = json.loads(data)
    return Entry(kind, sender, recipient, text, tuple(readers), identity=identity)


def record_of(place: int, e: Entry, *, repeated: bool = False) -> Record:
    """Return the record of an entry at a place, whose time is Redis's."""
    at = place >> _SEQUENCE_BITS
    return Record(
        place,
        *(at, e.kind, e.sender, e.recipient, e.text, e.readers, e.origin),
        repeated=repeated,
        identity=e.identity,
    )


def _kept(id: bytes, fields: list[bytes]) -> Record:
    place = place_of(id)
    return gap(place) if fields[0] == b"g" else record_of(place, entry_of(Kind.MESSAGE, fields[1]))


def page_of(replies: list[Any], after: int | None, count: int) -> list[Record]:
    """Put together what the streams have, and say if something is missing.

    What everybody may read and the letters begin at places of their own, so what is left of the
    ones may come before the mark of the others. Of marks that stand together the last says it all.
    """
    *streams, has_mail, (gone, last), start = replies
    found = [_kept(id, fields) for rows in streams for id, fields in rows or ()]
    if after is None:
        found.sort(key=lambda record: record.id)
        return found[-count:] if count else []
    floors = (place_of(start or b"0-1") - 1, place_of((gone if has_mail else last) or b"0-0"))
    found += [gap(floor) for floor in floors if 0 < after < floor]
    page: list[Record] = []
    for record in sorted(found, key=lambda record: record.id):
        if page and page[-1].kind is record.kind is Kind.GAP:
            page.pop()
        page.append(record)
    return page[:count]
