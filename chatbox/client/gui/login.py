"""The window before one is in a room: cards to log in with, to host a room, and to be asked on."""

from __future__ import annotations

import tkinter as tk
from collections.abc import Callable, Sequence
from tkinter import ttk
from typing import Any, Final

from chatbox.client.gui.host import Plan
from chatbox.client.gui.theme import Theme
from chatbox.client.gui.widgets import ScrolledList, add_mnemonic, select_all
from chatbox.lan import Server

__all__ = ["Card", "HostCard", "LoginCard", "QuestionCard"]

_CARD_WIDTH: Final = 400
_NARROW: Final = 7  # characters
_ACCENT: Final = "CardAccent.TButton"

# Variables of Tk by their names. An object for one would tell Tk of its end, which may come in
# whatever thread collects the garbage; but only one thread may speak with Tk.
_TLS: Final = "chatbox_tls"
_EVERYONE: Final = "chatbox_everyone"
_HOST_TLS: Final = "chatbox_host_tls"


class Card(ttk.Frame):
    """A form in the middle of the window."""

    def __init__(
        self, parent: tk.Misc, theme: Theme, icon: tk.PhotoImage, title: str, text: str
    ) -> None:
        super().__init__(parent)
        self._theme = theme
        px = theme.px
        self.card = ttk.Frame(self, style="Card.TFrame", padding=px(30))
        self.card.place(relx=0.5, rely=0.5, anchor="center")
        self.card.columnconfigure(0, weight=1, minsize=px(_CARD_WIDTH))
        head = ttk.Frame(self.card, style="Surface.TFrame")
        head.grid(row=0, column=0, columnspan=2, sticky="ew")
        ttk.Label(head, image=icon, style="Surface.TLabel").grid(row=0, column=0, rowspan=2)
        ttk.Label(head, text=title, style="Title.TLabel").grid(
            row=0, column=1, sticky="sw", padx=px(14)
        )
        ttk.Label(head, text=text, style="SurfaceDim.TLabel").grid(
            row=1, column=1, sticky="nw", padx=px(14)
        )
        self._row = 1
        self._fields: list[ttk.Widget] = []
        self.says = ttk.Label(
            self.card, style="Danger.TLabel", wraplength=px(_CARD_WIDTH), justify="left"
        )

    def say(self, text: str, *, bad: bool = True) -> None:
        """Show a sentence below the fields."""
        style = "Danger.TLabel" if bad else "SurfaceDim.TLabel"
        self.says.configure(text=text, style=style)

    def set_busy(self, busy: bool) -> None:
        """Let nothing be typed while it is being tried."""
        for field in self._fields:
            field.state(["disabled" if busy else "!disabled"])

    def _act(self) -> None:
        """Do what the card is there for: what Enter means in its fields."""
        raise NotImplementedError

    def _add_field(
        self,
        text: str,
        underline: int,
        value: str,
        *,
        show: str = "",
        beside: ttk.Widget | None = None,
    ) -> ttk.Entry:
        px = self._theme.px
        label = ttk.Label(self.card, text=text, underline=underline, style="SurfaceDim.TLabel")
        entry = ttk.Entry(self.card, style="Card.TEntry", font=self._theme.text, show=show)
        entry.insert(0, value)
        if beside is not None:
            entry.configure(width=_NARROW)
        row, place = self._room(2, beside)
        label.grid(row=row, sticky="w", pady=(px(14), px(4)), **place)
        entry.grid(row=row + 1, sticky="ew", **place)
        add_mnemonic(label, entry)
        entry.bind("<FocusIn>", lambda _: select_all(entry), add=True)
        entry.bind("<Return>", lambda _: self._act())
        self._fields.append(entry)
        return entry

    def _room(self, rows: int, beside: ttk.Widget | None) -> tuple[int, dict[str, Any]]:
        """Where something goes: its first row of so many, new ones or those of what is `beside`."""
        if beside is None:
            self._row += rows
            return self._row - rows, {"column": 0, "columnspan": 2}
        beside.grid_configure(columnspan=1)
        return self._row - rows, {"column": 1, "padx": (self._theme.px(8), 0)}

    def _add_choice(
        self,
        kind: type[ttk.Radiobutton] | type[ttk.Checkbutton],
        text: str,
        gap: int,
        **options: Any,
    ) -> None:
        button = kind(self.card, text=text, **options)
        button.bind("<Return>", lambda _: self._act())
        pady = (self._theme.px(gap) if gap else 0, 0)
        button.grid(row=self._row, column=0, columnspan=2, sticky="w", pady=pady)
        self._row += 1
        self._fields.append(button)

    def _add_says(self) -> None:
        px = self._theme.px
        self.says.grid(row=self._row, column=0, columnspan=2, sticky="ew", pady=(px(12), 0))
        self._row += 1

    def _add_button(
        self,
        text: str,
        underline: int,
        command: Callable[[], None],
        *,
        style: str = "Card.TButton",
        gap: int = 8,
        beside: ttk.Widget | None = None,
    ) -> ttk.Button:
        button = ttk.Button(self.card, text=text, underline=underline, command=command, style=style)
        button.bind("<Return>", lambda _: button.invoke())
        row, place = self._room(1, beside)
        gap = self._theme.px(gap) if gap else 0
        button.grid(row=row, sticky="ew", pady=(gap, 0), **place)
        add_mnemonic(button, None)
        return button


