"""Which server? The list of those nearby, and the choice for somebody who named none."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, Final

from chatbox.client.config import required_host
from chatbox.client.connect.access import ask_line, interactive
from chatbox.client.exits import Exit, Stop
from chatbox.lan import Server
from chatbox.lan.browse import CannotBrowse, find_servers

__all__ = ["choose", "choose_server", "describe", "find"]

_NOBODY: Final = (
    "No server was found on this network. Ask for its address: chatbox join HOST always works."
)


async def find(reactor: Any, options: Namespace) -> Exit:
    """Print the servers on the local network: host, room, tls or plain, version; TAB between."""
    try:
        servers = await find_servers(reactor, options.on)
    except CannotBrowse as problem:
        raise Stop(Exit.FAILED, f"Servers nearby cannot be looked for: {problem}") from None
    if not servers:
        raise Stop(Exit.NO_CONNECTION, _NOBODY)
    for server in servers:
        way = "tls" if server.tls else "plain"
        print(f"{server.host}\t{server.room}\t{way}\t{server.version}")
    return Exit.OK


async def choose_server(reactor: Any, options: Namespace) -> str:
    """The host that was said or settled, else one nearby that the person chooses.

    Notes in `options` that it speaks TLS. Raises Stop with what to do if there is nothing to
    choose, or nobody to ask.
    """
    if options.host:
        return str(options.host)
    try:
        servers = await find_servers(reactor, options.on)
    except CannotBrowse:
        return required_host(None)
    if not servers:
        raise Stop(Exit.USAGE, f"Which server? {_NOBODY}")
    if not interactive():
        found = ", ".join(server.host for server in servers)
        raise Stop(Exit.USAGE, f"Which server? Say HOST; on this network there is {found}.")
    print("\n".join(["On this network:", *describe(servers)]), file=sys.stderr)
    server = choose(servers)
    options.tls = options.tls or server.tls
    return server.host


def describe(servers: Sequence[Server]) -> list[str]:
    """The servers as a numbered list for a person."""
    width = max(len(server.room) for server in servers)
    return [
        f"{number:>3}  {server.room:{width}}  {server.host}{', TLS' if server.tls else ''}"
        for number, server in enumerate(servers, 1)
    ]


def choose(servers: Sequence[Server]) -> Server:
    """Ask until the answer is one of the numbers. Raises Stop if there is none."""
    if len(servers) > 1:
        prompt, again = "Which one? ", f"A number from 1 to {len(servers)}: "
    else:
        prompt = again = "Join it? Enter, or Ctrl-C: "
    while True:
        answer = ask_line(prompt).strip()
        if not answer and len(servers) == 1:
            return servers[0]
        if answer.isascii() and answer.isdigit() and 0 < int(answer[:9]) <= len(servers):
            return servers[int(answer) - 1]
        prompt = again
