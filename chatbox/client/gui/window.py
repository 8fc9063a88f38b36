"""The window: one of three views, the downloads below it, and what is there in all of them.

It draws at most once a frame, however much happens. The views ask nobody: what a person does goes
to an `Actions`, and what there is to show comes from the models.
"""

from __future__ import annotations

import tkinter as tk
from collections.abc import Callable
from importlib.resources import files
from tkinter import ttk
from typing import Final, Protocol

from chatbox.client.gui.downloads import Rows
from chatbox.client.gui.host import Plan
from chatbox.client.gui.login import Card, HostCard, LoginCard, QuestionCard
from chatbox.client.gui.model import Room
from chatbox.client.gui.palette import DARK, LIGHT
from chatbox.client.gui.room import RoomView
from chatbox.client.gui.settings import Settings, on_screen
from chatbox.client.gui.shown import Link, Part
from chatbox.client.gui.theme import Theme
from chatbox.client.gui.transfers import Transfers
from chatbox.text import printable

__all__ = ["FRAME_MS", "Actions", "Window"]

FRAME_MS: Final = 16
"""Milliseconds between two drawings while there is something to draw: what a screen shows."""

PROGRESS_MS: Final = 200
"""Milliseconds between two looks at the downloads that move."""


class Actions(Protocol):
    """What a person can have done that needs more than the window."""

    def show_login(self) -> None:
        """Go back to the card to log in with."""

    def login(self, name: str, address: str, tls: bool) -> None:
        """Join a room."""

    def cancel_login(self) -> None:
        """Stop trying to."""

    def host(self, name: str, plan: Plan) -> None:
        """Start a server on this computer, and join it."""

    def stop_hosting(self) -> None:
        """Stop that server."""

    def choose_path(self, kind: str, path: str, take: Callable[[str], None]) -> None:
        """Let a file to "save" or a "folder" be chosen, and give it to `take`."""

    def open_file(self, path: str) -> None:
        """Show a file that has come, in the program for such files."""

    def quit(self) -> None:
        """Close the window."""


