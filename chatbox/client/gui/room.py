"""The window while one is in a room: messages, who is online, the server's files."""

from __future__ import annotations

import tkinter as tk
from collections.abc import Callable
from tkinter import ttk
from typing import Final

from chatbox.client.chat.events import Listed
from chatbox.client.gui.entries import Draft
from chatbox.client.gui.messages import Messages
from chatbox.client.gui.model import Room
from chatbox.client.gui.palette import colour_of
from chatbox.client.gui.shown import Link, Part
from chatbox.client.gui.theme import Theme
from chatbox.client.gui.widgets import (
    Field,
    FittingLabel,
    ScrolledList,
    add_mnemonic,
    bind_while,
    select_all,
)
from chatbox.client.words import size_text
from chatbox.text import printable

__all__ = ["RoomView"]

_MORE: Final = "…"

_LINK_STYLES: Final = {
    Link.CONNECTED: "Good.TLabel",
    Link.RECONNECTING: "Warning.TLabel",
    Link.LEAVING: "Dim.TLabel",
    Link.LOST: "Bad.TLabel",
}


class RoomView(ttk.Frame):
    """What a `Room` shows. `choose_path(suggestion, take)` lets a person choose where to save."""

    def __init__(
        self,
        parent: tk.Misc,
        theme: Theme,
        room: Room,
        *,
        place: str,
        log_in_again: Callable[[], None],
        choose_path: Callable[[str, Callable[[str], None]], None],
    ) -> None:
        super().__init__(parent, padding=theme.px(12))
        self.room = room
        self._shown = room.shown
        self._theme = theme
        self._place = place
        self._log_in_again = log_in_again
        self._choose_path = choose_path
        self._make_header()
        panes = ttk.Panedwindow(self, orient="horizontal")
        panes.grid(row=1, column=0, sticky="nsew", pady=(theme.px(10), 0))
        self.columnconfigure(0, weight=1)
        self.rowconfigure(1, weight=1)
        panes.add(self._make_talk(panes), weight=3)
        panes.add(self._make_side(panes), weight=1)
        self.show(~Part.NOTHING)

    def show(self, changed: Part) -> bool:
        """Draw what has changed. True if there is more to draw in the next frame."""
        shown = self._shown
        if Part.LINK in changed:
            self._show_link()
        if Part.ONLINE in changed:
            self._show_online()
        if Part.FILES in changed:
            self._show_files()
        if Part.OLDER in changed:
            older, shown.older = shown.older, []
            self.messages.draw_older(older, has_more=self.room.has_older)
        if Part.MESSAGES in changed:
            self.messages.draw(shown.entries)
        if Part.PENDING in changed:
            self.messages.draw_pending(shown.pending)
        return bool(shown.entries)

    # The parts

    def _make_header(self) -> None:
        px = self._theme.px
        header = self._header = ttk.Frame(self)
        header.grid(row=0, column=0, sticky="ew")
        header.bind("<Configure>", lambda _: self._fit_who())
        header.columnconfigure(2, weight=1)
        self._dot = ttk.Label(header, text="●")
        self._dot.grid(row=0, column=0, padx=(px(2), px(8)))
        self.who = ttk.Label(header, style="Bold.TLabel")
        self.who.grid(row=0, column=1)
        self.state_label = ttk.Label(header)
        self.state_label.grid(row=0, column=2, sticky="w", padx=px(12))
        self.update_button = self._button(
            header, "Update screen", 0, self.room.refresh, style="Flat.TButton"
        )
        self.update_button.grid(row=0, column=3, padx=px(4))
        self.logout_button = self._button(header, "Logout", 0, self._logout)
        self.logout_button.grid(row=0, column=4)
        bind_while(self, "<F5>", lambda _: self.room.refresh())
        bind_while(self, "<Alt-g>", lambda _: self.messages.retry_last())

    def _make_talk(self, parent: tk.Misc) -> ttk.Frame:
        px = self._theme.px
        frame = ttk.Frame(parent)
        frame.columnconfigure(0, weight=1)
        frame.rowconfigure(0, weight=1)
        self.messages = Messages(frame, self._theme, self._retry, self.room.show_older)
        self.messages.grid(row=0, column=0, columnspan=3, sticky="nsew")
        bottom = ttk.Frame(frame)
        bottom.grid(row=1, column=0, sticky="ew", pady=(px(10), 0))
        # With large letters in a small window it is the list of people that gives way.
        bottom.columnconfigure(0, weight=1)
        bottom.columnconfigure(1, weight=50, minsize=px(150))
        self.to_box = ttk.Combobox(
            bottom, width=18, font=self._theme.text, postcommand=self._offer_people
        )
        self.to_label = FittingLabel(
            bottom, self._theme.small, style="Small.TLabel", underline=5, text="Send to"
        )
        self.to_label.say("Send to (blank = everyone)", "Send to")
        add_mnemonic(self.to_label, self.to_box)
        self.to_label.grid(row=0, column=0, sticky="ew")
        self.to_box.grid(row=1, column=0, sticky="new", padx=(0, px(8)), pady=(px(3), 0))
        self.field = Field(bottom, self._theme, self._send)
        self._label(bottom, "Message", 0, self.field.text).grid(row=0, column=1, sticky="w")
        self.field.grid(row=1, column=1, sticky="ew", pady=(px(3), 0))
        self.send_button = self._button(bottom, "Send", 0, self._send, style="Accent.TButton")
        self.send_button.grid(row=1, column=2, sticky="ne", padx=(px(8), 0), pady=(px(3), 0))
        self.to_box.bind("<Return>", lambda _: self.field.text.focus_set())
        self.to_box.bind("<<ComboboxSelected>>", lambda _: self.field.text.focus_set())
        self.field.text.bind("<Escape>", lambda _: self.to_box.set(""))
        self._theme.follow(self.to_box, lambda: self._theme.style_popdown(self.to_box))
        return frame

    def _make_side(self, parent: tk.Misc) -> ttk.Frame:
        px = self._theme.px
        side = ttk.Frame(parent, padding=(px(4), 0, 0, 0))
        side.columnconfigure(0, weight=1)
        side.rowconfigure((1, 3), weight=1)
        self._online_title, self.online_button = self._make_heading(
            side, 0, "Show Online", 5, self.room.show_online
        )
        self.online = ScrolledList(side, self._theme, columns=1, height=4, chosen=self._write_to)
        self.online.grid(row=1, column=0, sticky="nsew")
        self.files_title, self.files_button = self._make_heading(
            side, 2, "Show server files", 12, self.room.show_files
        )
        self.files = ScrolledList(
            side, self._theme, columns=2, height=5, chosen=self._download_row, picked=self._pick
        )
        self.files.grid(row=3, column=0, sticky="nsew")
        form = ttk.Frame(side)
        form.grid(row=4, column=0, sticky="ew")
        form.columnconfigure(0, weight=1)
        self.file_name = ttk.Entry(form, font=self._theme.text)
        self._label(form, "Server file name", 12, self.file_name).grid(
            row=0, column=0, sticky="w", pady=(px(8), px(2))
        )
        self.file_name.grid(row=1, column=0, columnspan=2, sticky="ew")
        self.save_as = ttk.Entry(form, font=self._theme.text)
        self._label(form, "Save as", 1, self.save_as).grid(
            row=2, column=0, sticky="w", pady=(px(8), px(2))
        )
        self.save_as.grid(row=3, column=0, sticky="ew")
        self.browse_button = self._button(form, "Browse…", 0, self._browse)
        self.browse_button.grid(row=3, column=1, padx=(px(6), 0))
        self.download_button = self._button(
            form, "Download", 0, self._download, style="Accent.TButton"
        )
        self.download_button.grid(row=4, column=0, columnspan=2, sticky="ew", pady=(px(10), 0))
        for entry in (self.file_name, self.save_as):
            entry.bind("<Return>", lambda _: self._download())
        return side

    def _make_heading(
        self, side: ttk.Frame, row: int, text: str, underline: int, command: Callable[[], None]
    ) -> tuple[FittingLabel, ttk.Button]:
        """A title with a button beside it."""
        px = self._theme.px
        frame = ttk.Frame(side)
        frame.grid(row=row, column=0, sticky="ew", pady=(px(10) if row else 0, px(4)))
        frame.columnconfigure(0, weight=1)
        title = FittingLabel(frame, self._theme.bold, style="Bold.TLabel")
        title.grid(row=0, column=0, sticky="ew")
        button = self._button(frame, text, underline, command, style="Small.TButton")
        button.grid(row=0, column=1)
        return title, button

    def _button(
        self,
        parent: tk.Misc,
        text: str,
        underline: int,
        command: Callable[[], None],
        style: str = "TButton",
    ) -> ttk.Button:
        button = ttk.Button(parent, text=text, underline=underline, command=command, style=style)
        button.bind("<Return>", lambda _: button.invoke())
        add_mnemonic(button, None)
        return button

    def _label(self, parent: tk.Misc, text: str, underline: int, target: tk.Misc) -> ttk.Label:
        label = ttk.Label(parent, text=text, underline=underline, style="Small.TLabel")
        add_mnemonic(label, target)
        return label

    # What it shows

    def _show_link(self) -> None:
        link = self._shown.link
        style = _LINK_STYLES[link]
        self._dot.configure(style=style)
        self.state_label.configure(style=style, text=link.value)
        lost = link is Link.LOST
        self.logout_button.configure(
            text="Log in again" if lost else "Logout", style="Accent.TButton" if lost else "TButton"
        )
        state = ["disabled"] if lost else ["!disabled"]
        for button in (self.send_button, self.download_button, self.update_button):
            button.state(state)
        self._fit_who()

    def _fit_who(self) -> None:
        """Say who one is, and where if there is room beside what is more urgent."""
        others = set(self._header.winfo_children()) - {self.who}
        gaps = self._theme.px(10 + 24 + 8)
        width = self._header.winfo_width() - gaps - sum(one.winfo_reqwidth() for one in others)
        name, measure = printable(self._shown.me), self._theme.bold.measure
        said = f"{name} at {self._place}"
        if self._header.winfo_width() > 1 and measure(said) > width:  # it is 1 until it is drawn
            said = name
            while measure(said) > width and len(said) > 1:
                said = f"{said.removesuffix(_MORE)[:-1]}{_MORE}"
        self.who.configure(text=said)

    def _show_online(self) -> None:
        self._online_title.say(f"Online ({self._shown.headcount})")
        self.online.show(self._shown.online, self._person_row)

    def _person_row(self, name: str) -> tuple[tuple[str, ...], str]:
        if name == self._shown.me:
            return (f"{printable(name)} (you)",), "own"
        return (printable(name),), f"person{colour_of(name)}"

    def _offer_people(self) -> None:
        """The list of whom to send to is about to open."""
        names = [name for name in self._shown.online if name != self._shown.me]
        self.to_box.configure(values=names)

    def _show_files(self) -> None:
        files = self._shown.files
        self.files_title.say(f"Server files ({len(files)})", f"Files ({len(files)})")
        self.files.show(files, _file_row)

    # What a person does

    def _logout(self) -> None:
        if self._shown.link is Link.LOST:
            self._log_in_again()
        else:
            self.room.logout()

    def _send(self) -> None:
        if self.room.send(self.field.content, self.to_box.get()):
            self.field.remember()
            self.messages.show_end()

    def _retry(self, draft: Draft) -> None:
        """Put what failed back to where it was written."""
        self.to_box.set(draft.to)
        self.field.set(draft.text)
        self.field.text.focus_set()

    def _write_to(self, row: int) -> None:
        """A person was chosen: the next message is for them."""
        name = self._shown.online[row]
        self.to_box.set("" if name == self._shown.me else name)
        self.field.text.focus_set()

    def _pick(self, row: int) -> None:
        """A file was selected: it is what Download would fetch."""
        name = self._shown.files[row].name
        for entry, value in ((self.file_name, name), (self.save_as, self.room.suggest_path(name))):
            entry.delete(0, "end")
            entry.insert(0, value)
            entry.xview_moveto(1)

    def _download_row(self, row: int) -> None:
        self._pick(row)
        self._download()

    def _download(self) -> None:
        self.room.download(self.file_name.get(), self.save_as.get())

    def _browse(self) -> None:
        """Choose where to save."""

        def take(path: str) -> None:
            if self.winfo_exists():
                self.save_as.delete(0, "end")
                self.save_as.insert(0, path)
                self.save_as.xview_moveto(1)
                select_all(self.save_as)

        name = self.file_name.get()
        self._choose_path(self.save_as.get() or self.room.suggest_path(name or "file"), take)


def _file_row(file: Listed) -> tuple[tuple[str, ...], str]:
    return (printable(file.name), "?" if file.size is None else size_text(file.size)), ""