class LoginCard(Card):
    """Name and address, and a way to host."""

    def __init__(
        self,
        parent: tk.Misc,
        theme: Theme,
        icon: tk.PhotoImage,
        *,
        name: str,
        address: str,
        tls: bool,
        login: Callable[[str, str, bool], None],
        cancel: Callable[[], None],
        host: Callable[[], None],
    ) -> None:
        super().__init__(parent, theme, icon, "chatbox", "Talk, and share files.")
        self._login = login
        self._cancel = cancel
        self.is_busy = False
        self.name = self._add_field("Name", 0, name)
        self.address = self._add_field("Address of the server (host or host:port)", 0, address)
        self.setvar(_TLS, str(int(tls)))
        self._add_choice(ttk.Checkbutton, "Encrypted (TLS)", 0, variable=_TLS)
        self._add_says()
        self.login_button = self._add_button("Login", 0, self._act, style=_ACCENT, gap=12)
        self.host_button = self._add_button("Host a room…", 0, host)
        self._fields.append(self.host_button)
        self._servers: list[Server] = []
        self._add_nearby()
        self.card.bind("<Escape>", lambda _: self.is_busy and self._cancel())
        self.login_button.bind("<Escape>", lambda _: self.is_busy and self._cancel())

    @property
    def tls(self) -> bool:
        """Whether the connection is to be encrypted."""
        return bool(self.getboolean(self.getvar(_TLS)))

    def focus_first(self) -> None:
        """Go to the first field that must be filled."""
        select_all(self.name if not self.name.get() else self.address)

    def set_busy(self, busy: bool) -> None:
        """While it is being tried, the button gives it up."""
        super().set_busy(busy)
        self.is_busy = busy
        # The key is L for both.
        self.login_button.configure(text="Cancel" if busy else "Login", underline=5 if busy else 0)
        if busy:
            self.login_button.focus_set()

    def _act(self) -> None:
        if self.is_busy:
            self._cancel()
        elif not self.name.get().strip():
            self.say("What is your name? Others see it beside what you say.")
            self.name.focus_set()
        elif not self.address.get().strip():
            self.say("Where is the server? Type its name or address, or host a room yourself.")
            self.address.focus_set()
        else:
            self._login(self.name.get().strip(), self.address.get().strip(), self.tls)

    def show_servers(self, servers: Sequence[Server]) -> None:
        """Show the servers nearby, if there are any."""
        self._servers = list(servers)
        self.nearby.show(
            servers, lambda one: ((one.room, f"{one.host}{', TLS' if one.tls else ''}"), "")
        )
        for row, widget in enumerate((self._nearby_title, self.nearby), self._row):
            if servers:
                widget.grid(row=row, column=0, columnspan=2, sticky="ew")
            else:
                widget.grid_forget()

    def _add_nearby(self) -> None:
        self._nearby_title = ttk.Label(
            self.card,
            text="On this network",
            style="SurfaceDim.TLabel",
            padding=(0, self._theme.px(14), 0, self._theme.px(4)),
        )
        self.nearby = ScrolledList(
            self.card,
            self._theme,
            columns=2,
            height=3,
            chosen=self._join,
            picked=self._pick,
            width=210,
        )

    def _pick(self, row: int) -> None:
        server = self._servers[row]
        self.address.delete(0, "end")
        self.address.insert(0, server.host)
        self.setvar(_TLS, str(int(server.tls)))

    def _join(self, row: int) -> None:
        if not self.is_busy:
            self._pick(row)
            self._act()


