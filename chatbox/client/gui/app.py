"""``chatbox gui``: the window, the reactor, and what passes between them.

Tk and the reactor share one thread. Twisted's `tksupport` lets Tk do its work a hundred times a
second, from a timer of the reactor, so neither waits for the other as long as nothing in Tk waits
by itself; the one thing that would, a dialog for choosing files, runs as a process of its own.
"""

from __future__ import annotations

import gc
import math
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from platformdirs import user_documents_dir, user_state_dir
from twisted.internet import tksupport
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import Logger

from chatbox.certificates import show_fingerprint
from chatbox.client.chat.events import Event, Joined, Lost
from chatbox.client.connect.access import PLAIN, Access, Advice
from chatbox.client.connect.connection import LEAVE_TIMEOUT, ChatConnection, join_server
from chatbox.client.connect.hosts import endpoint_for
from chatbox.client.connect.reconnector import Reconnector
from chatbox.client.exits import Exit, Stop
from chatbox.client.files.desktop import open_file
from chatbox.client.files.fetcher import Fetcher
from chatbox.client.gui.downloads import Rows
from chatbox.client.gui.host import Plan, address_for_others
from chatbox.client.gui.hosting import Hosting
from chatbox.client.gui.mistakes import Mistakes
from chatbox.client.gui.model import Room
from chatbox.client.gui.settings import Settings
from chatbox.lan import Server
from chatbox.lan.browse import Browser
from chatbox.lan.invite import own_address
from chatbox.steady import wall_clock
from chatbox.text import printable

if TYPE_CHECKING:
    from chatbox.client.connect.trust import Meeting
    from chatbox.client.gui.window import Window

__all__ = ["App", "gui"]

_LOOPBACK: Final = "127.0.0.1"

_ADVICE: Final = Advice(
    rename="Choose another name.",
    use_tls="Tick “Encrypted (TLS)”.",
    give_password="It is needed to go by this name.",
    check_account="Is the name the one of your account?",
    protect_password="Tick “Encrypted (TLS)”.",
    perhaps_tls="Is this a port for TLS? Then tick “Encrypted (TLS)”.",
)


async def gui(reactor: Any, options: Namespace) -> Exit:
    """Show the window until it is closed."""
    app = App(
        reactor,
        os.path.join(user_state_dir("chatbox"), "window"),
        downloads=options.settings.downloads,
        rate_limit=options.settings.limit,
        access=Access.from_options(options),
        browse_on=options.on,
    )
    settings = app.settings
    settings.name = options.name or settings.name or options.settings.name
    settings.address = options.host or settings.address
    settings.theme = options.theme or settings.theme
    app.open()
    settings.tls = options.tls or (settings.tls and not options.host)
    if options.host:
        app.login(settings.name, settings.address, settings.tls)
    try:
        return await app.until_closed()
    finally:
        app.close()


