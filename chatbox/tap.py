"""How a server is put together: the services that ``twistd chatbox`` runs, made from its options.

This module assembles and decides nothing. It is the one place on the server where the chat, the
log and the file transfers meet, and their only common fact passes through `ShelfDownloads`.

`twistd` finds both here: the `Options` that it reads, and `makeService`.
"""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from twisted.application.service import Service

from chatbox import __version__
from chatbox.ahead import HashAhead
from chatbox.chat.cluster import SharedNames
from chatbox.chat.limits import Limits
from chatbox.chat.moderation import ModeratedGate, Moderation
from chatbox.chat.names import LocalNames
from chatbox.chat.register import Register
from chatbox.chat.room import Room
from chatbox.chat.server import ChatFactory
from chatbox.chat.service import ChatService
from chatbox.chat.sharing import RecentFiles
from chatbox.chat.turn import Turn
from chatbox.checkers import gate_for
from chatbox.digests import digests_path
from chatbox.downloads import ShelfDownloads
from chatbox.errors import CannotStart
from chatbox.inherited import INHERITED
from chatbox.lan import announcement_for
from chatbox.lan.announce import AnnounceService, machine_name
from chatbox.lan.invite import InviteService
from chatbox.log import MessageLog, open_log
from chatbox.log.redis import RedisLog
from chatbox.log.sqlite import SqliteLog
from chatbox.openfiles import DOWNLOAD_FILES, OpenFiles
from chatbox.options import Options
from chatbox.rdt.admissions import Admissions
from chatbox.rdt.service import CONTROLLERS, TransferService
from chatbox.shelf import Shelf
from chatbox.steady import keep_steady, wall_clock
from chatbox.stopping import Server
from chatbox.tls import ListeningService

__all__ = ["Options", "makeService"]


def makeService(options: Options, reactor: Any = None) -> Server:
    """Build the server that `options` describe.

    Its parts start in the order in which they need each other and stop in the opposite one.
    """
    if reactor is None:
        from twisted.internet import reactor

        keep_steady(reactor)
    _check_twistds_files(options.parent)
    shelf = Shelf(options["files"])
    transfers = _make_transfers(options, reactor)
    ahead = HashAhead(
        reactor,
        shelf,
        digests_path(options["state-dir"], shelf.folder),
        is_busy=lambda: transfers.under_way > 0,
    )
    downloads = ShelfDownloads(shelf, transfers, ahead.step_aside)
    log = open_log(
        options["log"],
        call_from_thread=reactor.callFromThread,
        state_dir=options["state-dir"],
        keep=options["keep"],
        reactor=reactor,
    )
    names = LocalNames(secrets.token_urlsafe)
    room = _make_room(log, names, Turn(partial(reactor.callLater, 0)), options["max-users"])
    moderation = _make_moderation(options, wall_clock(reactor), room, downloads)
    gate = gate_for(
        options["credCheckers"],
        options["state-dir"],
        wall_clock(reactor),
        allow_plain=bool(options["allow-plain-auth"]),
    )
    limits = _make_limits(options)
    gate = ModeratedGate(moderation, gate)
    files = RecentFiles(
        shelf,
        reactor.seconds,
        reactor.callLater,
        reactor.callInThread,
        reactor.callFromThread,
    )
    factory = ChatFactory(room, files, downloads, reactor, gate, moderation, limits=limits)
    register = None
    if isinstance(log, SqliteLog):
        # Only who comes back to the same log can have missed nothing.
        register = Register(f"{log.path}-people", names.reserve, wall_clock(reactor))
    server = Server(
        reactor,
        transfers,
        ChatService(factory, log, register),
        factory,
        grace=options["grace"],
        sockets_stay=any(f"{INHERITED}:" in text for text in options["listen"]),
    )
    for service in _make_others(options, reactor, factory, ahead):
        service.setServiceParent(server)
    return server


def _check_twistds_files(twistd: Any) -> None:
    """See whether twistd can write what it writes, for else it ends with a traceback. `twist`
    writes nothing. Raises CannotStart.
    """
    if twistd is None or "pidfile" not in twistd:
        return
    log = twistd["logfile"]
    if not (log or twistd["nodaemon"] or twistd["syslog"]):
        log = "twistd.log"
    for option, path in (("pidfile", twistd["pidfile"]), ("logfile", log)):
        if path and path != "-":
            try:
                if os.path.exists(path):
                    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
                else:
                    tempfile.TemporaryFile(dir=os.path.dirname(path) or ".").close()
            except OSError as error:
                none = f" (--{option}= is none)" if option == "pidfile" else ""
                raise CannotStart(
                    f"chatbox cannot start: twistd cannot write {path}: {error.strerror}. Start it"
                    f" elsewhere, or give it another --{option}{none} before the word chatbox."
                ) from error


def _make_transfers(options: Options, reactor: Any) -> TransferService:
    return TransferService(
        reactor,
        options["udp-interface"],
        _adopted(options["udp-ports"]),
        make_controller=CONTROLLERS[options["cc"]],
        admissions=Admissions(
            options["downloads"],
            options["downloads-per-user"],
            proven=bool(options["credCheckers"]),
        ),
        max_rate=options["max-rate"],
        gso=not options["no-gso"],
    )


def _make_moderation(
    options: Options, now: Callable[[], float], room: Room, downloads: ShelfDownloads
) -> Moderation:
    """Make it, and let it hear what the room hears of orders, and end downloads."""
    moderation = Moderation(
        options["state-dir"],
        now,
        operators=options["operators"],
        accounts=bool(options["credCheckers"]),
    )
    moderation.serve(room)
    moderation.on_ban = downloads.withdraw
    return moderation


def _make_others(
    options: Options, reactor: Any, factory: ChatFactory, ahead: HashAhead
) -> Iterator[Service]:
    """What starts once the chat and the transfers are there, in this order."""
    other_files = len(options["udp-ports"]) + DOWNLOAD_FILES * options["downloads"]
    yield OpenFiles(options["max-connections"], other_files, factory.connections.limit)
    for description in options["listen"]:
        yield ListeningService(description, factory, reactor, options["state-dir"])
    if not options["no-hash-ahead"]:
        yield ahead
    said = announcement_for(
        options["listen"], options["room"] or machine_name(), __version__, options["announce"]
    )
    if said is not None:
        yield InviteService(said)
        if not options["no-announce"]:
            yield AnnounceService(reactor, said)


def _make_limits(options: Options) -> Limits:
    return Limits(
        options["max-connections"],
        options["max-connections-per-address"],
        options["login-timeout"],
        options["rate"],
        options["burst"],
        options["join-rate"],
        options["join-burst"],
        options["max-users"],
        options["max-text"],
        options["max-name"],
    )


def _make_room(log: MessageLog, local: LocalNames, turn: Turn, max_users: int) -> Room:
    """Make a room; if the log is one for several servers, its names are not local."""
    if not isinstance(log, RedisLog):
        return Room(log, local, turn, max_users)
    names = SharedNames(log.lease, secrets.token_urlsafe)
    room = Room(log, names, turn, max_users)

    def lost() -> None:
        names.forget_all()
        room.expel_all()

    log.on_lost = lost
    return room


def _adopted(ports: range | list[int]) -> Sequence[int | socket.socket]:
    """Return the ports to listen on, or the sockets that were passed to us."""
    if isinstance(ports, range):
        return ports
    return [socket.socket(fileno=descriptor) for descriptor in ports]