class HostCard(Card):
    """A folder, who may come in and how, and a port; `plan` is what stands there at first."""

    def __init__(
        self,
        parent: tk.Misc,
        theme: Theme,
        icon: tk.PhotoImage,
        *,
        name: str,
        plan: Plan,
        host: Callable[[str, Plan], None],
        back: Callable[[], None],
        choose_folder: Callable[[str, Callable[[str], None]], None],
    ) -> None:
        super().__init__(parent, theme, icon, "Host a room", "The server runs on this computer.")
        self._host = host
        self._choose_folder = choose_folder
        self.name = self._add_field("Name", 0, name)
        self.folder = self._add_field("Shared folder", 1, plan.folder)
        choose = self._add_button("Choose…", 0, self._choose, gap=0, beside=self.folder)
        self._fields.append(choose)
        self.setvar(_EVERYONE, "0")
        for text, value in (
            ("Only this computer can join", False),
            ("Everyone on the network can join", True),
        ):
            gap = 0 if value else 12
            self._add_choice(ttk.Radiobutton, text, gap, variable=_EVERYONE, value=int(value))
        self.setvar(_HOST_TLS, str(int(plan.tls)))
        self._add_choice(ttk.Checkbutton, "Encrypted (TLS)", 4, variable=_HOST_TLS)
        self.limit = self._add_field("Limit (such as 2MB)", 0, plan.limit)
        self.port = self._add_field("Port", 3, plan.port, beside=self.limit)
        self._add_says()
        self.host_button = self._add_button("Start", 0, self._act, style=_ACCENT, gap=12)
        self.back_button = self._add_button("Back", 0, back, gap=12, beside=self.host_button)
        self._fields.append(self.host_button)
        for field in (*self._fields, self.back_button):
            field.bind("<Escape>", lambda _: back())

    def focus_first(self) -> None:
        """Go to the first field that must be filled."""
        select_all(self.folder if self.name.get() else self.name)

    def _act(self) -> None:
        if not self.name.get().strip():
            self.say("What is your name? Others see it beside what you say.")
            self.name.focus_set()
        else:
            everyone, tls = (
                bool(self.getboolean(self.getvar(name))) for name in (_EVERYONE, _HOST_TLS)
            )
            plan = Plan(self.folder.get(), everyone, self.port.get(), self.limit.get(), tls)
            self._host(self.name.get().strip(), plan)

    def _choose(self) -> None:
        def take(path: str) -> None:
            if self.winfo_exists():
                self.folder.delete(0, "end")
                self.folder.insert(0, path)
                select_all(self.folder)

        self._choose_folder(self.folder.get(), take)


class QuestionCard(Card):
    """A question that somebody must answer before one is in. `answer` hears the answer, or None."""

    def __init__(
        self,
        parent: tk.Misc,
        theme: Theme,
        icon: tk.PhotoImage,
        *,
        title: str,
        text: str,
        yes: str,
        secret: bool,
        answer: Callable[[str | None], None],
    ) -> None:
        super().__init__(parent, theme, icon, title, "")
        self._answer = answer
        self._add_says()
        self.says.configure(text=text, style="Surface.TLabel")
        self.secret = self._add_field("Password", 0, "", show="•") if secret else None
        self.yes_button = self._add_button(yes, 0, self._act, style=_ACCENT, gap=14)
        self.no_button = self._add_button("Cancel", 0, lambda: answer(None))
        for widget in (self.secret, self.yes_button, self.no_button):
            if widget is not None:
                widget.bind("<Escape>", lambda _: answer(None))

    def focus_first(self) -> None:
        """Go to the answer that does no harm."""
        (self.secret or self.no_button).focus_set()

    def _act(self) -> None:
        if self.secret is None:
            self._answer("")
        elif self.secret.get():
            self._answer(self.secret.get())
        else:
            self.secret.focus_set()
