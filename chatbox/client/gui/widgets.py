"""Small widgets that several parts of the window use."""

from __future__ import annotations

import math
import tkinter as tk
from collections.abc import Callable, Hashable, Sequence
from tkinter import ttk
from tkinter.font import Font
from typing import Any, Final, TypeVar

from chatbox.client.gui.edits import edits
from chatbox.client.gui.theme import Theme

__all__ = ["Field", "FittingLabel", "ScrolledList", "add_mnemonic", "bind_while", "select_all"]

MODIFIERS: Final = 0x4 | 0x8
"""Control and Alt in the state of a key event."""


def add_mnemonic(widget: ttk.Button | ttk.Label, target: tk.Misc | None) -> None:
    """Let Alt with the underlined letter of `widget` press it, or go to `target`."""
    at = int(str(widget.cget("underline")))
    letter = str(widget.cget("text"))[at].lower()

    def act(_: object) -> str:
        if isinstance(target, ttk.Entry):
            select_all(target)
        elif target is not None:
            target.focus_set()
        elif isinstance(widget, ttk.Button) and widget.winfo_viewable():
            widget.invoke()
        return "break"

    bind_while(widget, f"<Alt-{letter}>", act)


def bind_while(widget: tk.Misc, sequence: str, act: Callable[[object], object]) -> None:
    """Let a key do something in the whole window, as long as `widget` is there."""
    top = widget.winfo_toplevel()
    bound = top.bind(sequence, act)

    def unbind(event: tk.Event[tk.Misc]) -> None:
        if event.widget is not widget:
            return
        if bound in top.bind(sequence):
            top.unbind(sequence, bound)
        else:  # it is another's already
            top.deletecommand(bound)

    widget.bind("<Destroy>", unbind, add=True)


def select_all(entry: ttk.Entry) -> None:
    """Go to a field as with the Tab key: all that is in it is selected."""
    entry.focus_set()
    entry.selection_range(0, "end")
    entry.icursor("end")


class FittingLabel(ttk.Label):
    """A label that has shorter words for where there is no room; give it all of its cell."""

    def __init__(self, parent: tk.Misc, font: Font, **options: Any) -> None:
        super().__init__(parent, **options)
        self._font = font
        self._texts: Sequence[str] = ("",)
        self.bind("<Configure>", lambda _: self._fit())

    def say(self, *texts: str) -> None:
        """Show the first of these that there is room for, or the last."""
        self._texts = texts
        self._fit()

    def _fit(self) -> None:
        width = self.winfo_width()
        room = width if width > 1 else math.inf  # it is 1 until there is a place for it
        fitting = (text for text in self._texts if self._font.measure(text) < room)
        self.configure(text=next(fitting, self._texts[-1]))


Shown = TypeVar("Shown", bound=Hashable)


class ScrolledList(ttk.Frame):
    """A list with a scrollbar. Enter, or a double click, chooses a row by its place."""

    def __init__(
        self,
        parent: tk.Misc,
        theme: Theme,
        *,
        columns: int,
        height: int,
        chosen: Callable[[int], None],
        picked: Callable[[int], None] = lambda _: None,
        width: float = 78,
    ) -> None:
        """All columns but the first are so wide, before letters are made larger."""
        super().__init__(parent, style="Card.TFrame", padding=theme.px(3))
        self._theme = theme
        self._width = width
        self._shown: list[Hashable] = []
        self._ids: list[str] = []
        """What Tk calls each row."""
        names = [f"c{number}" for number in range(1, columns)]
        self.tree = ttk.Treeview(
            self, columns=names, show="tree", selectmode="browse", height=height, takefocus=True
        )
        # It gets what the others leave: Tk lets columns grow to the width of a list, but not shrink
        # to that of one that was never as wide as they are.
        self.tree.column("#0", width=theme.px(60), minwidth=theme.px(60), stretch=True)
        for name in names:
            self.tree.column(name, stretch=False, anchor="e")
        bar = ttk.Scrollbar(self, orient="vertical", command=self.tree.yview)
        self.tree.configure(yscrollcommand=bar.set)
        self.tree.grid(row=0, column=0, sticky="nsew", padx=theme.px(3), pady=theme.px(3))
        bar.grid(row=0, column=1, sticky="ns", pady=theme.px(4))
        self.rowconfigure(0, weight=1)
        self.columnconfigure(0, weight=1)
        self._chosen = chosen
        self._picked = picked
        self.tree.bind("<Double-Button-1>", self._click)
        self.tree.bind("<Return>", lambda _: self._choose())
        self.tree.bind("<<TreeviewSelect>>", lambda _: self._pick())
        for key in ("<Up>", "<Down>"):
            self.tree.bind(key, lambda _: self._begin())
        self.tree.bind("<FocusIn>", lambda _: self.state(["focus"]))
        self.tree.bind("<FocusOut>", lambda _: self.state(["!focus"]))
        theme.follow(self, self._restyle)

    def show(
        self, things: Sequence[Shown], row: Callable[[Shown], tuple[tuple[str, ...], str]]
    ) -> None:
        """Show these things. Only of those that are new it is asked how their `row` looks: the
        columns, and whose colour it has (blank: as all text)."""
        selected = self.selected
        for at, gone, come in edits(self._shown, things):
            self.tree.delete(*self._ids[at : at + gone])
            ids = []
            # The last one first: Tk counts rows from the top to find the place for one.
            for thing in reversed(things[at : at + come]):
                (first, *others), tag = row(thing)
                ids.append(self.tree.insert("", at, text=first, values=others, tags=(tag,)))
            self._ids[at : at + gone] = reversed(ids)
        self._shown = list(things)
        if selected is not None and self.selected is None and selected < len(things):
            self.tree.selection_set(self._ids[selected])
            self.tree.focus(self._ids[selected])

    @property
    def selected(self) -> int | None:
        """The place of the selected row."""
        selection = self.tree.selection()
        return self._ids.index(selection[0]) if selection else None

    def _click(self, event: tk.Event[tk.Misc]) -> None:
        row = self.tree.identify_row(event.y)
        if row:
            self._chosen(self._ids.index(row))

    def _choose(self) -> None:
        if self.selected is not None:
            self._chosen(self.selected)

    def _pick(self) -> None:
        if self.selected is not None:
            self._picked(self.selected)

    def _begin(self) -> str | None:
        """An arrow key selects the first row where none is: by itself it goes on from one."""
        if self.selected is not None or not self._ids:
            return None
        self.tree.selection_set(self._ids[0])
        self.tree.focus(self._ids[0])
        self.tree.see(self._ids[0])
        return "break"

    def _restyle(self) -> None:
        for name in self.tree.cget("columns"):
            self.tree.column(name, width=self._theme.grown(self._width))
        self.tree.tag_configure("own", foreground=self._theme.palette.accent)
        for number, colour in enumerate(self._theme.palette.people):
            self.tree.tag_configure(f"person{number}", foreground=colour)


