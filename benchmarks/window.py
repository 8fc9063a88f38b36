"""How long does the window keep the reactor busy, with 10 000 messages, and 10 000 people?

    python benchmarks/window.py

draws on a screen without hardware (Xvfb). A step is what is done between two looks of the reactor
at its sockets: our own work in Python and Tcl, Tk's layout, and its drawing commands to the X
server. Shown are milliseconds; a screen shows a picture every 16.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chatbox.client.chat.events import Kind, Presence, Request, UserList
from chatbox.client.chat.session import ClientSession
from chatbox.client.gui.downloads import Rows
from chatbox.client.gui.entries import Entry, Look
from chatbox.client.gui.messages import ENTRIES_A_FRAME
from chatbox.client.gui.model import Room
from chatbox.client.gui.settings import Settings
from chatbox.client.gui.shown import MAX_SHOWN, Part
from chatbox.client.gui.window import Window
from tests.helpers.client import FakeFetch
from tests.helpers.screen import Screen

WORDS = ["the", "of", "and", "to", "in", "is", "for", "that", "it", "server", "film", "perhaps"]
PEOPLE = ["alice", "bob", "carol", "dave", "erin", "frank"]


class Nobody:
    """Nothing is done outside the window."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def entry(chance: random.Random) -> Entry:
    """A message of one to forty words, some with a heading of their own."""
    who = chance.choice(PEOPLE)
    text = " ".join(chance.choices(WORDS, k=chance.randint(1, 40)))
    look = Look.PRIVATE if chance.random() < 0.1 else Look.SAID
    return Entry(look, text, who, who if chance.random() < 0.6 else "", "12:00")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--messages", type=int, default=MAX_SHOWN)
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder, Screen(Path(folder)) as screen:
        window = Window(Settings(), Rows(), Nobody(), screen.name)  # type: ignore[arg-type]
        room = Room(
            ClientSession(),
            host="example.org",
            fetch=FakeFetch(),
            flush=lambda: None,
            clock=time.time,
            rows=Rows(),
        )
        window.show_room(room, "example.org")
        view = window.room_view
        assert view is not None
        messages, root = view.messages, window.root
        root.update()
        rows: list[tuple[str, list[float]]] = []

        def measure(what: str, step: Callable[[], object], steps: int = options.steps) -> None:
            times = []
            for _ in range(steps):
                start = time.perf_counter()
                step()
                root.update()
                times.append(1000 * (time.perf_counter() - start))
            rows.append((what, times))

        waiting = deque(entry(chance) for _ in range(options.messages))
        measure(
            f"{ENTRIES_A_FRAME} messages, while {options.messages} come",
            lambda: messages.draw(waiting),
            options.messages // ENTRIES_A_FRAME,
        )

        def arrive(count: int) -> None:
            room.shown.entries += [entry(chance) for _ in range(count)]
            view.show(Part.MESSAGES)

        measure("1 message arrives", lambda: arrive(1))
        measure(f"{ENTRIES_A_FRAME} messages arrive", lambda: arrive(ENTRIES_A_FRAME))
        measure("a page back", lambda: messages.text.yview_scroll(-1, "pages"))
        measure("to the end", messages.show_end, 20)
        widths = (900, 1000)
        measure(
            "another width",
            lambda: root.geometry(f"{widths[chance.random() < 0.5]}x700"),
            20,
        )
        measure("a key is typed", lambda: view.field.text.insert("end", "x"))
        measure("dark or light", window.toggle_theme, 20)

        def list_people(count: int) -> None:
            names = tuple(f"person {number}" for number in range(count))
            room.handle(UserList(Request(0, Kind.USERS), names))
            view.show(Part.ONLINE)

        def come_and_go() -> None:
            room.handle(Presence("alice", "alice" not in room.shown.online))
            view.show(Part.ONLINE)

        for count in (500, options.people):
            measure(f"the list of {count} people", partial(list_people, count), 1)
            measure(f"1 of {count} people comes or goes", come_and_go)
        print(f"{'step':40} {'median':>8} {'95 %':>8} {'worst':>8}")
        for what, times in rows:
            times.sort()
            at_95 = times[min(len(times) - 1, int(len(times) * 0.95))]
            print(f"{what:40} {statistics.median(times):8.2f} {at_95:8.2f} {times[-1]:8.2f}")
        window.destroy()


if __name__ == "__main__":
    main()
