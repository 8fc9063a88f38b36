"""How everything looks: an event, a download, the status and the typed text become styled lines.

Plain functions over plain values. The sentences are those of `chatbox.client.words`, the same as in
a pipe; here they get their colours, and a mark where somebody is meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import tzinfo
from functools import lru_cache
from typing import Final

from chatbox.client import words
from chatbox.client.chat.events import (
    EVERYONE,
    Cut,
    Event,
    Failed,
    Gap,
    Garbled,
    Headcount,
    HistoryPage,
    JoinRefused,
    Kind,
    Lost,
    Presence,
    Request,
    Said,
    Succeeded,
)
from chatbox.client.files.transfers import Download, Stage
from chatbox.client.terminal.screen import Line, Span, line_of
from chatbox.client.terminal.style import Palette
from chatbox.client.width import clip, columns_of, graphemes, width

__all__ = [
    "FOR_YOU",
    "PROMPT",
    "candidate_row",
    "download_rows",
    "event_lines",
    "is_for",
    "status_row",
    "typed_rows",
]

PROMPT: Final = "> "
FOR_YOU: Final = "» "
"""Stands before a message that is for you alone or says your name."""

MAX_BAR: Final = 30
MIN_BAR: Final = 8
STATE_COLUMNS: Final = 30
"""What rate and time, or a reason, may take: set, so that the bar does not change its length with
every number."""


def is_for(said: Said, me: str) -> bool:
    """Whether somebody else says this to `me` alone, or says my name."""
    if said.sender == me:
        return False
    return said.recipient != EVERYONE or _pattern(me).search(said.text) is not None


@lru_cache(4)
def _pattern(name: str) -> re.Pattern[str]:
    """Finds `name` as a word, in either case."""
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)


def event_lines(
    event: Event, me: str, palette: Palette, *, now: float, zone: tzinfo | None = None
) -> list[Line]:
    """What `describe` says of an event, in colours."""
    match event:
        case Said():
            return _said(event, me, palette, zone)
        case Succeeded(request=Request(kind=Kind.SAY, recipient=to, text=text)):
            # Told only of what the server does not send back to us.
            told = words.describe(event, me, now=now, zone=zone)
            at = event.at if event.at is not None else int(now * 1000)
            return _said(Said(me, to, text, at=at), me, palette, zone) if told else []
        case HistoryPage(said=said) if said:
            head, *_ = words.describe(event, me, now=now, zone=zone)
            lines = [line for one in said for line in _said(one, me, palette, zone, day_of=now)]
            return [line_of(head), *lines]
        case Presence() | Headcount() | Cut(restarting=True):
            style = palette.news
        case Failed() | JoinRefused() | Garbled() | Lost() | Cut() | Gap():
            style = palette.trouble
        case _:
            style = ""
    return [line_of(text, style) for text in words.describe(event, me, now=now, zone=zone)]


def download_rows(downloads: Sequence[Download], columns: int, palette: Palette) -> list[Line]:
    """Downloads: name, bar, how far, how fast, how long still, or why it stands."""
    names = [clip(one.name, max(columns // 3, MIN_BAR)) for one in downloads]
    wide = max(map(width, names), default=0)
    return [
        _download_row(one, f"{name}{' ' * (wide - width(name))}", columns, palette)
        for one, name in zip(downloads, names, strict=True)
    ]


def status_row(parts: Sequence[str], columns: int, palette: Palette) -> Line:
    """The row between what is said and what is typed."""
    return line_of(clip(f" {' | '.join(parts)} ", columns), palette.status)


def candidate_row(candidates: Sequence[str], chosen: int, columns: int, palette: Palette) -> Line:
    """What Tab offers: the page that the chosen one is on, with a mark where others are."""
    page: list[Span] = []
    used = 0
    for index, candidate in enumerate(candidates):
        text = candidate.rstrip()
        wide = width(text) + 2
        if page and used + wide >= columns:
            if index > chosen:
                page.append(Span("…"))
                break
            page, used = [Span("… ")], 2
        page += [Span(text, palette.chosen if index == chosen else ""), Span("  ")]
        used += wide
    return _clipped(page, columns)


def typed_rows(
    prompt: str, text: str, cursor: int, columns: int, rows: int
) -> tuple[list[Line], tuple[int, int]]:
    """The text that is being typed, and the row and column of its cursor.

    At most so many rows, those around the cursor; the last column stays free for the cursor.
    """
    indent = " " * width(prompt)
    lines = [prompt]
    used = len(indent)
    place = 0
    at = None
    for grapheme in graphemes(text):
        wide = 0 if grapheme == "\n" else columns_of(grapheme)
        if used + wide >= columns:
            lines.append(indent)
            used = len(indent)
        if place >= cursor and at is None:
            at = (len(lines) - 1, used)
        if grapheme == "\n":
            lines.append(indent)
            used = len(indent)
        else:
            lines[-1] += grapheme
            used += wide
        place += len(grapheme)
    row, column = at or (len(lines) - 1, used)
    first = max(0, row - rows + 1)
    return [line_of(line) for line in lines[first : first + rows]], (row - first, column)


def _clipped(spans: Sequence[Span], columns: int) -> Line:
    """As much as fits into a row."""
    line: list[Span] = []
    for span in spans:
        text = clip(span.text, columns)
        columns -= width(text)
        line.append(Span(text, span.style))
        if text != span.text:
            break
    return tuple(line)


def _said(
    said: Said, me: str, palette: Palette, zone: tzinfo | None, *, day_of: float | None = None
) -> list[Line]:
    """A message, in the colour of whoever says it."""
    parts = words.spoken(said, me, zone, day_of=day_of)
    style = palette.me if said.sender == me else palette.person(said.sender)
    spans = [Span(f"{parts.time} ", palette.time)]
    if is_for(said, me):
        spans.append(Span(FOR_YOU, palette.private))
    if parts.private:
        spans.append(Span("(private) ", palette.private))
    spans += [Span(parts.who, style), Span(f": {parts.lines[0]}")]
    return [tuple(spans), *map(line_of, parts.lines[1:])]


def _download_row(download: Download, name: str, columns: int, palette: Palette) -> Line:
    progress = download.progress()
    if progress is None:
        return line_of(clip(f"{name}  waiting for the server", columns))
    done = f"{words.percent(progress):3} %"
    if download.stage is Stage.HALF_WAY:
        state = "half way: /proceed or /cancel"
    elif download.stage is Stage.PAUSED:
        state = "waits: /proceed or /cancel"
    elif progress.reason:
        state = progress.reason
    else:
        left = progress.time_left
        rate = words.rate_text(progress.rate)
        state = rate if left is None else f"{rate:>9}  {words.duration_text(left)} left"
    style = palette.chosen if download.stage in (Stage.HALF_WAY, Stage.PAUSED) else ""
    room = columns - width(name) - len(done) - STATE_COLUMNS - 8  # blanks and brackets
    spans = [Span(f"{name}  ")]
    if room >= MIN_BAR:
        bar = min(room, MAX_BAR)
        full = bar * progress.confirmed // progress.size if progress.size else bar
        spans.append(Span(f"[{'=' * full}{' ' * (bar - full)}]  "))
    spans += [Span(f"{done}  "), Span(state, style)]
    return _clipped(spans, columns)