class App:
    """One window with its connections.

    `folder` is where it keeps what it remembers, `downloads` where files go. `rate_limit` is in
    bytes per second, for all downloads. Servers nearby are looked for on the network of the
    address `browse_on`; "" is for all networks, None for not at all.
    """

    def __init__(
        self,
        reactor: Any,
        folder: str,
        *,
        access: Access = PLAIN,
        downloads: str = "",
        rate_limit: int | None = None,
        browse_on: str | None = None,
    ) -> None:
        self.rows = Rows()
        self.room: Room | None = None
        self.hosting: Hosting | None = None
        self.is_choosing = False
        """Whether a dialog is open."""
        self._reactor = reactor
        self._folder = folder
        self._downloads = downloads or _download_folder()
        self._rate_limit = rate_limit
        self._settings_path = os.path.join(folder, "settings.json")
        self.settings = Settings.load(self._settings_path)
        self._mistakes: Mistakes | None = None
        self._window: Window | None = None
        self._connection: ChatConnection | None = None
        self._home: ChatConnection | None = None
        """The connection to the server that runs here."""
        self._reconnector: Reconnector | None = None
        self._fetchers: list[Fetcher] = []
        self._login: Deferred[None] | None = None
        self._access = replace(
            access, advice=_ADVICE, ask_password=self._ask_password, meet=self._trust
        )
        self._browse_on = browse_on
        self._browser: Browser | None = None
        self._nearby: list[Server] = []
        self._done: Deferred[Exit] = Deferred()
        self._closing = False

    # From the beginning to the end

    def open(self, screen: str = "") -> Window:
        """Show the window on a screen (an X display, blank for the usual one). Raises Stop."""
        try:
            import tkinter

            from chatbox.client.gui.window import Window
        except ImportError:
            raise Stop(
                Exit.FAILED,
                "This Python has no Tk, which draws the window. Install it first (on Debian and"
                " Ubuntu: apt install python3-tk), or use chatbox join.",
            ) from None
        try:
            self._window = Window(self.settings, self.rows, self, screen)
        except tkinter.TclError as error:
            raise Stop(
                Exit.FAILED,
                f"No window can be opened ({printable(str(error))}). Is there a graphical desktop?"
                " If not, use chatbox join.",
            ) from None
        self._mistakes = Mistakes(self._folder)
        tksupport.install(self._window.root, reactor=self._reactor)
        self.show_login()
        return self._window

    def show_login(self, says: str = "") -> None:
        """Show the card to log in with, and on it a sentence that is no complaint."""
        self.window.show_login(says, bad=False)
        if self._browser is None and self._browse_on is not None:
            self._browser = Browser(self._reactor, self._found, interface=self._browse_on)
            self._browser.start()
        self._found(self._nearby)

    def _found(self, servers: list[Server]) -> None:
        self._nearby = servers
        if self.window.login_card is not None:
            self.window.login_card.show_servers(servers)

    @property
    def window(self) -> Window:
        """The window, from `open` to `close`."""
        assert self._window is not None
        return self._window

    async def until_closed(self) -> Exit:
        """Wait until the person closes the window. If cancelled, close it as they would."""
        try:
            return await self._done
        except CancelledError:
            self._done = Deferred()
            self.quit()
            await self._done
            raise

    def quit(self) -> None:
        """Close the window, then say goodbye, and stop the server if there is one."""
        if self._closing:
            return
        self._closing = True
        self.window.remember()
        self.settings.save(self._settings_path)
        self.window.root.withdraw()
        self._run(self._leave_all())

    def close(self) -> None:
        """Take the window away."""
        if self._window is not None:
            tksupport.uninstall()
            self._window.destroy()
            self._window = None
            if self._mistakes is not None:
                self._mistakes.close()
            # Its rest must not be left to another thread, which must not speak with Tk.
            gc.collect()

    async def _leave_all(self) -> None:
        try:
            self.cancel_login()
            self.rows.stop()
            if self._connection is not None:
                await self._say_goodbye(self._connection)
            for fetcher in self._fetchers:
                await fetcher.tell_ends()
            if self.hosting is not None:
                await self.hosting.stop()
            if self._browser is not None:
                await self._browser.stop()
        finally:
            self._done.callback(Exit.OK)

    async def _say_goodbye(self, connection: ChatConnection) -> None:
        gone: Deferred[None] = Deferred()
        connection.on_lost = lambda: gone.callback(None)
        if self.room is not None:
            self.room.logout()
        if connection.transport is not None:
            try:
                await gone.addTimeout(LEAVE_TIMEOUT, self._reactor)
            except TimeoutError:
                connection.drop()

    # What a person does

    def login(self, name: str, address: str, tls: bool) -> None:
        """Join a room."""
        self.settings.name, self.settings.address, self.settings.tls = name, address, tls
        access = replace(self._access, tls=tls)
        self._start_login(self._log_in(name, address, printable(address), access))

    def cancel_login(self) -> None:
        """Stop trying to join."""
        if self._login is not None:
            self._login.cancel()

    def host(self, name: str, plan: Plan) -> None:
        """Start a server here, and join it."""
        self.settings.name, self.settings.shared = name, plan.folder
        self.settings.shared_limit, self.settings.shared_tls = plan.limit, plan.tls
        self._start_login(self._host(name, plan))

    def stop_hosting(self) -> None:
        """Stop the server that runs here."""
        if self.hosting is not None:
            hosting, self.hosting = self.hosting, None
            self.window.show_hosting("", "")
            if self._connection is not None and self._connection is self._home:
                self._forget_connection()
                self.show_login("You have closed your room.")
            self._run(hosting.stop())

    def choose_path(self, kind: str, path: str, take: Callable[[str], None]) -> None:
        """Have a path chosen in a dialog; only one is open at a time."""
        if self.is_choosing:
            return
        self.is_choosing = True
        command = ["-m", "chatbox.client.gui.choose", kind, path]
        env = {**os.environ, "DISPLAY": self.window.root.winfo_screen()}
        chosen = getProcessOutputAndValue(sys.executable, command, env, reactor=self._reactor)

        def give(result: tuple[bytes, bytes, int]) -> None:
            self.is_choosing = False
            if result[0] and not self._closing:
                take(os.fsdecode(result[0]))

        chosen.addCallback(give)
        chosen.addErrback(self._log_bug)

    def open_file(self, path: str) -> None:
        """Show a file that has come."""

        def tell(sentence: str) -> None:
            if self.room is not None:
                self.room.shown.notice(sentence)

        open_file(self._reactor, path, tell)

    # How it works

    def _start_login(self, attempt: Coroutine[Deferred[Any], Any, None]) -> None:
        if self._login is not None:
            attempt.close()
            return
        card = self.window.host_card or self.window.login_card
        self._login = self._run(self._try(attempt))
        if self._login is not None and card is not None:
            card.set_busy(True)

    async def _try(self, attempt: Coroutine[Deferred[Any], Any, None]) -> None:
        """Run an attempt to join, and show on the card what came of it."""
        says = ""
        try:
            await attempt
        except Stop as stop:
            says = stop.sentence
        except CancelledError:
            says = "Given up."
        except Exception:
            Logger().failure("The window could not join")
            log = self._mistakes.path if self._mistakes is not None else ""
            more = f"; {printable(log)} says more" if log else ""
            says = f"That went wrong, by a mistake in this program{more}."
        self._login = None
        if says and not self._closing:
            if self.window.question_card is not None:
                self.show_login()
            self._say_on_card(says)

    def _say_on_card(self, says: str) -> None:
        card = self.window.host_card or self.window.login_card
        if card is not None:
            card.set_busy(False)
            card.say(says)
            card.focus_first()

    def _ask(self, title: str, text: str, *, yes: str, secret: bool) -> Deferred[str | None]:
        """Ask a person a question on the way in; afterwards it goes on as it was."""
        answered: Deferred[str | None] = Deferred()

        def answer(given: str | None) -> None:
            self.show_login()
            if self.window.login_card is not None:
                self.window.login_card.set_busy(True)
            answered.callback(given)

        self.window.ask(title, text, yes=yes, secret=secret, answer=answer)
        return answered

    def _ask_password(self, account: str, wrong: bool) -> Deferred[str | None]:
        text = f"{printable(account)} has a password on this server."
        if wrong:
            text = "That was not the password, or there is no such account. Try again, or Cancel."
        return self._ask("Password", text, yes="Login", secret=True)

    def _trust(self, meeting: Meeting) -> Deferred[bool]:
        text = "\n".join(meeting.introduce())
        asked = self._ask("A new server", text, yes="Trust it", secret=False)
        return asked.addCallback(lambda answer: answer is not None)

    async def _log_in(self, name: str, address: str, place: str, access: Access) -> None:
        connection = await join_server(self._reactor, address, name, access)
        endpoint, _ = endpoint_for(self._reactor, address, access)
        fetcher = Fetcher(self._reactor, connection.peer)
        self._fetchers.append(fetcher)
        self._connection = connection
        self._reconnector = Reconnector(self._reactor, connection, endpoint, math.inf)
        room = self.room = Room(
            connection.session,
            host=connection.peer,
            fetch=fetcher,
            flush=connection.flush,
            clock=wall_clock(self._reactor),
            rows=self.rows,
            folder=self._downloads,
            rate_limit=self._rate_limit,
            open_file=self.open_file,
        )
        self.window.show_room(room, place)
        room.handle(Joined(connection.session.name, connection.session.key))
        connection.listen(lambda event: self._hear(room, event))

    async def _host(self, name: str, plan: Plan) -> None:
        if self.hosting is not None:  # a room that was left, but not closed
            self.window.show_hosting("", "")
            hosting, self.hosting = self.hosting, None
            await hosting.stop()
        hosting = Hosting(self._reactor, self._hosting_ended)
        await hosting.start(plan, os.path.join(self._folder, "server"))
        port, fingerprint = hosting.report.port, hosting.report.fingerprint
        assert port is not None  # it has started
        self.hosting = hosting
        try:
            own = Access(tls=plan.tls, fingerprint=fingerprint, advice=_ADVICE)
            await self._log_in(name, f"{_LOOPBACK}:{port}", "your own room", own)
            self._home = self._connection
        except BaseException:
            self.hosting = None
            await hosting.stop()
            raise
        who = "Others" if plan.for_everyone else "On this computer others"
        how = "tick “Encrypted (TLS)” and type" if plan.tls else "type"
        address = own_address() if plan.for_everyone else _LOOPBACK
        self.window.show_hosting(address_for_others(address, port, plan.tls), f"{who} {how}:")
        if fingerprint is not None and self.room is not None:
            self.room.shown.notice(
                "Your room is encrypted. Who comes for the first time is shown a fingerprint, which"
                f" must be\n{show_fingerprint(fingerprint)}"
            )

    def _hosting_ended(self, sentence: str) -> None:
        self.hosting = None
        if not self._closing:
            self.window.show_hosting("", "")
            if self.room is not None:
                self.room.shown.notice(sentence)

    def _hear(self, room: Room, event: Event) -> None:
        room.handle(event)
        if isinstance(event, Lost) and room is self.room:
            self._forget_connection()
            if event.expected and not self._closing:
                self.show_login("Goodbye.")

    def _forget_connection(self) -> None:
        if self._reconnector is not None:
            self._reconnector.stop()
        if self._connection is not None:
            self._connection.drop()
        self._reconnector = self._connection = self.room = None

    def _run(self, coroutine: Coroutine[Deferred[Any], Any, None]) -> Deferred[None] | None:
        """Let it run; None if it has ended already."""
        running = Deferred.fromCoroutine(coroutine)
        running.addErrback(self._log_bug)
        return None if running.called else running

    def _log_bug(self, failure: Any) -> None:
        Logger().failure("The window's work has failed", failure)


def _download_folder() -> str:
    """Where people look for what they have downloaded."""
    beside = os.path.join(os.path.dirname(user_documents_dir()), "Downloads")
    return beside if os.path.isdir(beside) else os.path.expanduser("~")
