"""Downloads from a `TransferService` by `fetch`, on real sockets over loopback."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python import log

from chatbox.client.files.download import PartFile
from chatbox.errors import NoSocket, RemoteError
from chatbox.rdt import demux
from chatbox.rdt.admissions import Admissions, Taker
from chatbox.rdt.ends import End
from chatbox.rdt.fetch import Fetch, fetch
from chatbox.rdt.packet import Kind, Train
from chatbox.rdt.receiver import Ended, Event, Paused, Resumed, Verdict
from chatbox.rdt.service import CONTROLLERS, TransferService
from chatbox.rdt.ticket import SECRET_BYTES, Ticket
from chatbox.shelf import Shelf
from chatbox.units import port_ranges
from tests.helpers.processes import PATIENCE
from tests.link import MemorySink

DATA = random.Random(3).randbytes(3_000_000)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """A shelf with one file on it."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "a.bin").write_bytes(DATA)
    (folder / "empty").write_bytes(b"")
    return Shelf(folder)


class Download:
    """One client's download, and what it heard."""

    def __init__(
        self,
        service: TransferService,
        shelf: Shelf,
        path: Path,
        *,
        name: str = "a.bin",
        user: str = "alice",
        proceed: bool = True,
        **options: Any,
    ) -> None:
        self.proceed = proceed
        self.stands: Deferred[None] = Deferred()
        self.events: list[Event] = []
        self.ended: Deferred[Ended] = Deferred()
        file = shelf.open(name)
        port, ticket = service.offer(Taker(user), file)
        self.port = port
        self.fetch: Fetch = fetch(
            reactor,
            ("127.0.0.1", port),
            ticket,
            file.size,
            PartFile(str(path)),
            self.heard,
            **options,
        )

    def heard(self, event: Event) -> None:
        """Remember, proceed after a pause, and tell the end."""
        self.events.append(event)
        if isinstance(event, Paused):
            if self.proceed:
                reactor.callLater(0, self.fetch.proceed)
            else:
                self.stands.callback(None)
        if isinstance(event, Ended):
            self.ended.callback(event)


def started(ports: int = 1, **options: Any) -> TransferService:
    """A service on ports that the system chooses."""
    service = TransferService(reactor, "127.0.0.1", [0] * ports, **options)
    service.startService()
    return service


