"""How soon can a person type, and what does it cost to keep the line at the bottom?

``python benchmarks/console.py``; needs no root and no peers. Start to prompt is the whole command,
from the shell's fork to the line that can be typed, with a real server on loopback. The rest is
measured without a terminal, after 10 000 messages: what is computed and written for each of them,
for a key and for a resize. How fast a terminal shows it is the terminal's own affair.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

from common import Place, Process, free_port, machine_line, number, say, table, workspace

from chatbox.client.chat.events import EVERYONE, Said
from chatbox.client.terminal.style import MANY
from chatbox.client.terminal.view import TerminalView

MESSAGES = 10_000
SCRIPTS = Path(sysconfig.get_path("scripts"))
WORDS = ("the", "quick", "brown", "fox", "says", "hello", "to", "a", "日本語", "grüße", "👍🏽")


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-r", "--rounds", type=int, default=20, help="starts to measure")
    options = parser.parse_args()
    print(machine_line())
    say("start to prompt")
    with workspace() as folder:
        starts = start_to_prompt(folder, options.rounds)
    cells = [
        f"{1000 * one:.0f} ms" for one in (statistics.median(starts), min(starts), max(starts))
    ]
    print(table(["start to prompt", "median", "shortest", "longest"], [["", *cells]]))
    say("redrawing")
    print(table(["what", "median", "longest", "bytes", ""], redrawing()))


def start_to_prompt(folder: Path, rounds: int) -> list[float]:
    """Seconds until a line can be typed, of so many starts."""
    (folder / "shelf").mkdir()
    port, udp = free_port(), free_port()
    server = Process(
        [
            *(sys.executable, SCRIPTS / "twistd", "-n", "--pidfile=", "chatbox"),
            *("--files", "shelf", "--log", "memory:", "--udp-ports", str(udp)),
            *("--listen", f"tcp:{port}:interface=127.0.0.1"),
        ],
        Place("127.0.0.1"),
        folder / "server.log",
        environment={"XDG_STATE_HOME": str(folder)},
    )
    try:
        server.wait_until_listening(port)
        join(port)  # reads the files from the disk
        return [join(port) for _ in range(rounds)]
    finally:
        server.stop()


def join(port: int) -> float:
    """Join on a terminal, wait for the prompt, and leave; the seconds to the prompt."""
    command = [os.fspath(SCRIPTS / "chatbox"), "join", f"127.0.0.1:{port}", "--name", "alice"]
    began = time.perf_counter()
    pid, terminal = os.forkpty()
    if not pid:
        os.environ["TERM"] = "xterm-256color"
        os.execv(command[0], command)
    seen = b""
    while not (b" alice on " in seen and seen.endswith(b"> ")):
        seen += os.read(terminal, 65536)
    took = time.perf_counter() - began
    os.write(terminal, b"/quit\r")
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:  # it has ended
        os.close(terminal)
    os.waitpid(pid, 0)
    return took


def redrawing() -> list[list[str]]:
    """What is computed and written when something changes."""
    chance = random.Random(1)
    view = TerminalView(
        me="alice",
        place="example.org",
        palette=MANY,
        clock=time.time,
        changed=lambda: None,
    )
    view.feed(b"half a line")
    view.begin(80, 24)
    view.draw()
    messages = [
        Said(
            f"user{chance.randrange(50)}",
            EVERYONE,
            " ".join(chance.choices(WORDS, k=chance.randrange(2, 25))),
            index,
            1_700_000_000_000 + index,
        )
        for index in range(1, MESSAGES + 1)
    ]
    size = sum(len(one.text.encode()) for one in messages) / MESSAGES

    def hear(one: Said) -> None:
        view.hear(one, "alice")

    def resize(step: int) -> None:
        view.resize(80 + step % 40, 24 + step % 10)

    keys = [bytes([ord("a") + step % 26]) for step in range(400)]
    return [
        row(
            "a message", view, [lambda one=one: hear(one) for one in messages], f"text: {size:.0f}"
        ),
        row("a key", view, [lambda key=key: view.feed(key) for key in keys], ""),
        row("a resize", view, [lambda step=step: resize(step) for step in range(1, 100)], ""),
    ]


def row(what: str, view: TerminalView, changes: list[Callable[[], object]], note: str) -> list[str]:
    """Make changes one by one, each with a redraw."""
    took, sizes = [], []
    for change in changes:
        began = time.perf_counter()
        change()
        written = view.draw()
        took.append(1e6 * (time.perf_counter() - began))
        sizes.append(len(written.encode()))
    median, longest = number(statistics.median(took), 0, " us"), number(max(took), 0, " us")
    return [what, median, longest, number(statistics.mean(sizes), 0), note]


if __name__ == "__main__":
    main()
