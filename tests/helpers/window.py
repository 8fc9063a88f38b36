"""A person at the window: real keys and clicks through the X server, and eyes on its widgets."""

from __future__ import annotations

import os
import shutil
import tkinter as tk
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue

from chatbox.client.chat.events import Event, Presence, Said
from chatbox.client.connect.access import Access
from chatbox.client.connect.connection import ChatConnection, join_server
from chatbox.client.gui import hosting
from chatbox.client.gui.app import App
from chatbox.client.gui.login import HostCard
from chatbox.client.gui.window import Window
from tests.helpers.processes import PATIENCE
from tests.helpers.screen import Screen

MISSING = None if shutil.which("xdotool") else "there is no xdotool, which presses keys"
"""Why nobody can type; None if somebody can."""


class Person:
    """Types and clicks on a screen."""

    def __init__(self, reactor: Any, screen: Screen) -> None:
        self._reactor = reactor
        self._screen = screen

    async def keys(self, *names: str) -> None:
        """Press keys, such as "Return" or "alt+s", one after the other."""
        await self.xdotool("key", *names)

    async def type(self, text: str) -> None:
        """Type a text."""
        await self.xdotool("type", "--delay", "1", text)

    async def click(self, x: int, y: int, times: int = 1) -> None:
        """Click there, so many times."""
        await self.click_where(lambda: (x, y), times)

    async def click_where(self, where: Callable[[], tuple[int, int]], times: int = 1) -> None:
        """The same at a place that may move, as long as the window is being drawn."""
        at = None
        while at != (place := where()):
            at = place
            await self.xdotool("mousemove", *map(str, at))
        await self.xdotool("click", "--repeat", str(times), "--delay", "20", "1")

    async def click_dialog(self, title: str) -> None:
        """Click into the bottom of a window that is not ours, such as a dialog."""
        found = (await self.xdotool("search", "--onlyvisible", "--name", title)).split()
        shape = await self.xdotool("getwindowgeometry", "--shell", found[-1])
        at = dict(line.split("=") for line in shape.split())
        x, y = int(at["X"]), int(at["Y"])
        await self.click(x + int(at["WIDTH"]) // 2, y + 5)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until it is so."""
        assert await self.wait(condition, PATIENCE), f"{what} has not come"

    async def wait(self, condition: Callable[[], object], seconds: float) -> bool:
        """Wait until it is so, but no longer than so many seconds; say whether it is."""
        until = self._reactor.seconds() + seconds
        while not condition() and self._reactor.seconds() < until:
            await deferLater(self._reactor, 0.01)
        return bool(condition())

    async def xdotool(self, *arguments: str) -> str:
        """Have it done; returns what it prints."""
        env = {**os.environ, "DISPLAY": self._screen.name}
        program = shutil.which("xdotool") or ""
        out, err, status = await getProcessOutputAndValue(
            program, arguments, env, reactor=self._reactor
        )
        assert status == 0, out + err
        return str(out.decode())


class Guest(Person):
    """Somebody in front of a window of ours, which is on the screen alone."""

    def __init__(self, reactor: Any, screen: Screen, app: App, window: Window) -> None:
        super().__init__(reactor, screen)
        self.app = app
        self.window = window

    async def click_on(self, widget: tk.Misc) -> None:
        """Click into the middle of a widget."""

        def middle() -> tuple[int, int]:
            widget.update_idletasks()
            x, y = widget.winfo_rootx(), widget.winfo_rooty()
            return x + widget.winfo_width() // 2, y + widget.winfo_height() // 2

        await self._click(widget, middle)

    async def click_row(self, tree: Any, row: int, times: int = 1) -> None:
        """Click on a row of a list."""

        def within() -> tuple[int, int]:
            tree.update_idletasks()
            x, y, width, height = tree.bbox(tree.get_children()[row])
            return tree.winfo_rootx() + x + width // 3, tree.winfo_rooty() + y + height // 2

        await self._click(tree, within, times)

    async def _click(
        self, widget: tk.Misc, where: Callable[[], tuple[int, int]], times: int = 1
    ) -> None:
        """Click on a widget, and wait until it has seen that.

        Two clicks are a double one if half a second lies between them at most. On a machine that
        had no time for the second one, it is done again.
        """
        pressed: list[object] = []
        doubled: list[object] = []
        released: list[object] = []
        tags = [tag for tag in widget.bindtags() if tag != "clicks"]
        widget.bindtags(("clicks", *tags))  # before others, who may say that nobody needs to know
        widget.bind_class("clicks", "<Button-1>", pressed.append)
        widget.bind_class("clicks", "<Double-1>", doubled.append)
        widget.bind_class("clicks", "<ButtonRelease-1>", released.append)
        for _ in range(10):
            pressed.clear()
            await self.click_where(where, times)
            if times == 1:
                await self.until(lambda: released, "the click")
                return
            # It may be gone by the time that the button is let go.
            await self.until(lambda: doubled or len(pressed) == times, "the clicks")
            if doubled:
                return
            await deferLater(self._reactor, 1)
        raise AssertionError("two clicks are never near enough")

    async def host(self) -> HostCard:
        """Ask for the card for hosting a room."""
        login = self.window.login_card
        assert login is not None
        await self.until(login.host_button.winfo_viewable, "the button")
        await self.keys("alt+h")
        await self.until(lambda: self.window.host_card, "the card")
        card = self.window.host_card
        assert card is not None
        return card

    async def fill(self, key: str, text: str) -> None:
        """Go to a field by its key, and type something else into it."""
        await self.keys(key, "ctrl+a", "Delete")
        if text:
            await self.type(text)

    @property
    def reads(self) -> str:
        """All that stands in the middle of the window."""
        assert self.window.room_view is not None
        return self.window.room_view.messages.text.get("1.0", "end")

    async def reads_that(self, text: str) -> None:
        """Wait until a text stands there."""
        await self.until(lambda: text in self.reads, repr(text))

    def can_type_password(self) -> bool:
        """Say whether a password is asked for, and what is typed now goes there."""
        asked = self.window.question_card
        if asked is None or asked.secret is None or not asked.secret.winfo_viewable():
            return False
        return asked.focus_get() is asked.secret

    async def is_in(self) -> None:
        """Wait until the window shows a room."""
        await self.until(lambda: self.window.room_view is not None, "the room")
        view = self.window.room_view
        assert view is not None
        shown = view.room.shown
        await self.until(lambda: shown.me in shown.online and shown.files, "the lists")
        await self.until(
            lambda: len(view.files.tree.get_children()) == len(shown.files) and not shown.changed,
            "a drawing of them",
        )

    def picture(self, path: Path) -> None:
        """Keep a picture of the window."""
        root = self.window.root
        path.write_bytes(
            self._screen.picture(
                root.winfo_rootx(), root.winfo_rooty(), root.winfo_width(), root.winfo_height()
            )
        )


@asynccontextmanager
async def sitting_at(
    reactor: Any,
    screen: Screen,
    folder: Path,
    picture: Path,
    *,
    name: str = "",
    address: str = "",
    browse_on: str | None = None,
) -> AsyncIterator[Guest]:
    """Open a window, let somebody use it, keep a last picture of it, and close it."""
    app = App(reactor, str(folder / "window"), downloads=str(folder), browse_on=browse_on)
    app.settings.name, app.settings.address = name, address
    window = app.open(screen.name)
    guest = Guest(reactor, screen, app, window)
    try:
        # Where the pointer is, there the keys go: nobody manages windows on this screen.
        await guest.click(640, 20)
        card = window.login_card
        assert card is not None
        await guest.until(card.host_button.winfo_viewable, "the card")
        with mock.patch.object(hosting, "START_TIMEOUT", PATIENCE):
            yield guest
        guest.picture(picture)
    except BaseException:
        guest.picture(picture)
        raise
    finally:
        app.quit()
        await app.until_closed()
        app.close()


class Other:
    """Somebody else in the room."""

    def __init__(self, connection: ChatConnection) -> None:
        self.connection = connection
        self.session = connection.session
        self.heard: list[Event] = []
        connection.listen(self.heard.append)

    @classmethod
    async def join(cls, reactor: Any, host: str, name: str, access: Access) -> Other:
        """Join."""
        return cls(await join_server(reactor, host, name, access))

    def say(self, text: str, to: str = "all") -> None:
        """Say something."""
        self.session.say(text, to)
        self.connection.flush()

    @property
    def texts(self) -> list[tuple[str, str, str]]:
        """Who said what to whom."""
        return [
            (one.sender, one.recipient, one.text) for one in self.heard if isinstance(one, Said)
        ]

    def saw_leave(self, name: str) -> bool:
        """Whether somebody has left."""
        return any(
            isinstance(one, Presence) and one.name == name and not one.here for one in self.heard
        )

    async def leave(self) -> None:
        """Close the connection, and wait until it is closed."""
        gone: Deferred[None] = Deferred()
        self.connection.on_lost = lambda: gone.callback(None)
        self.connection.drop()
        await gone