class Window:
    """The one window. Raises tk.TclError if there is no screen for it."""

    def __init__(self, settings: Settings, rows: Rows, actions: Actions, screen: str = "") -> None:
        self.root = tk.Tk(screenName=screen or None, className="Chatbox")
        self._settings = settings
        self._actions = actions
        self._frame_call: str | None = None
        self._progress_call: str | None = None
        self._changed = Part.NOTHING
        self._rows = rows
        self._rows_changed = False
        self._view: ttk.Frame | None = None
        self.hosting_address = ""
        self.login_card: LoginCard | None = None
        self.host_card: HostCard | None = None
        self.question_card: QuestionCard | None = None
        self.room_view: RoomView | None = None
        icons = [tk.PhotoImage(master=self.root, data=_icon(size)) for size in (64, 256)]
        self._icon = icons[0]
        self.root.iconphoto(True, *icons)
        theme = settings.theme if settings.theme in (DARK.name, LIGHT.name) else LIGHT.name
        self.theme = Theme(self.root, theme, settings.zoom)
        px = self.theme.px
        screen_size = self.root.winfo_screenwidth(), self.root.winfo_screenheight()
        self.root.geometry(on_screen(settings.geometry, (px(1080), px(720)), screen_size))
        self.root.rowconfigure(0, weight=1)
        self.root.columnconfigure(0, weight=1)
        self.transfers = Transfers(self.root, self.theme, rows, actions.open_file)
        self.transfers.grid(row=1, column=0, sticky="ew", padx=px(12))
        self._make_footer()
        for part in (self.transfers, self._footer):
            part.bind("<Configure>", lambda _: self._fit())
        self._bind_keys()
        rows.on_change = self._note_rows
        self.root.report_callback_exception = self._report

    def show_login(self, says: str = "", *, bad: bool = True) -> None:
        """Show the card to log in with, and on it a sentence."""
        settings, actions = self._settings, self._actions
        card = LoginCard(
            self.root,
            self.theme,
            self._icon,
            name=settings.name,
            address=settings.address,
            tls=settings.tls,
            login=actions.login,
            cancel=actions.cancel_login,
            host=self.show_host,
        )
        self._swap(card)
        self.login_card = card
        card.say(says, bad=bad)
        card.focus_first()
        self.root.title("chatbox")

    def show_host(self) -> None:
        """Show the card to host a room with."""
        settings, actions = self._settings, self._actions
        card = HostCard(
            self.root,
            self.theme,
            self._icon,
            name=settings.name,
            plan=Plan(settings.shared, limit=settings.shared_limit, tls=settings.shared_tls),
            host=actions.host,
            back=actions.show_login,
            choose_folder=lambda path, take: actions.choose_path("folder", path, take),
        )
        self._swap(card)
        self.host_card = card
        card.focus_first()

    def ask(
        self,
        title: str,
        text: str,
        *,
        yes: str,
        secret: bool,
        answer: Callable[[str | None], None],
    ) -> None:
        """Ask a question on a card; `answer` hears what was typed if `secret`, or None for no."""
        card = QuestionCard(
            self.root,
            self.theme,
            self._icon,
            title=title,
            text=text,
            yes=yes,
            secret=secret,
            answer=answer,
        )
        self._swap(card)
        self.question_card = card
        card.focus_first()

    def show_room(self, room: Room, place: str) -> None:
        """Show a room; `place` is what to call the server."""
        view = RoomView(
            self.root,
            self.theme,
            room,
            place=place,
            log_in_again=self._actions.show_login,
            choose_path=lambda path, take: self._actions.choose_path("save", path, take),
        )
        self._swap(view)
        self.room_view = view
        room.shown.on_change = self._request_frame
        view.field.text.focus_set()
        self._show_title()

    def show_hosting(self, address: str, note: str) -> None:
        """Show what others type to come to the room that is hosted here; "" if none is."""
        self.hosting_address = address
        if address:
            self._hosting.configure(text=f"Your room is open. {note}")
            self._address.configure(state="normal")
            self._address.delete(0, "end")
            self._address.insert(0, address)
            self._address.configure(state="readonly", width=max(len(address), 10))
            self._host_bar.grid(row=0, column=0, sticky="w")
        else:
            self._host_bar.grid_forget()

    def remember(self) -> None:
        """Keep in the settings what the person has made of the window."""
        self._settings.geometry = self.root.geometry()
        self._settings.theme = self.theme.palette.name
        self._settings.zoom = self.theme.zoom

    def destroy(self) -> None:
        """Close the window for good."""
        self._rows.on_change = lambda: None
        if self.room_view is not None:
            self.room_view.room.shown.on_change = lambda: None
        for call in (self._frame_call, self._progress_call):
            if call is not None:
                self.root.after_cancel(call)
        self.root.destroy()

    # The parts

    def _make_footer(self) -> None:
        px = self.theme.px
        footer = self._footer = ttk.Frame(self.root, padding=(px(12), 0, px(12), px(8)))
        footer.grid(row=2, column=0, sticky="ew")
        footer.columnconfigure(0, weight=1)
        self._host_bar = ttk.Frame(footer)
        self._hosting = ttk.Label(self._host_bar, style="Good.TLabel")
        self._hosting.grid(row=0, column=0)
        self._address = ttk.Entry(self._host_bar, font=self.theme.bold)
        self._address.grid(row=0, column=1, padx=px(8))

        def add(parent: ttk.Frame, text: str, column: int, command: Callable[[], None]) -> None:
            button = ttk.Button(parent, text=text, command=command, style="SmallFlat.TButton")
            button.bind("<Return>", lambda _: button.invoke())
            button.grid(row=0, column=column)

        add(self._host_bar, "Copy", 2, self._copy_address)
        add(self._host_bar, "Stop hosting", 3, self._actions.stop_hosting)
        add(footer, "A-", 1, lambda: self._zoom(-1))
        add(footer, "A+", 2, lambda: self._zoom(1))
        self.theme_button = ttk.Button(footer, style="SmallFlat.TButton", command=self.toggle_theme)
        self.theme_button.bind("<Return>", lambda _: self.toggle_theme())
        self.theme_button.grid(row=0, column=3)
        self.theme.follow(
            self.theme_button,
            lambda: self.theme_button.configure(
                text="Light" if self.theme.palette is DARK else "Dark"
            ),
        )

    def _bind_keys(self) -> None:
        root = self.root
        # Tk for X has Emacs's keys, where Ctrl+A is the beginning of the line.
        root.event_delete("<<LineStart>>", "<Control-a>")
        root.event_add("<<SelectAll>>", "<Control-a>")
        # Here Ctrl+T changes the colours; in Tk's texts it would change two letters about as well.
        root.unbind_class("Text", "<Control-t>")
        for key in ("plus", "equal", "KP_Add"):
            root.bind(f"<Control-{key}>", lambda _: self._zoom(1))
        for key in ("minus", "KP_Subtract"):
            root.bind(f"<Control-{key}>", lambda _: self._zoom(-1))
        root.bind("<Control-0>", lambda _: self._zoom(-self.theme.zoom))
        root.bind("<Control-t>", lambda _: self.toggle_theme())
        root.bind("<Control-q>", lambda _: self._actions.quit())
        root.bind("<Alt-p>", lambda _: self.transfers.proceed())
        root.bind("<FocusIn>", lambda _: self._watch(True), add=True)
        root.bind("<FocusOut>", lambda _: self._watch(root.focus_displayof() is not None), add=True)
        root.protocol("WM_DELETE_WINDOW", self._actions.quit)

    # How it works

    def _swap(self, view: ttk.Frame) -> None:
        if self.room_view is not None:
            self.room_view.room.shown.on_change = lambda: None
        self.login_card = self.host_card = self.question_card = self.room_view = None
        if self._view is not None:
            self._view.destroy()
        self._view = view
        view.grid(row=0, column=0, sticky="nsew")
        if isinstance(view, Card):
            view.card.bind("<Configure>", lambda _: self._fit())
        self._fit()

    def _fit(self) -> None:
        """Let the window be large enough for what it shows, as far as the screen is."""
        root, px = self.root, self.theme.px
        width, height = self.theme.grown(640), self.theme.grown(540)
        if isinstance(self._view, Card):
            card = self._view.card
            parts = (card, self.transfers, self._footer)
            width = max(width, card.winfo_reqwidth() + px(24))
            height = max(height, sum(part.winfo_reqheight() for part in parts) + px(12))
        root.minsize(min(width, root.winfo_screenwidth()), min(height, root.winfo_screenheight()))

    def _request_frame(self) -> None:
        if self._frame_call is None:
            self._frame_call = self.root.after(FRAME_MS, self._frame)

    def _note_rows(self) -> None:
        self._rows_changed = True
        self._request_frame()

    def _frame(self) -> None:
        """Draw what has changed since the last frame."""
        self._frame_call = None
        if self._rows_changed:
            self._rows_changed = False
            self.transfers.show()
            self._follow_progress()
        view = self.room_view
        if view is not None:
            changed = view.room.shown.take_changes()
            if view.show(changed):
                view.room.shown.changed |= Part.MESSAGES
                self._request_frame()
            if Part.LINK in changed:
                self._show_title()

    def _follow_progress(self) -> None:
        if self._rows.is_moving and self._progress_call is None:
            self._progress_call = self.root.after(PROGRESS_MS, self._tick)

    def _tick(self) -> None:
        self._progress_call = None
        self.transfers.show()
        self._follow_progress()

    def _show_title(self) -> None:
        if self.room_view is None:
            return
        shown = self.room_view.room.shown
        unread = f"({shown.unread}) " if shown.unread else ""
        state = "" if shown.link is Link.CONNECTED else f": {shown.link.value}"
        self.root.title(f"{unread}chatbox: {printable(shown.me)}{state}")

    def _watch(self, watched: bool) -> None:
        if self.room_view is not None:
            self.room_view.room.shown.watch(watched)

    def _zoom(self, step: int) -> None:
        self.theme.set_zoom(self.theme.zoom + step)

    def toggle_theme(self) -> None:
        """From dark to light, or back."""
        self.theme.use(LIGHT.name if self.theme.palette is DARK else DARK.name)

    def _copy_address(self) -> None:
        self.root.clipboard_clear()
        self.root.clipboard_append(self._address.get())

    @staticmethod
    def _report(*error: object) -> None:
        """A bug in the window: let it be seen where the reactor's are."""
        from twisted.logger import Logger
        from twisted.python.failure import Failure

        Logger().failure("The window made a mistake", Failure(error[1], error[0], error[2]))


def _icon(size: int) -> bytes:
    return (files(__package__) / "desktop" / str(size) / "chatbox.png").read_bytes()
