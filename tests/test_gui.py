"""The window, on a screen of its own, used with real keys and clicks, against a real server.

A picture of the window at the end of each test is kept in $CHATBOX_SCREENSHOTS if that is set, else
in the test's own folder.
"""

from __future__ import annotations

import configparser
import gc
import hashlib
import os
import re
import runpy
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed

from chatbox.certificates import show_fingerprint
from chatbox.client.arguments import arguments
from chatbox.client.chat.events import Headcount, Kind, Presence, Request, UserList
from chatbox.client.connect.access import PLAIN, Access
from chatbox.client.files.transfers import Stage
from chatbox.client.gui.entries import Entry, Look
from chatbox.client.gui.settings import Settings
from chatbox.lan import Server
from tests.helpers.crash import Server as RealServer
from tests.helpers.processes import ROOT, Running, environment, script
from tests.helpers.screen import MISSING as NO_SCREEN
from tests.helpers.screen import Screen
from tests.helpers.server import Served, free_port, serving
from tests.test_console import CLIENT

try:
    from chatbox.client.gui.messages import ENTRIES_A_FRAME, TRIM
    from tests.helpers.window import MISSING as NO_KEYS
    from tests.helpers.window import Guest, Other, Person, sitting_at
except ImportError as error:
    if TYPE_CHECKING:
        raise
    NO_KEYS = f"this Python has no Tk ({error})"

MISSING = NO_SCREEN or NO_KEYS
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@pytest.fixture(scope="module", name="screen")
def _screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    with Screen(tmp_path_factory.mktemp("screen")) as screen:
        yield screen


@pytest.fixture(scope="module", name="served")
def _served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture(autouse=True)
def _no_rest_of_tk() -> Iterator[None]:
    """Collect here what a test leaves of Tk: in another thread its end would be that of Python."""
    yield
    gc.collect()


class Sit(Protocol):
    """Opens a window for a test."""

    def __call__(
        self, name: str = "", address: str = "", browse_on: str | None = None
    ) -> AbstractAsyncContextManager[Guest]:
        """Open it, with these already in the card."""


