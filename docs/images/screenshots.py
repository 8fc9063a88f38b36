"""Takes the pictures of the window that README shows: window-dark.png and window-light.png.

    python docs/images/screenshots.py

A server, a window on a screen that nobody sees (Xvfb), and the others who talk are real; what they
say is written here.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from chatbox.client.files.transfers import Stage
from chatbox.client.gui.app import App
from tests.helpers.screen import Screen
from tests.helpers.server import serving
from tests.helpers.window import Guest, Other

reactor: Any = _reactor
FOLDER = Path(__file__).parent
FILES = {
    "harbour at dawn.mp4": 48_300_000,
    "minutes.txt": 4_120,
    "sketches.zip": 12_600_000,
    "tide tables.pdf": 861_000,
}


async def talk(guest: Guest, host: str) -> list[Other]:
    """Let all say what they say."""
    names = ("bob", "carol", "frank")
    bob, carol, frank = [await Other.join(reactor, host, name) for name in names]
    room = guest.app.room
    assert room is not None

    async def heard(text: str) -> None:
        await guest.reads_that(text)

    bob.say("Morning! The film of the harbour is on the shelf.")
    await heard("shelf.")
    bob.say("Half of it is fog, to be honest.")
    await heard("honest.")
    room.send("I like fog. Downloading it now.")
    await heard("Downloading it now.")
    carol.say("Could somebody look at the sketches before we meet?\nThe second one needs a title.")
    await heard("needs a title.")
    frank.say("I will. Give me ten minutes.")
    await heard("ten minutes.")
    carol.say("The boat is free on Saturday, do not tell the others yet.", "alice")
    await heard("the others yet.")
    room.send("I won't!", "carol")
    await heard("I won't!")
    room.send("Are you coming, too?", "erin")
    await heard("Are you coming, too?")
    return [bob, carol, frank]


async def take(folder: Path) -> None:
    """Take both."""
    with Screen(folder) as screen, serving(folder) as served:
        shelf = served.film.parent
        served.film.unlink()
        (shelf / "a note.txt").unlink()
        chance = random.Random(1)
        for name, size in FILES.items():
            (shelf / name).write_bytes(chance.randbytes(size))
        home = folder / "Downloads"
        home.mkdir()
        app = App(reactor, str(folder / "window"), downloads="~/Downloads")
        app.settings.geometry = "1120x760"
        window = app.open(screen.name)
        guest = Guest(reactor, screen, app, window)
        app.login("alice", served.host, False)
        await guest.is_in()
        view = window.room_view
        assert view is not None
        others = await talk(guest, served.host)
        view.files.tree.selection_set(view.files.tree.get_children()[0])
        await guest.until(view.save_as.get, "the name")
        view.download_button.invoke()
        await guest.until(lambda: app.rows.downloads[0].stage is Stage.HALF_WAY, "half of it")
        window.transfers.proceed()
        await guest.reads_that("is complete")
        view.files.tree.selection_set(view.files.tree.get_children()[2])
        await deferLater(reactor, 0.1)
        view.download_button.invoke()
        await guest.until(lambda: app.rows.downloads[1].stage is Stage.HALF_WAY, "half of it")
        view.to_box.set("")
        view.field.set("See you at ten, then")
        window.root.event_generate("<Motion>", warp=True, x=1200, y=850)
        for theme in ("dark", "light"):
            window.theme.use(theme)
            await deferLater(reactor, 0.3)
            guest.picture(FOLDER / f"window-{theme}.png")
        for other in others:
            await other.leave()
        app.quit()
        await app.until_closed()
        app.close()


def main() -> None:
    """Take them, and end."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = os.environ["HOME"] = folder
        os.chdir(folder)
        done = Deferred.fromCoroutine(take(Path(folder)))
        done.addErrback(lambda failure: failure.printTraceback())
        done.addBoth(lambda _: reactor.callLater(0, reactor.stop))
        reactor.run()


if __name__ == "__main__":
    main()