class Field(ttk.Frame):
    """Where a message is written: Enter sends, Shift-Enter begins a line, Up brings drafts back."""

    MAX_LINES: Final = 6
    MAX_DRAFTS: Final = 50

    def __init__(self, parent: tk.Misc, theme: Theme, send: Callable[[], None]) -> None:
        super().__init__(parent, style="Field.TFrame", padding=theme.px(2))
        self._theme = theme
        self._send = send
        self._drafts: list[str] = []
        self._at = 0
        self.text = tk.Text(
            self, height=1, width=10, wrap="word", relief="flat", borderwidth=0, undo=True,
            highlightthickness=0, padx=theme.px(7), pady=theme.px(5), font=theme.text,
        )  # fmt: skip
        self.text.pack(fill="both", expand=True, padx=theme.px(2), pady=theme.px(1))
        self.text.bind("<Return>", self._enter)
        self.text.bind("<KP_Enter>", self._enter)
        self.text.bind("<Up>", lambda event: self._recall(event, -1))
        self.text.bind("<Down>", lambda event: self._recall(event, 1))
        self.text.bind("<Tab>", lambda event: self._leave(event, forward=True))
        self.text.bind("<Shift-Tab>", lambda event: self._leave(event, forward=False))
        self.text.bind("<ISO_Left_Tab>", lambda event: self._leave(event, forward=False))
        self.text.bind("<<Modified>>", lambda _: self._fit())
        self.text.bind("<Configure>", lambda _: self._fit())
        self.text.bind("<FocusIn>", lambda _: self.state(["focus"]))
        self.text.bind("<FocusOut>", lambda _: self.state(["!focus"]))
        theme.follow(self, self._restyle)

    @property
    def content(self) -> str:
        """What is written."""
        return self.text.get("1.0", "end-1c")

    def set(self, text: str) -> None:
        """Write something else."""
        self.text.delete("1.0", "end")
        self.text.insert("1.0", text)
        self.text.see("insert")

    def remember(self) -> None:
        """What is written has been sent: clear the field; Up brings it back."""
        if self.content.strip() and self._drafts[-1:] != [self.content]:
            self._drafts = [*self._drafts, self.content][-self.MAX_DRAFTS :]
        self._at = len(self._drafts)
        self.set("")

    def _enter(self, event: tk.Event[tk.Misc]) -> str | None:
        if int(event.state) & 0x1:  # with Shift it is a new line
            return None
        self._send()
        return "break"

    def _recall(self, event: tk.Event[tk.Misc], step: int) -> str | None:
        """Bring an earlier message back, if the cursor has nowhere else to go."""
        line = int(self.text.index("insert").split(".")[0])
        edge = 1 if step < 0 else int(self.text.index("end-1c").split(".")[0])
        at = self._at + step
        if line != edge or int(event.state) & MODIFIERS or not 0 <= at <= len(self._drafts):
            return None
        self._at = at
        self.set(self._drafts[at] if at < len(self._drafts) else "")
        return "break"

    def _leave(self, event: tk.Event[tk.Misc], *, forward: bool) -> str:
        widget = self.text.tk_focusNext() if forward else self.text.tk_focusPrev()
        if widget is not None:
            widget.focus_set()
        return "break"

    def _fit(self) -> None:
        """Be as high as what is written."""
        self.text.edit_modified(False)
        # Python 3.13 gives a number, those before it a tuple.
        counted: Any = self.text.count("1.0", "end", "displaylines")
        lines = counted[0] if isinstance(counted, tuple) else counted
        height = min(max(lines or 1, 1), self.MAX_LINES)
        if height != int(str(self.text.cget("height"))):
            self.text.configure(height=height)

    def _restyle(self) -> None:
        p = self._theme.palette
        self.text.configure(
            background=p.surface, foreground=p.text, insertbackground=p.text,
            selectbackground=p.accent, selectforeground=p.on_accent,
        )  # fmt: skip