@pytest.mark.parametrize("cc", list(CONTROLLERS))
@pytest.mark.parametrize("gso", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_file_arrives(tmp_path: Path, shelf: Shelf, gso: bool, cc: str) -> None:
    """In trains and packet by packet, with the pause half way, under each controller."""
    service = started(gso=gso, make_controller=CONTROLLERS[cc])
    download = Download(service, shelf, tmp_path / "out", gso=gso)
    ended = await download.ended
    assert ended.end is End.DONE
    assert (tmp_path / "out").read_bytes() == DATA
    assert Paused(half_way=True) in download.events and Resumed() in download.events
    assert download.fetch.progress().confirmed == len(DATA)
    await download.fetch.closed
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_empty_file(tmp_path: Path, shelf: Shelf) -> None:
    """Nothing arrives, and is a file."""
    service = started()
    download = Download(service, shelf, tmp_path / "out", name="empty")
    assert (await download.ended).end is End.DONE
    assert (tmp_path / "out").read_bytes() == b""
    await download.fetch.closed
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_verdict_that_is_there_at_once(shelf: Shelf) -> None:
    """A disk that fails while the download is being made ends it then, not when all has come."""

    class Sink(MemorySink):
        def start(self, size: int, wake: Callable[[], None]) -> None:
            wake()

        def verdict(self) -> Verdict | None:
            return Verdict(End.DISK_ERROR)

    service = started()
    file = shelf.open("a.bin")
    port, ticket = service.offer(Taker("alice"), file)
    events: list[Event] = []
    sink = Sink(file.size)
    made = fetch(reactor, ("127.0.0.1", port), ticket, file.size, sink, events.append)
    await made.closed
    assert isinstance(events[-1], Ended) and events[-1].end is End.DISK_ERROR
    assert sink.ended is End.DISK_ERROR
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_silent_ones_make_room(tmp_path: Path, shelf: Shelf) -> None:
    """One more download of a user ends the one that is paused and was silent for longest, at
    whatever port; if the server is full, that of anybody.
    """
    service = started(3, admissions=Admissions(most=4, most_per_user=3))
    downloads = [
        Download(service, shelf, tmp_path / str(index), user=user, proceed=False)
        for index, user in enumerate(["alice", "alice", "alice", "bob"])
    ]
    for download in downloads:
        await download.stands
    demuxes = [port.demux for port in service._ports]
    while any(one.sender.in_flight for each in demuxes for one in each._transfers.values()):
        await deferLater(reactor, 0)  # until the last acknowledgement has come
    with pytest.raises(RemoteError, match="too-many-downloads"):
        service.offer(Taker("alice"), shelf.open("a.bin"))

    def fall_silent(download: Download, seconds: float) -> None:
        for each in demuxes:
            transfer = each._transfers.get(download.fetch._receiver.connection_id)
            if transfer is not None:
                transfer.sender.heard_at -= seconds

    fall_silent(downloads[1], 100)
    fall_silent(downloads[2], 200)
    fall_silent(downloads[3], 300)
    more = Download(service, shelf, tmp_path / "more", user="carol")  # the server is full
    assert (await downloads[3].ended).end is End.PEER_SILENT
    assert (await more.ended).end is End.DONE
    fall_silent(downloads[1], 100)  # on a slow machine both were heard of meanwhile
    fall_silent(downloads[2], 200)
    more = Download(service, shelf, tmp_path / "more of alice", user="alice")
    assert (await downloads[2].ended).end is End.PEER_SILENT
    assert (await more.ended).end is End.DONE
    for download in downloads[:2]:
        download.fetch.cancel()
    await gatherResults([one.fetch.closed for one in [*downloads, more]])
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_many_at_once(tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty downloads over three ports at once, in one memory, all of them right."""
    # On a slow machine the first ticket is old by then, and would make room for one more.
    monkeypatch.setattr(demux, "UNUSED_TIMEOUT", PATIENCE)
    service = started(3, admissions=Admissions(most=20, most_per_user=20))
    downloads = [Download(service, shelf, tmp_path / str(index)) for index in range(20)]
    with pytest.raises(RemoteError, match="too-many-downloads"):
        service.offer(Taker("alice"), shelf.open("a.bin"))
    assert len({download.port for download in downloads}) == 3
    assert len({id(download.fetch._receiver.buffer.obj) for download in downloads}) == 1
    for ended in await gatherResults([download.ended for download in downloads]):
        assert ended.end is End.DONE
    assert all((tmp_path / str(index)).read_bytes() == DATA for index in range(20))
    await gatherResults([download.fetch.closed for download in downloads])
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_cancelled_and_server_stopped(tmp_path: Path, shelf: Shelf) -> None:
    """A client that cancels and a server that stops both end the transfer, in their own words."""
    service = started()
    cancelled = Download(service, shelf, tmp_path / "one")
    cancelled.fetch.cancel()
    assert (await cancelled.ended).end is End.CANCELLED
    await cancelled.fetch.closed
    paused = Download(service, shelf, tmp_path / "two", proceed=False)
    paused.fetch.pause()
    await paused.stands
    await service.stopService()
    assert (await paused.ended).end is End.SERVER_STOPPING
    await paused.fetch.closed
    assert not (tmp_path / "two").exists() and not (tmp_path / "one.part").exists()


@pytest_twisted.ensureDeferred
async def test_no_digest(tmp_path: Path, shelf: Shelf) -> None:
    """A server that has no descriptor left to take the digest says so, rather than nothing."""
    service = started()
    download = Download(service, shelf, tmp_path / "out")
    with patch("os.dup", side_effect=OSError(errno.EMFILE, "Too many open files")):
        assert (await download.ended).end is End.FILE_UNREADABLE
    await download.fetch.closed
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_the_client_moves(tmp_path: Path, shelf: Shelf) -> None:
    """In mid-file the client goes on from another port, and then from another host."""
    interfaces = ["127.0.0.1", "127.0.0.2"]
    arrived: Deferred[None] = Deferred()

    def fire(waiting: Deferred[None]) -> None:
        if not waiting.called:  # several trains may come in one turn
            waiting.callback(None)

    def watch(train: Train) -> None:
        if train.data[0] == Kind.DATA:
            reactor.callLater(0, fire, arrived)

    service = started()
    download = Download(service, shelf, tmp_path / "out", pause_half_way=False, watch=watch)
    [transfer] = service._ports[0].demux.transfers
    pump = download.fetch._pump
    places: list[Any] = []
    for interface in interfaces:
        await arrived
        places.append(transfer.sender.address)
        assert not transfer.sender.ended
        arrived = Deferred()
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind((interface, 0))
        await pump.stop()
        pump.listen(bound, "", gso=True)
        pump.pump()
    assert (await download.ended).end is End.DONE
    assert (tmp_path / "out").read_bytes() == DATA
    places.append(transfer.sender.address)
    assert [place[0] for place in places] == ["127.0.0.1", *interfaces]
    assert len(set(places)) == 3
    await download.fetch.closed
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_what_the_client_takes(tmp_path: Path, shelf: Shelf) -> None:
    """The server hears how long a datagram the client's interface carries."""
    service = started()
    with patch("chatbox.rdt.fetch.longest_to", return_value=1300):
        download = Download(service, shelf, tmp_path / "out")
    [transfer] = service._ports[0].demux.transfers
    assert (await download.ended).end is End.DONE
    assert transfer.sender._path._limit == 1300
    await download.fetch.closed
    await service.stopService()


def test_no_socket(tmp_path: Path) -> None:
    """Where no socket can be had the file is let go of, and the error is the system's."""
    path, ticket = str(tmp_path / "out"), Ticket(1, bytes(SECRET_BYTES))
    refusal = OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
    with patch("socket.socket", side_effect=refusal), pytest.raises(NoSocket) as caught:
        fetch(reactor, ("::1", 9), ticket, 1, PartFile(path), lambda _: None)
    assert caught.value.args == refusal.args
    assert not list(tmp_path.iterdir())
    again = PartFile(path)
    again.start(1, lambda: None)  # nobody holds it
    again.close(End.CANCELLED)


@pytest_twisted.ensureDeferred
async def test_one_line_for_all_ports() -> None:
    """However many ports there are, the log has one line when they start, and one when they end;
    and all that is said by whoever has waited for that.
    """
    with capturedLogs() as logs:
        service = started(3)
        ports = service.ports
        await service.stopService().addCallback(lambda _: log.msg("done"))
    # A warning of what the machine lets sockets hold comes once, whichever test is the first.
    said = [formatEvent(one) for one in logs if one["log_level"] is LogLevel.info]
    written = port_ranges(ports)
    wanted = [f"RDT on UDP starting on {written}", f"RDT on UDP {written} has ended", "done"]
    assert said == wanted
    assert "" in map(formatEvent, logs)  # what is not shown has no words


@pytest_twisted.ensureDeferred
async def test_port_taken(shelf: Shelf) -> None:
    """One port of a range that is taken is done without; a range that is all taken is fatal."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("127.0.0.1", 0))
    number = taken.getsockname()[1]
    service = TransferService(reactor, "127.0.0.1", [number, 0])
    with capturedLogs() as logs:
        service.startService()
    # There may be another warning, of what the machine lets sockets hold.
    [said] = [text for text in map(formatEvent, logs) if "cannot be had" in text]
    assert said.startswith(f"UDP port {number} cannot be had (Address already in use): ")
    assert len(service.ports) == 1
    await service.stopService()
    with capturedLogs() as logs, pytest.raises(CannotListenError):
        TransferService(reactor, "127.0.0.1", [number]).startService()
    assert logs == []  # the error says it all
    taken.close()
    with pytest.raises(RemoteError, match="unavailable"):
        service.offer(Taker("alice"), shelf.open("a.bin"))


@pytest_twisted.ensureDeferred
async def test_mistakes_in_sending(shelf: Shelf) -> None:
    """What breaks in one transfer keeps nobody from another, nor the server from its end."""
    service = started()
    breaks = patch.object(demux.Demux, "trains_to_send", side_effect=ZeroDivisionError)
    at_once = patch("chatbox.rdt.service.CLOSE_SECONDS", 0.0)
    with breaks, at_once, capturedLogs() as logs:
        _, ticket = service.offer(Taker("alice"), shelf.open("a.bin"))
        service.withdraw(lambda _: True)
        await service.stopService()
    assert isinstance(ticket, Ticket)
    said = [event for event in logs if event["log_level"] is LogLevel.critical]
    assert {event["log_failure"].type for event in said} == {ZeroDivisionError}
