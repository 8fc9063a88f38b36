"""The middle of the window: what was said, what waits for the server, what failed and why.

It takes entries a few at a time (`draw`), so that a thousand that come at once do not hold up the
keyboard. It keeps the end in view as long as the reader is there; a reader who has scrolled back
is left alone, and a button says that there is more below.
"""

from __future__ import annotations

import tkinter as tk
from collections import deque
from collections.abc import Callable
from tkinter import ttk
from typing import Final

from chatbox.client.gui.entries import Draft, Entry, Look
from chatbox.client.gui.palette import DARK, colour_of
from chatbox.client.gui.shown import MAX_SHOWN, Pending
from chatbox.client.gui.theme import Theme

__all__ = ["ENTRIES_A_FRAME", "Messages"]

ENTRIES_A_FRAME: Final = 40
"""Entries that are drawn at once: some three milliseconds of work (benchmarks/window.py)."""

TRIM: Final = 100
"""Entries that go at once when there are too many: to take one away costs almost as much."""


class Messages(ttk.Frame):
    """The scrollback. `retry` is called with the draft when a person wants to send it again."""

    def __init__(
        self,
        parent: tk.Misc,
        theme: Theme,
        retry: Callable[[Draft], None],
        ask_older: Callable[[], None],
    ) -> None:
        super().__init__(parent, style="Card.TFrame", padding=theme.px(3))
        self._theme = theme
        self._retry = retry
        self._ask_older = ask_older
        self._has_older = False
        self._drawn: deque[tuple[int, str]] = deque()
        """Of each entry, how many lines it has and its own tag, if any."""
        self._tags = 0
        self._failed: Draft | None = None
        """What was drawn last of what can be sent again."""
        px = theme.px
        self.text = tk.Text(
            self, wrap="word", state="disabled", relief="flat", borderwidth=0, width=20, height=6,
            highlightthickness=0, padx=px(14), pady=px(8), cursor="arrow", takefocus=True,
            insertwidth=0, font=theme.text,
        )  # fmt: skip
        bar = ttk.Scrollbar(self, orient="vertical", command=self.text.yview)
        self.text.grid(row=0, column=0, sticky="nsew")
        bar.grid(row=0, column=1, sticky="ns", pady=px(4))
        self.rowconfigure(0, weight=1)
        self.columnconfigure(0, weight=1)
        self.text.mark_set("tail", "end-1c")
        self.text.mark_gravity("tail", "right")
        self.text.bind("<Button-1>", lambda _: self.text.focus_set())
        self.text.bind("<Prior>", lambda _: self._scroll(-1))
        self.text.bind("<Next>", lambda _: self._scroll(1))
        self.text.bind("<End>", lambda _: self.show_end())
        self.text.bind("<Configure>", lambda _: self._keep_end())
        self.more = ttk.Button(
            self, text="New messages  ↓", style="CardSmallAccent.TButton", command=self.show_end,
            takefocus=False,
        )  # fmt: skip
        self.older = ttk.Button(
            self, text="Older messages  ↑", style="CardSmall.TButton", command=ask_older,
            takefocus=False,
        )  # fmt: skip
        self._follows_end = True
        self.text.configure(yscrollcommand=lambda *at: self._scrolled(bar, *at))
        theme.follow(self, self._restyle)

    def draw(self, entries: deque[Entry]) -> None:
        """Take some entries out and draw them; the rest is for the next time."""
        pieces: list[str | tuple[str, ...]] = []
        for _ in range(min(len(entries), ENTRIES_A_FRAME)):
            pieces += self._pieces(entries.popleft())
        if not pieces:
            return
        follows = self._follows_end
        self.text.configure(state="normal")
        first, tags, *rest = pieces
        self.text.insert("tail", first, tags, *rest)  # type: ignore[arg-type]  # it takes many
        self._name_key_once()
        self._trim()
        self.text.configure(state="disabled")
        if follows:
            self.show_end()
        else:
            self.more.place(relx=0.5, rely=1.0, y=-self._theme.px(10), anchor="s")

    def draw_older(self, entries: list[Entry], *, has_more: bool) -> None:
        """Draw these before all others, and offer more if there are any."""
        self._has_older = has_more
        pieces = [piece for entry in entries for piece in self._pieces(entry)]
        if pieces:
            self._drawn.extendleft([self._drawn.pop() for _ in entries])
            self.text.configure(state="normal")
            self.text.mark_set("read", "1.0")
            first, tags, *rest = pieces
            self.text.insert("1.0", first, tags, *rest)  # type: ignore[arg-type]  # it takes many
            self.text.configure(state="disabled")
            self.text.yview("read")  # what was at the top still is
        self._offer_older(float(self.text.yview()[0]))

    def draw_pending(self, pending: list[Pending]) -> None:
        """Draw what waits for the server, below all else."""
        follows = self._follows_end
        self.text.configure(state="normal")
        self.text.mark_gravity("tail", "left")
        self.text.delete("tail", "end-1c")
        for one in pending:
            to = f"to {one.to}, " if one.to else ""
            self.text.insert("end-1c", f"{one.text}\n", ("body", "pending"))
            self.text.insert("end-1c", f"{to}sending…\n", ("body", "pending", "small"))
        self.text.mark_gravity("tail", "right")
        self.text.configure(state="disabled")
        if follows and pending:
            self.show_end()

    def retry_last(self) -> None:
        """Send the last one that failed again: what Alt-G does."""
        if self._failed is not None:
            self._retry(self._failed)

    def show_end(self) -> None:
        """Scroll to the newest message."""
        self._follows_end = True
        self.text.see("end")
        self.more.place_forget()

    # How it works

    def _pieces(self, entry: Entry) -> list[str | tuple[str, ...]]:
        """The arguments that make Tk's text insert an entry: texts, each followed by its tags."""
        tag = ""
        pieces: list[str | tuple[str, ...]] = []
        ground = {Look.PRIVATE: ("private",), Look.FAILED: ("failed",)}.get(entry.look, ())
        if entry.look is Look.DAY:
            pieces = [f"{entry.text}\n", ("day",)]
        elif entry.look is Look.NOTICE:
            pieces = [f"{entry.text}\n", ("list" if "\n" in entry.text else "notice",)]
        else:
            if entry.look is Look.FAILED:
                pieces = [f"{entry.heading}\n", ("heading", "bad", *ground)]
            elif entry.heading:
                name = "own" if entry.mine else f"person{colour_of(entry.who)}"
                mark = ["private", ("label", *ground)] if entry.look is Look.PRIVATE else []
                pieces = [entry.heading, ("heading", name, *ground)]
                pieces += ["   ", ("heading", *ground), entry.at, ("heading", "small", *ground)]
                if mark:
                    pieces += ["   private", ("heading", "small", "label", *ground)]
                pieces += ["\n", ("heading", *ground)]
            pieces += [f"{entry.text}\n", ("body", *ground)]
            if entry.draft is not None:
                self._tags += 1
                tag = f"retry{self._tags}"
                self.text.tag_bind(tag, "<ButtonRelease-1>", self._retrier(entry.draft))
                self._failed = entry.draft
                pieces += ["Send again", ("body", "link", *ground, tag)]
                pieces += ["   Alt+G", ("body", "small", "key", *ground), "\n", ("body", *ground)]
        lines = sum(piece.count("\n") for piece in pieces[::2] if isinstance(piece, str))
        self._drawn.append((lines, tag))
        return pieces

    def _retrier(self, draft: Draft) -> Callable[[object], None]:
        return lambda _: self._retry(draft)

    def _offer_older(self, first: float) -> None:
        """At the top, and there only, is a button for what was before."""
        if self._has_older and first <= 0.0:
            self.older.place(relx=0.5, rely=0.0, y=self._theme.px(10), anchor="n")
        else:
            self.older.place_forget()

    def _name_key_once(self) -> None:
        """The key is for the last one that failed: take its name away from those before."""
        ranges = self.text.tag_ranges("key")
        for at in range(len(ranges) - 4, -1, -2):
            self.text.delete(ranges[at], ranges[at + 1])

    def _trim(self) -> None:
        """Let the oldest go where there are too many."""
        if len(self._drawn) < MAX_SHOWN + TRIM:
            return
        lines = 0
        while len(self._drawn) > MAX_SHOWN:
            count, tag = self._drawn.popleft()
            lines += count
            if tag:
                self.text.tag_delete(tag)
        self.text.delete("1.0", f"{lines + 1}.0")
        self._has_older = False  # it would not be what was just before

    def _scroll(self, pages: int) -> str:
        if pages < 0 and self._has_older and float(self.text.yview()[0]) <= 0.0:
            self._ask_older()
        self.text.yview_scroll(pages, "pages")
        return "break"

    def _scrolled(self, bar: ttk.Scrollbar, first: str, last: str) -> None:
        """Tk shows another part: whether the reader is at the end decides what follows."""
        bar.set(first, last)
        self._offer_older(float(first))
        self._follows_end = float(last) >= 1.0 or self.text.bbox("end-1c") is not None
        if self._follows_end:
            self.more.place_forget()

    def _keep_end(self) -> None:
        if self._follows_end:
            self.text.see("end")

    def _restyle(self) -> None:
        self._set_tags()
        if self._follows_end:
            # Tk says what it shows, with the lines as high as they were, before it asks how high.
            self.text.see("end")

    def _set_tags(self) -> None:
        text, theme, p = self.text, self._theme, self._theme.palette
        px = theme.px
        text.configure(
            background=p.surface, foreground=p.text, selectbackground=p.accent,
            selectforeground=p.on_accent, inactiveselectbackground=p.hover,
        )  # fmt: skip
        text.tag_configure("heading", font=theme.bold, spacing1=px(9), lmargin1=0)
        text.tag_configure("body", spacing1=px(2), spacing3=px(1), lmargin1=0, lmargin2=0)
        text.tag_configure("own", foreground=p.accent)
        for number in range(len(DARK.people)):
            text.tag_configure(f"person{number}", foreground=p.people[number])
        text.tag_configure("small", font=theme.small, foreground=p.dim)
        text.tag_configure("label", foreground=p.accent)
        text.tag_configure(
            "notice", font=theme.small, foreground=p.dim, justify="center", spacing1=px(6),
            spacing3=px(2), lmargin1=px(30), lmargin2=px(30), rmargin=px(30),
        )  # fmt: skip
        text.tag_configure(
            "list", font=theme.small, foreground=p.dim, spacing1=px(3), spacing3=px(2),
            lmargin1=px(30), lmargin2=px(60), rmargin=px(30),
        )  # fmt: skip
        text.tag_configure(
            "day", font=theme.bold, foreground=p.dim, justify="center", spacing1=px(14),
            spacing3=px(4),
        )  # fmt: skip
        text.tag_configure("pending", foreground=p.dim)
        text.tag_configure("bad", foreground=p.danger)
        text.tag_configure("link", foreground=p.accent, underline=True)
        text.tag_configure("private", background=p.private)
        text.tag_configure("failed", background=p.failed)
        text.tag_bind("link", "<Enter>", lambda _: text.configure(cursor="hand2"))
        text.tag_bind("link", "<Leave>", lambda _: text.configure(cursor="arrow"))
        text.tag_raise("sel")
