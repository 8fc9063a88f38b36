"""The downloads at the bottom of the window, each with its bar and its buttons."""

from __future__ import annotations

import tkinter as tk
from collections.abc import Callable
from tkinter import ttk

from chatbox.client.actions import Steering
from chatbox.client.files.transfers import Download
from chatbox.client.gui.downloads import Row, Rows
from chatbox.client.gui.theme import Theme

__all__ = ["Transfers"]


class Transfers(ttk.Frame):
    """A line for each download; nothing where there are none. `open_file` shows one."""

    def __init__(
        self, parent: tk.Misc, theme: Theme, rows: Rows, open_file: Callable[[str], None]
    ) -> None:
        super().__init__(parent)
        self._theme = theme
        self._open_file = open_file
        self._rows = rows
        self.lines: dict[int, _Line] = {}
        """By the identity of the download."""
        self.columnconfigure(0, weight=1)

    def show(self) -> None:
        """Draw what the rows say now."""
        downloads = self._rows.downloads
        wanted = {id(one) for one in downloads}
        for key in set(self.lines) - wanted:
            self.lines.pop(key).destroy()
        for number, download in enumerate(downloads):
            line = self.lines.get(id(download))
            if line is None:
                line = self.lines[id(download)] = _Line(
                    self, self._theme, self._rows, download, self._open_file
                )
            line.grid(row=number, column=0, sticky="ew", pady=(0, self._theme.px(6)))
            line.show(self._rows.row(download))
        if not downloads:
            self.configure(height=1)  # a frame keeps the height of what it had

    def proceed(self) -> None:
        """Let the first one that stands go on: what Alt-P does."""
        standing = [one for one in self._rows.downloads if self._rows.row(one).can_proceed]
        if standing:
            self._rows.steer(standing[0], Steering.PROCEED)


class _Line(ttk.Frame):
    def __init__(
        self,
        parent: tk.Misc,
        theme: Theme,
        rows: Rows,
        download: Download,
        open_file: Callable[[str], None],
    ) -> None:
        px = theme.px
        super().__init__(parent, style="Card.TFrame", padding=(px(12), px(7)))
        self._shown: Row | None = None
        self._gap = px(6)
        self.columnconfigure(1, weight=1)
        self.name = ttk.Label(self, style="SurfaceBold.TLabel")
        self.name.grid(row=0, column=0, sticky="w")
        self.text = ttk.Label(self, style="SurfaceDim.TLabel")
        self.text.grid(row=0, column=1, sticky="w", padx=px(12))
        self.bar = ttk.Progressbar(self, maximum=100)
        self.bar.grid(row=1, column=0, columnspan=2, sticky="ew", pady=(px(5), px(1)))

        def button(text: str, style: str, act: Callable[[], None]) -> ttk.Button:
            made = ttk.Button(self, text=text, style=f"{style}.TButton", command=act, underline=0)
            made.bind("<Return>", lambda _: made.invoke())
            return made

        def steer(steering: Steering) -> Callable[[], None]:
            return lambda: rows.steer(download, steering)

        self.proceed = button("Proceed", "CardSmallAccent", steer(Steering.PROCEED))
        self.pause = button("Pause", "CardSmall", steer(Steering.PAUSE))
        self.cancel = button("Cancel", "CardSmall", steer(Steering.CANCEL))
        self.open = button("Open", "CardSmall", lambda: open_file(rows.row(download).path))
        self.close = button("Close", "CardSmall", lambda: rows.dismiss(download))
        for one in (self.pause, self.cancel, self.open, self.close):
            one.configure(underline=-1)

    def show(self, row: Row) -> None:
        """Draw it."""
        if row == self._shown:
            return
        before, self._shown = self._shown, row
        colour = "Good." if row.is_complete else "Bad." if row.has_ended else ""
        self.name.configure(text=row.name)
        self.text.configure(
            text=row.text, style="SurfaceBold.TLabel" if row.is_asking else "SurfaceDim.TLabel"
        )
        self.bar.configure(value=row.percent, style=f"{colour}Horizontal.TProgressbar")
        buttons = {
            self.proceed: row.can_proceed,
            self.pause: row.can_pause,
            self.cancel: not row.has_ended,
            self.open: row.is_complete,
            self.close: row.has_ended,
        }
        if before is None or _buttons(before) != _buttons(row):
            column = 2
            for button, wanted in buttons.items():
                button.grid_forget()
                if wanted:
                    button.grid(row=0, column=column, rowspan=2, padx=(self._gap, 0))
                    column += 1


def _buttons(row: Row) -> tuple[bool, ...]:
    return row.can_proceed, row.can_pause, row.has_ended, row.is_complete