@pytest.fixture(name="sit")
def _sit(screen: Screen, tmp_path: Path, request: pytest.FixtureRequest) -> Sit:
    from twisted.internet import reactor

    folder = Path(os.environ.get("CHATBOX_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"{request.node.name.removeprefix('test_')}.png"

    def sit(
        name: str = "", address: str = "", browse_on: str | None = None
    ) -> AbstractAsyncContextManager[Guest]:
        return sitting_at(
            reactor, screen, tmp_path, picture, name=name, address=address, browse_on=browse_on
        )

    return sit


@asynccontextmanager
async def other(host: str, name: str, access: Access = PLAIN) -> AsyncIterator[Other]:
    """Somebody else in the room, as long as this lasts."""
    from twisted.internet import reactor

    somebody = await Other.join(reactor, host, name, access)
    try:
        yield somebody
    finally:
        await somebody.leave()


@pytest_twisted.ensureDeferred
async def test_login(sit: Sit, served: Served) -> None:
    """What is missing or wrong is said on the card, which then lets one in; Logout says goodbye."""
    async with sit() as guest, other(served.host, "bob") as bob:
        card = guest.window.login_card
        assert card is not None

        async def login_says(text: str) -> None:
            await guest.keys("Return")
            await guest.until(
                lambda: text in str(card.says.cget("text")) and not card.is_busy, repr(text)
            )

        await login_says("What is your name?")
        await guest.fill("alt+n", "bob")
        await login_says("Where is the server?")
        await guest.fill("alt+a", f"127.0.0.1:{free_port(socket.SOCK_STREAM)}")
        await login_says("nobody listens there")
        await guest.fill("alt+a", served.host)
        await login_says("You cannot join as bob: Somebody here already has this name")
        await guest.fill("alt+n", "alice")
        await guest.keys("Return")
        await guest.is_in()
        await guest.reads_that("You are in, as alice.")
        assert guest.app.room is not None
        assert sorted(guest.app.room.shown.online) == ["alice", "bob"]
        await guest.keys("alt+l")
        await guest.until(lambda: guest.window.login_card, "the card")
        assert guest.window.login_card is not None
        assert guest.window.login_card.says.cget("text") == "Goodbye."
        await guest.until(lambda: bob.saw_leave("alice"), "her leaving")
    assert guest.app.settings.name == "alice"


@pytest_twisted.ensureDeferred
async def test_mistake(sit: Sit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If we have made a mistake, there is a file that says more, as it is told."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("chatbox.client.gui.app.join_server", fail)
    async with sit("alice", "example.org") as guest:
        card = guest.window.login_card
        assert card is not None
        await guest.keys("Return")
        await guest.until(lambda: card.says.cget("text"), "the sentence")
        log = tmp_path / "window" / "log.txt"
        assert f"{log} says more" in str(card.says.cget("text"))
        assert "ZeroDivisionError" in log.read_text()


@pytest_twisted.ensureDeferred
async def test_talk(sit: Sit, served: Served) -> None:
    """Messages go to everyone or to one person, come by themselves, and fail where they are."""
    async with other(served.host, "bob") as bob, sit("alice", served.host) as guest:
        await guest.keys("Return")
        await guest.is_in()
        view = guest.window.room_view
        assert view is not None
        await guest.type("hello there")
        await guest.keys("shift+Return")
        await guest.type("on two lines")
        await guest.keys("Return")
        await guest.reads_that("hello there\non two lines\n")
        assert view.field.content == ""
        bob.say("hi alice")
        bob.say("for you only", "alice")
        await guest.reads_that("bob to you")
        await guest.reads_that("for you only")
        # A double click on a person makes the next message private.
        await guest.click_row(view.online.tree, view.room.shown.online.index("bob"), times=2)
        await guest.until(lambda: view.to_box.get() == "bob", "the recipient")
        await guest.type("psst")
        await guest.keys("Return")
        await guest.reads_that("You to bob")
        await guest.until(lambda: len(bob.texts) == 3, "the messages")
        assert bob.texts[0] == ("alice", "all", "hello there\non two lines")
        assert bob.texts[-1] == ("alice", "bob", "psst")
        # To somebody who is not there: it is said in its place, and can be sent again.
        await guest.fill("alt+t", "carol")
        await guest.keys("Return")
        await guest.type("are you there?")
        await guest.keys("alt+s")
        await guest.reads_that("Not sent to carol: Nobody here has that name.\nare you there?")
        text = view.messages.text

        def again() -> tuple[int, int]:
            x, y, width, height = text.bbox(text.search("Send again", "1.0")) or (0, 0, 0, 0)
            return text.winfo_rootx() + x + 3 * width, text.winfo_rooty() + y + height // 2

        await guest.until(lambda: text.bbox(text.search("Send again", "1.0")), "what to click on")
        await guest.click_where(again)
        await guest.until(lambda: view.field.content == "are you there?", "the draft")
        assert view.to_box.get() == "carol"
        await guest.keys("Escape", "alt+s")
        await guest.until(lambda: ("alice", "all", "are you there?") in bob.texts, "the message")
        # The last one that failed has a key, which is named there alone.
        for number in (2, 3):
            await guest.fill("alt+t", "carol")
            await guest.keys("Return")
            await guest.type(f"number {number}?")
            await guest.keys("alt+s")
            await guest.reads_that(f"number {number}?\nSend again   Alt+G\n")
            assert guest.reads.count("Alt+G") == 1
        await guest.keys("Escape", "alt+g")
        await guest.until(lambda: view.field.content == "number 3?", "the draft")
        assert view.to_box.get() == "carol"
        await guest.keys("ctrl+a", "Delete", "Escape")
        # Up brings back what was sent.
        await guest.keys("Up", "Up", "Up", "Up")
        await guest.until(lambda: view.field.content == "psst", "an earlier message")


@pytest_twisted.ensureDeferred
async def test_crowd(sit: Sit, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten thousand people one comes, and one goes, without the others being drawn anew."""
    async with sit("alice", served.host) as guest:
        await guest.keys("Return")
        await guest.is_in()
        view = guest.window.room_view
        assert view is not None
        room, tree, title = view.room, view.online.tree, view._online_title
        names = ("alice", *(f"person {number}" for number in range(9_999)))
        room.handle(UserList(Request(0, Kind.USERS), names))
        await guest.until(lambda: title.cget("text") == "Online (10000)", "the list")
        rows = tree.get_children()
        assert [tree.item(rows[at], "text") for at in (0, 1, -1)] == [
            *("alice (you)", "person 0", "person 9998")
        ]
        await guest.click_row(tree, 3)
        drawn: list[str] = []
        insert = tree.insert

        def draw(*place: Any, **row: Any) -> str:
            drawn.append(row["text"])
            return insert(*place, **row)

        monkeypatch.setattr(tree, "insert", draw)
        room.handle(Presence("zed", True))
        room.handle(Presence("person 1", False))
        await guest.until(lambda: len(tree.get_children()) == 10_000 and drawn, "the change")
        assert tree.get_children()[:-1] == (*rows[:2], *rows[3:])
        assert (tree.item(tree.get_children()[-1], "text"), drawn) == ("zed", ["zed"])
        # Who was chosen stays so, in another place.
        assert room.shown.online[view.online.selected or 0] == "person 2"
        await guest.click_row(tree, 2, times=2)
        await guest.until(lambda: view.to_box.get() == "person 2", "the recipient")
        room.handle(Headcount(12_000))
        await guest.until(lambda: title.cget("text") == "Online (12000)", "the number")
        assert drawn == ["zed"]
        await guest.keys("alt+t", "Down")
        await guest.until(lambda: len(view.to_box.cget("values")) == 9_999, "whom to choose from")


@pytest_twisted.ensureDeferred
async def test_download(sit: Sit, served: Served, tmp_path: Path) -> None:
    """A file is chosen in the list, stands half way, goes on when told to, and arrives whole."""
    async with sit("alice", served.host) as guest:
        await guest.keys("Return")
        await guest.is_in()
        view = guest.window.room_view
        assert view is not None
        row = [one.name for one in view.room.shown.files].index("film.bin")
        await guest.click_row(view.files.tree, row, times=2)
        downloads = guest.app.rows.downloads
        await guest.until(lambda: downloads and downloads[0].stage is Stage.HALF_WAY, "half of it")
        await guest.reads_that("film.bin stands half way, at 50 %. Proceed lets it go on")
        [line] = guest.window.transfers.lines.values()
        await guest.until(lambda: "Half way, at 50 %" in str(line.text.cget("text")), "the row")
        assert float(line.bar.cget("value")) == 50
        assert not (tmp_path / "film.bin").exists()
        await guest.keys("alt+p")
        await guest.reads_that("film.bin is complete:")
        assert hashlib.sha256((tmp_path / "film.bin").read_bytes()).hexdigest() == served.digest
        await guest.until(lambda: "Complete" in str(line.text.cget("text")), "the row")
        # Again, by typing: the name that is taken gets a number, and this time it is given up. What
        # stands in a field is selected on the way there.
        await guest.keys("alt+a", "Delete", "alt+n")
        await guest.type("film.bin")
        await guest.until(lambda: view.file_name.get() == "film.bin", "the name alone")
        assert view.save_as.get() == ""
        await guest.keys("alt+d")
        await guest.until(lambda: len(downloads) == 2, "another row")
        assert downloads[1].path == str(tmp_path / "film (2).bin")
        await guest.until(lambda: downloads[1].stage is Stage.HALF_WAY, "half of it")
        lines = guest.window.transfers.lines

        def is_gone(key: int) -> bool:
            return key not in lines

        await guest.until(lambda: id(downloads[1]) in lines, "its row")
        second = lines[id(downloads[1])]
        await guest.until(
            lambda: "Half way, at 50 %" in str(second.text.cget("text")), "half of it"
        )
        await guest.until(second.cancel.winfo_viewable, "the button")
        await guest.click_on(second.cancel)
        await guest.reads_that("film.bin did not arrive:")
        assert not (tmp_path / "film (2).bin").exists()
        # Both rows can be closed, and what cannot be saved is said.
        for key, one in list(lines.items()):
            await guest.until(one.close.winfo_viewable, "the button")
            await guest.click_on(one.close)
            await guest.until(partial(is_gone, key), "the end of its row")
        await guest.fill("alt+a", str(tmp_path / "film.bin"))
        await guest.keys("alt+d")
        await guest.reads_that("There is such a file already")


@pytest_twisted.ensureDeferred
async def test_server_lost_and_back(sit: Sit, tmp_path: Path) -> None:
    """A cut connection is shown, what is typed meanwhile waits, and all goes on by itself."""
    server = RealServer(tmp_path, free_port(socket.SOCK_STREAM), "--state-dir", str(tmp_path / "s"))
    (tmp_path / "shelf" / "a.txt").write_text("a")
    server.start()
    host = f"127.0.0.1:{server.port}"
    try:
        async with sit("alice", host) as guest:
            card = guest.window.login_card
            assert card is not None
            while guest.window.room_view is None:  # it takes a moment to start
                await guest.keys("Return")
                await guest.until(lambda: guest.window.room_view or not card.is_busy, "an answer")
            await guest.is_in()
            view = guest.window.room_view
            assert view is not None
            await guest.type("before")
            await guest.keys("Return")
            await guest.reads_that("before")
            server.kill()
            await guest.until(
                lambda: "Connection cut" in str(view.state_label.cget("text")), "the cut"
            )
            assert "Connection cut" in guest.window.root.title()
            await guest.type("meanwhile")
            await guest.keys("Return")
            await guest.reads_that("meanwhile\nsending")
            server.start()
            await guest.reads_that("Back again.")
            await guest.until(lambda: "sending" not in guest.reads, "the answer")
            assert guest.reads.count("meanwhile") == 1
            assert guest.reads.count("before") == 1
            await guest.until(lambda: view.state_label.cget("text") == "Connected", "what it says")
    finally:
        server.kill()


def shared(tmp_path: Path) -> str:
    """A folder with a file in it."""
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    return str(folder)


@pytest_twisted.ensureDeferred
async def test_hosting(sit: Sit, tmp_path: Path) -> None:
    """A room is hosted with the keyboard alone; its address is shown, and it ends when told to."""
    port = free_port(socket.SOCK_STREAM)
    folder = shared(tmp_path)
    async with sit("alice") as guest:
        card = await guest.host()
        await guest.keys("Return")
        await guest.until(lambda: "Choose a folder" in str(card.says.cget("text")), "advice")
        await guest.fill("alt+h", folder)
        with socket.create_server(("127.0.0.1", port)):
            await guest.fill("alt+t", str(port))
            await guest.keys("Return")
            await guest.until(
                lambda: "Another program" in str(card.says.cget("text")), "the reason"
            )
        await guest.keys("alt+s")
        await guest.is_in()
        await guest.until(lambda: guest.window.hosting_address, "the address")
        assert guest.window.hosting_address == f"127.0.0.1:{port}"
        async with other(guest.window.hosting_address, "bob") as bob:
            bob.say("nice room")
            await guest.reads_that("nice room")
        assert guest.app.hosting is not None
        guest.app.stop_hosting()
        await guest.until(lambda: guest.window.login_card, "the card")
        assert guest.window.hosting_address == ""
        await guest.until(lambda: not is_open(port), "the end of the server")


@pytest_twisted.ensureDeferred
async def test_hosting_encrypted(sit: Sit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With TLS the host is not asked, but told what others are asked; both choices are kept."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    port = free_port(socket.SOCK_STREAM)
    folder = shared(tmp_path)
    async with sit("alice") as guest:
        card = await guest.host()
        await guest.fill("alt+h", folder)
        await guest.fill("alt+t", str(port))
        await guest.fill("alt+l", "fast")
        await guest.keys("shift+Tab", "Escape")
        await guest.until(lambda: guest.window.login_card, "the card to log in with")
        card = await guest.host()
        await guest.fill("alt+h", folder)
        await guest.fill("alt+t", str(port))
        await guest.fill("alt+l", "fast")
        await guest.keys("shift+Tab", "space", "Return")
        await guest.until(lambda: "such as 800kB" in str(card.says.cget("text")), "advice")
        await guest.fill("alt+l", "2MB")
        await guest.keys("Return")
        await guest.is_in()
        await guest.until(lambda: guest.window.hosting_address, "the address")
        assert guest.app.hosting is not None
        fingerprint = guest.app.hosting.report.fingerprint
        assert fingerprint is not None
        await guest.reads_that(show_fingerprint(fingerprint))
        access = Access(tls=True, fingerprint=fingerprint)
        async with other(guest.window.hosting_address, "bob", access) as bob:
            bob.say("nobody else hears this")
            await guest.reads_that("nobody else hears this")
    settings = guest.app.settings
    assert (settings.shared_limit, settings.shared_tls) == ("2MB", True)
    assert not list(tmp_path.glob("**/known-servers"))


class FakeBrowser:
    """Has found these servers; the real one has tests of its own."""

    def __init__(
        self,
        servers: list[Server],
        reactor: object,
        changed: Callable[[list[Server]], None],
        interface: str,
    ) -> None:
        self._servers = servers
        self._changed = changed

    def start(self) -> None:
        """Tell."""
        self._changed(self._servers)

    def stop(self) -> Deferred[None]:
        """It is over."""
        return succeed(None)


@pytest_twisted.ensureDeferred
async def test_nearby_by_keyboard(sit: Sit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arrows choose from the first one on, and addresses keep their room in any size."""
    nearby = [Server(f"room {n}", f"192.0.2.{n}", 50000, False, "1.0") for n in (1, 2)]
    monkeypatch.setattr("chatbox.client.gui.app.Browser", partial(FakeBrowser, nearby))
    async with sit("alice", browse_on="") as guest:
        card, theme = guest.window.login_card, guest.window.theme
        assert card is not None
        tree = card.nearby.tree
        await guest.until(lambda: card.focus_get() is card.address, "a place to type")
        tree.focus_set()
        await guest.until(lambda: card.nearby.instate(["focus"]), "the ring")
        assert (card.address.get(), tree.selection()) == ("", ())
        await guest.keys("Down")
        await guest.until(lambda: card.address.get() == nearby[0].host, "the first one")
        await guest.keys("Down")
        await guest.until(lambda: card.address.get() == nearby[1].host, "the next one")
        await guest.keys("ctrl+plus")
        await guest.until(lambda: theme.zoom == 1, "larger letters")
        assert tree.column("c1", "width") == theme.grown(210)


@pytest_twisted.ensureDeferred
async def test_nearby(sit: Sit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server nearby is in the card; whether to trust it is asked, and so is the password."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    port = free_port(socket.SOCK_STREAM)
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "a.txt").write_text("a")
    nearby = Server("The reading room", "127.0.0.1", port, True, "1.0")
    monkeypatch.setattr("chatbox.client.gui.app.Browser", partial(FakeBrowser, [nearby]))
    command = [
        *script("twistd"),
        *("-n", "--pidfile=", "chatbox", "--files", "shelf", "--udp-ports", "0", "--no-announce"),
        *("--listen", f"tls-self-signed:tcp:{port}:interface=127.0.0.1", "--log", "memory:"),
        *("--auth", "memory:alice:secret"),
    ]
    with Running(command, cwd=tmp_path) as server:
        shown = server.read_until(r"its fingerprint is ([0-9a-f ]+)")[1].strip()
        async with sit("alice", browse_on="") as guest:
            card = guest.window.login_card
            assert card is not None
            tree = card.nearby.tree
            [row] = tree.get_children()
            assert tree.item(row, "text") == "The reading room"
            await guest.until(lambda: tree.bbox(row), "a drawing of it")
            await guest.click_row(tree, 0, times=2)
            await guest.until(lambda: guest.window.question_card, "a question")
            question = guest.window.question_card
            assert question is not None
            assert shown in " ".join(str(question.says.cget("text")).split())
            await guest.until(question.yes_button.winfo_viewable, "the button")
            guest.picture(tmp_path / "trust.png")
            await guest.keys("alt+t")
            await guest.until(guest.can_type_password, "a place to type")
            first = guest.window.question_card
            await guest.type("wrong")
            await guest.keys("Return")
            await guest.until(
                lambda: guest.window.question_card is not first and guest.can_type_password(),
                "the same again",
            )
            assert guest.window.question_card is not None
            assert "not the password" in str(guest.window.question_card.says.cget("text"))
            await guest.keys("Escape")
            await guest.until(
                lambda: (card := guest.window.login_card) and card.says.cget("text"), "the reason"
            )
            assert guest.window.login_card is not None
            assert "your account" in str(guest.window.login_card.says.cget("text"))
            await guest.keys("Return")
            await guest.until(guest.can_type_password, "a place to type")
            await guest.type("secret")
            await guest.keys("Return")
            await guest.is_in()
            assert guest.app.settings.tls


@pytest_twisted.ensureDeferred
async def test_choose(sit: Sit, served: Served, tmp_path: Path) -> None:
    """While a dialog chooses a file, the window goes on; what was chosen is where it is saved."""
    async with other(served.host, "bob") as bob, sit("alice", served.host) as guest:
        await guest.keys("Return")
        await guest.is_in()
        view = guest.window.room_view
        assert view is not None
        await guest.click_row(view.files.tree, 0)
        await guest.until(view.save_as.get, "the name")
        path = str(tmp_path / "other.txt")

        async def choose() -> None:
            await guest.keys("alt+b")
            await guest.xdotool("search", "--sync", "--onlyvisible", "--name", "Save as")
            bob.say("meanwhile")
            await guest.reads_that("meanwhile")
            await guest.click_dialog("Save as")
            # Nobody sees from outside whether the dialog takes keys yet: do as people do. What is
            # typed when it has just closed goes to where the choice is shown, and says the same...
            while guest.app.is_choosing:
                await guest.keys("ctrl+slash")
                await guest.type(path)
                await guest.keys("Return")
                await guest.wait(lambda: not guest.app.is_choosing, 0.5)

        for _ in range(5):
            await choose()
            # ... if all of it has come too late. If only a part has, one chooses again.
            if await guest.wait(lambda: view.save_as.get() == path, 5):
                break
        assert view.save_as.get() == path


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest_twisted.ensureDeferred
async def test_killed_while_hosting(screen: Screen, tmp_path: Path) -> None:
    """When the window is killed, its server ends, too."""
    from twisted.internet import reactor

    person = Person(reactor, screen)
    port = free_port(socket.SOCK_STREAM)
    (tmp_path / "shared").mkdir()
    env = environment(DISPLAY=screen.name, XDG_STATE_HOME=str(tmp_path))
    with Running([*CLIENT, "gui", "--name", "alice"], cwd=tmp_path, env=env) as program:
        await person.click(640, 20)
        window = ["search", "--sync", "--onlyvisible", "--class", "Chatbox"]
        await person.xdotool(*window)
        # Nobody sees from outside whether what is in it takes keys yet: do as people do.
        for _ in range(5):
            await person.keys("alt+h")
            await person.keys("alt+h", "ctrl+slash")
            await person.type(str(tmp_path / "shared"))
            await person.keys("alt+t", "ctrl+slash")
            await person.type(str(port))
            await person.keys("Return")
            if await person.wait(lambda: is_open(port), 20):
                break
        assert is_open(port)
        os.kill(program.pid, signal.SIGKILL)
        await person.until(lambda: not is_open(port), "the end of the server")


@pytest_twisted.ensureDeferred
async def test_terminated(screen: Screen, served: Served, tmp_path: Path) -> None:
    """As a command it joins at once, and says goodbye when it is told to end."""
    from twisted.internet import reactor

    person = Person(reactor, screen)
    env = environment(DISPLAY=screen.name, XDG_STATE_HOME=str(tmp_path))
    command = [*CLIENT, "gui", served.host, "--name", "alice", "--theme", "dark"]
    async with other(served.host, "bob") as bob:
        with Running(command, cwd=tmp_path, env=env) as program:
            await person.until(lambda: "alice" in str(bob.heard), "alice")
            os.kill(program.pid, signal.SIGTERM)
            await person.until(lambda: bob.saw_leave("alice"), "her goodbye")
            assert program.wait() == 128 + signal.SIGTERM


@pytest_twisted.ensureDeferred
async def test_scrollback(sit: Sit, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many messages are drawn a few a frame; the oldest go; a reader of old ones is left alone."""
    most = 1000
    monkeypatch.setattr("chatbox.client.gui.messages.MAX_SHOWN", most)
    async with sit("alice", served.host) as guest:
        await guest.keys("Return")
        await guest.is_in()
        view, room = guest.window.room_view, guest.app.room
        assert view is not None and room is not None
        text = view.messages.text
        await guest.until(lambda: not room.shown.entries, "all")
        room.shown.entries += [Entry(Look.SAID, f"number {at}", "bob") for at in range(most)]
        waiting = len(room.shown.entries)
        for _ in range(3):
            view.messages.draw(room.shown.entries)
            assert waiting - len(room.shown.entries) == ENTRIES_A_FRAME
            waiting = len(room.shown.entries)
        for _ in range(TRIM):
            room.shown.notice("one more")
        room.shown.notice("the last")  # these ask for the frames that draw the rest
        await guest.reads_that("the last")
        lines = int(text.index("end-1c").split(".")[0])
        assert most <= lines < most + 2 * TRIM
        assert "You are in" not in guest.reads
        assert f"number {most - 1}\n" in guest.reads
        await guest.until(lambda: text.yview()[1] == 1.0, "the end in view")
        # Back, by keys; what comes now does not move what is read.
        text.focus_set()
        await guest.keys("Prior")
        await guest.until(lambda: text.yview()[1] < 1.0, "an earlier part")
        top = text.get("@0,0 linestart", "@0,0 lineend")
        room.shown.notice("more")
        await guest.until(view.messages.more.winfo_viewable, "the button")
        assert text.get("@0,0 linestart", "@0,0 lineend") == top
        await guest.click_on(view.messages.more)
        await guest.until(lambda: text.yview()[1] == 1.0, "the end in view")
        await guest.until(lambda: not view.messages.more.winfo_viewable(), "no button")


@pytest_twisted.ensureDeferred
async def test_older(sit: Sit, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the top is a way to what was said before, by mouse and by key, as long as there is any."""
    monkeypatch.setattr("chatbox.client.gui.model.HISTORY_AT_JOIN", 6)
    monkeypatch.setattr("chatbox.client.gui.model.OLDER_AT_ONCE", 5)
    async with other(served.host, "bob") as bob, sit("alice", served.host) as guest:
        for number in range(16):
            bob.say(f"line {number}.{' of a text' * 200}")
        await guest.until(lambda: len(bob.texts) == 16, "the messages")
        await guest.keys("Return")
        await guest.is_in()
        view = guest.window.room_view
        assert view is not None
        messages, text = view.messages, view.messages.text
        await guest.reads_that("line 15.")
        await guest.until(lambda: text.yview()[0] > 0.0, "the end in view")
        await guest.until(lambda: not messages.older.winfo_viewable(), "no button")
        text.yview_moveto(0)
        await guest.until(messages.older.winfo_viewable, "the button")
        await guest.click_on(messages.older)
        await guest.reads_that("line 5.")
        await guest.until(lambda: not messages.older.winfo_viewable(), "what was read")
        assert "line 4." not in guest.reads
        text.focus_set()
        while "line 2." not in guest.reads:
            await guest.keys("Prior")
        numbers = [int(one) for one in re.findall(r"line (\d+)\.", guest.reads)]
        assert numbers == list(range(numbers[0], 16))


@pytest_twisted.ensureDeferred
async def test_cards_fit(sit: Sit, served: Served) -> None:
    """The window is never too small for a card, in large letters and with downloads below it."""
    async with sit("alice", served.host) as guest:
        window = guest.window

        def fits() -> bool:
            view = window.host_card or window.login_card
            assert view is not None
            card = view.card
            right = card.winfo_x() + card.winfo_width()
            bottom = card.winfo_y() + card.winfo_height()
            return (
                min(card.winfo_x(), card.winfo_y()) >= 0
                and right <= view.winfo_width()
                and bottom <= view.winfo_height()
            )

        await guest.keys("Return")
        await guest.is_in()
        window.root.geometry("640x540")
        await guest.until(lambda: window.root.winfo_width() == 640, "a smaller window")
        await guest.click(300, 5)  # where the pointer is, there the keys go
        assert guest.app.room is not None
        for _ in range(2):
            guest.app.room.download("film.bin")
        await guest.until(lambda: len(window.transfers.lines) == 2, "their rows")
        await guest.keys("alt+l")
        await guest.until(lambda: window.login_card, "the card")
        await guest.until(fits, "a window that is large enough to log in")
        host_card = await guest.host()
        await guest.until(fits, "a window that is large enough to host")
        await guest.keys("ctrl+plus", "ctrl+plus", "ctrl+plus")
        await guest.until(lambda: window.theme.zoom == 3 and fits(), "one for larger letters")
        host_card.say("A sentence of some length, which takes more than one line of the card. " * 3)
        await guest.until(fits, "one for more words")


@pytest_twisted.ensureDeferred
async def test_looks_keep_the_place(sit: Sit, served: Served) -> None:
    """Whoever reads the end still does in other letters or colours; and so does one far up."""
    async with sit("alice", served.host) as guest:
        await guest.keys("Return")
        await guest.is_in()
        view, theme = guest.window.room_view, guest.window.theme
        assert view is not None
        text = view.messages.text
        for number in range(200):
            view.room.shown.notice(f"number {number} {'of many ' * 20}")
        await guest.reads_that("number 199")
        await guest.until(lambda: text.yview()[1] == 1.0, "the end in view")

        async def press(key: str) -> None:
            before = (theme.palette, theme.zoom)
            await guest.keys(key)
            await guest.until(lambda: (theme.palette, theme.zoom) != before, "other looks")
            guest.window.root.update_idletasks()

        changes = ("ctrl+plus",) * 4 + ("ctrl+t", "ctrl+0", "ctrl+minus", "ctrl+t")
        for key in changes:
            await press(key)
            await guest.until(lambda: text.yview()[1] == 1.0, "the end in view")
            assert not view.messages.more.winfo_viewable()
        view.room.shown.notice("more")
        await guest.reads_that("more")
        await guest.until(lambda: text.yview()[1] == 1.0, "the end in view")
        text.focus_set()
        await guest.keys("Prior", "Prior")
        await guest.until(lambda: text.yview()[1] < 1.0, "an earlier part")
        for key in changes:
            await press(key)
            assert text.bbox("end-1c") is None, key


@pytest_twisted.ensureDeferred
async def test_looks(sit: Sit, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dark and light, larger and smaller: by keys, and remembered."""
    async with sit("alice", served.host) as guest:
        # A small screen, on which the window cannot grow with its letters.
        monkeypatch.setattr(guest.window.root, "winfo_screenwidth", lambda: 700)
        monkeypatch.setattr(guest.window.root, "winfo_screenheight", lambda: 560)
        await guest.keys("Return")
        await guest.is_in()
        view, theme = guest.window.room_view, guest.window.theme
        assert view is not None
        text, usual = view.messages.text, theme.text.metrics("linespace")
        assert theme.palette.name == "light"
        assert text.cget("background") == theme.palette.surface
        view.room.shown.notice("a line of\nseveral")
        await guest.until(lambda: text.tag_ranges("list"), "a list")
        assert text.get(*text.tag_ranges("list")) == "a line of\nseveral\n"
        await guest.keys("ctrl+t")
        await guest.until(lambda: theme.palette.name == "dark", "the dark theme")
        assert text.cget("background") == theme.palette.surface
        await guest.type("ab")
        await guest.keys("ctrl+t", "ctrl+t")
        await guest.type("c")
        await guest.until(lambda: view.field.content.endswith("c"), "what is typed")
        assert view.field.content == "abc"
        await guest.keys("ctrl+plus", "ctrl+plus", "ctrl+plus")
        await guest.until(lambda: theme.zoom == 3, "larger letters")
        assert theme.text.metrics("linespace") > usual
        guest.window.root.geometry("700x560")
        await guest.until(lambda: guest.window.root.winfo_width() == 700, "a smaller window")
        await guest.until(lambda: is_whole(view.send_button), "the button")
        await guest.until(lambda: view.field.text.winfo_width() >= theme.px(120), "room to type in")
        await guest.until(lambda: view.to_label.cget("text") == "Send to", "a label that fits")
        await guest.until(lambda: view.files_title.cget("text") == "Files (2)", "a title that fits")
        guest.window.root.geometry("1080x560")
        await guest.until(lambda: "everyone" in str(view.to_label.cget("text")), "all of it")
        await guest.until(lambda: view.files_title.cget("text") == "Server files (2)", "the same")
        guest.window.root.geometry("700x560")
        await guest.until(lambda: view.to_label.cget("text") == "Send to", "a smaller window again")
    assert (guest.app.settings.theme, guest.app.settings.zoom) == ("dark", 3)
    assert "700x560" in guest.app.settings.geometry


@pytest_twisted.ensureDeferred
async def test_large_letters(sit: Sit, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The window grows with its letters, and where it cannot what matters more is there."""
    async with sit("alice", served.host) as guest:
        await guest.keys("Return")
        await guest.is_in()
        root, view, theme = guest.window.root, guest.window.room_view, guest.window.theme
        assert view is not None
        root.geometry("640x540")
        await guest.until(lambda: root.winfo_width() == 640, "a small window")
        await guest.click(300, 5)  # where the pointer is, there the keys go
        await guest.keys(*["ctrl+plus"] * 6)
        await guest.until(lambda: theme.zoom == 6, "large letters")

        def has_room() -> bool:
            rows = view.online.tree.winfo_height() // theme.text.metrics("linespace")
            return rows >= 2 and is_whole(view.state_label) and is_whole(view.logout_button)

        await guest.until(has_room, "a larger window")
        await guest.until(lambda: served.host in view.who.cget("text"), "where she is")
        monkeypatch.setattr(root, "winfo_screenwidth", lambda: 640)
        await guest.keys("ctrl+plus")
        await guest.until(lambda: theme.zoom == 7 and root.minsize()[0] == 640, "a small screen")
        root.geometry("640x540")
        await guest.until(lambda: root.winfo_width() == 640, "a small window")
        await guest.until(lambda: is_whole(view.state_label), "the state")
        await guest.until(lambda: is_whole(view.logout_button), "the way out")
        await guest.until(lambda: view.who.cget("text") == "alice", "less of that")


@pytest_twisted.ensureDeferred
async def test_small_from_the_start(sit: Sit, served: Served, tmp_path: Path) -> None:
    """The sizes of files are whole in a window that was never larger."""
    (tmp_path / "window").mkdir()
    Settings(geometry="660x540+0+0").save(str(tmp_path / "window" / "settings.json"))
    async with sit("alice", served.host) as guest:
        await guest.keys("Return")
        await guest.is_in()
        assert guest.window.room_view is not None
        tree = guest.window.room_view.files.tree
        assert guest.window.root.winfo_width() < 700
        await guest.until(
            lambda: tree.column("#0", "width") + tree.column("c1", "width") <= tree.winfo_width(),
            "columns that fit",
        )


@pytest_twisted.ensureDeferred
async def test_another_screen(sit: Sit, tmp_path: Path) -> None:
    """A window that was on a larger screen is all on this one."""
    (tmp_path / "window").mkdir()
    Settings(geometry="1200x1000+2500+30").save(str(tmp_path / "window" / "settings.json"))
    async with sit() as guest:
        geometry = guest.window.root.geometry
        await guest.until(lambda: geometry() == "1200x900+80+0", "its place on this screen")


def is_whole(widget: Any) -> bool:
    """Whether all that a widget wants to show is in the window."""
    right = widget.winfo_rootx() - widget.winfo_toplevel().winfo_rootx() + widget.winfo_reqwidth()
    return bool(
        widget.winfo_width() >= widget.winfo_reqwidth()
        and right <= widget.winfo_toplevel().winfo_width()
    )


def underlined(widget: Any) -> set[str]:
    """The letters that are underlined in a widget and all that is in it."""
    found: set[str] = set().union(*map(underlined, widget.winfo_children()))
    if widget.winfo_class() in ("TButton", "TLabel") and int(str(widget.cget("underline"))) >= 0:
        found.add(str(widget.cget("text"))[int(str(widget.cget("underline")))].lower())
    return found


@pytest_twisted.ensureDeferred
async def test_letters(sit: Sit, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alt with a letter does what the letter is underlined for, and nothing where it is not."""
    async with sit("alice", served.host) as guest:
        window = guest.window
        root, theme = window.root, window.theme
        mistakes: list[tuple[object, ...]] = []
        monkeypatch.setattr(
            root, "report_callback_exception", lambda *error: mistakes.append(error)
        )

        async def press_the_others(*here: str) -> None:
            assert underlined(root) == set(here)
            for letter in ascii_lowercase:
                others_too = "pg" if window.room_view is not None else "p"
                assert bool(root.bind(f"<Alt-{letter}>")) == (letter in (*here, *others_too)), (
                    letter
                )
            view, palette = window._view, theme.palette
            others = sorted(set(ascii_lowercase) - set(here))
            await guest.keys(*(f"alt+{letter}" for letter in others), "F5", "ctrl+t")
            await guest.until(lambda: theme.palette is not palette, "the last of these keys")
            assert (mistakes, window._view) == ([], view)

        await press_the_others(*"nalh")
        await guest.host()
        await press_the_others(*"nhcltsb")
        await guest.keys("Escape")
        await guest.until(lambda: window.login_card, "the card")
        await press_the_others(*"nalh")
        window.ask("?", "", yes="Trust it", secret=False, answer=lambda _: guest.app.show_login())
        await press_the_others(*"tc")
        await guest.keys("alt+c")
        await guest.until(lambda: window.login_card, "the card")
        await guest.keys("alt+l")
        await guest.is_in()
        await press_the_others(*"ulotmsfnabd")
        await guest.keys("alt+l")
        await guest.until(lambda: window.login_card, "the card")
        await press_the_others(*"nalh")
        card = window.login_card
        assert card is not None
        card.set_busy(True)
        await press_the_others(*"nalh")


@pytest_twisted.ensureDeferred
async def test_hostile_text(sit: Sit, served: Served) -> None:
    """Names and texts that mean something to Tcl, or to a terminal, are shown as they are."""
    name = "[exit] {$x"
    async with other(served.host, name) as stranger, sit("alice", served.host) as guest:
        await guest.keys("Return")
        await guest.is_in()
        view = guest.window.room_view
        assert view is not None
        stranger.say("{[destroy .]} $env(HOME) \\ \N{GRINNING FACE} \u05e9\u05dc\u05d5\u05dd")
        await guest.reads_that("{[destroy .]} $env(HOME) \\ \N{GRINNING FACE}")
        assert f"{name}   " in guest.reads
        row = view.room.shown.online.index(name)
        tree = view.online.tree
        assert tree.item(tree.get_children()[row], "text") == name
        await guest.click_row(view.online.tree, row, times=2)
        await guest.until(lambda: view.to_box.get() == name, "the recipient")
        await guest.type("yes?")
        await guest.keys("Return")
        await guest.until(lambda: ("alice", name, "yes?") in stranger.texts, "the message")


def test_icon() -> None:
    """The icons are what their script draws, and the menu's entry starts what there is."""
    folder = ROOT / "chatbox" / "client" / "gui" / "desktop"
    program = ROOT / "docs" / "images" / "icon.py"
    drawn = runpy.run_path(str(program))
    assert (folder / "chatbox.svg").read_text() == drawn["svg"]()
    assert (folder / "64" / "chatbox.png").read_bytes() == drawn["paint"](64)
    entry = configparser.ConfigParser(interpolation=None)
    entry.optionxform = str  # type: ignore[assignment,method-assign]
    entry.read(folder / "chatbox.desktop")
    assert entry["Desktop Entry"]["Exec"] == "chatbox gui"
    assert arguments().parse_args(["gui"]).command == "gui"


def test_no_screen(tmp_path: Path) -> None:
    """Without a desktop it says so."""
    env = environment(DISPLAY=":nowhere", XDG_STATE_HOME=str(tmp_path))
    with Running([*CLIENT, "gui"], cwd=tmp_path, env=env) as program:
        assert program.wait() == 1
        assert "Is there a graphical desktop?" in "".join(program.said)
