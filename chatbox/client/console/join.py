"""``chatbox join``: the console that fits standard input and output, and what stands behind it."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import Any

from chatbox.client.connect.access import Access
from chatbox.client.connect.connection import ChatConnection, join_server
from chatbox.client.connect.find import choose_server
from chatbox.client.connect.hosts import endpoint_for
from chatbox.client.connect.reconnector import Reconnector
from chatbox.client.console.console import Console
from chatbox.client.exits import Exit
from chatbox.client.files.fetcher import Fetcher
from chatbox.client.files.progress_line import is_terminal
from chatbox.client.files.transfers import Fetch

__all__ = ["join"]


async def join(reactor: Any, options: Namespace) -> Exit:
    """``chatbox join``: talk until the person leaves."""
    host = await choose_server(reactor, options)
    access = Access.from_options(options)
    connection = await join_server(reactor, host, options.name or options.settings.name, access)
    endpoint, _ = endpoint_for(reactor, host, access)
    reconnector = Reconnector(reactor, connection, endpoint, options.reconnect)
    fetcher = Fetcher(reactor, connection.peer, options.udp_via)
    console = _console(reactor, connection, fetcher, host, options)
    try:
        return await console.run()
    finally:
        reconnector.stop()
        connection.drop()
        await fetcher.tell_ends()


def _console(
    reactor: Any, connection: ChatConnection, fetch: Fetch, host: str, options: Namespace
) -> Console:
    """The console that fits standard input and output."""
    folder, rate_limit = options.settings.downloads, options.limit
    if not (is_terminal(0) and is_terminal(1)):
        return Console(
            reactor,
            connection,
            fetch,
            terminal=is_terminal(1),
            folder=folder,
            rate_limit=rate_limit,
        )
    from chatbox.client.console.live import LiveConsole
    from chatbox.client.terminal.screen import RESET
    from chatbox.client.terminal.style import palette_for
    from chatbox.client.terminal.tty import Terminal

    return LiveConsole(
        reactor,
        connection,
        fetch,
        terminal=Terminal(RESET.encode()),
        palette=palette_for(os.environ, options.settings.colours),
        place=host,
        folder=folder,
        rate_limit=rate_limit,
    )
