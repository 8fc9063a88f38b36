"""RDT on real sockets, over loopback."""

from __future__ import annotations

import errno
import random
import socket
import struct
import sys
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python import log
from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.files.download import PartFile
from chatbox.errors import NoSocket, RemoteError
from chatbox.rdt import demux, udp
from chatbox.rdt import service as udp_service
from chatbox.rdt.batch import DATAGRAMS, Control
from chatbox.rdt.demux import Admissions, Taker
from chatbox.rdt.ends import End
from chatbox.rdt.fetch import Fetch, fetch
from chatbox.rdt.packet import BASE_DATAGRAM, MAX_DATAGRAM, Kind, Train
from chatbox.rdt.receiver import Ended, Event, Paused, Resumed
from chatbox.rdt.seal import RECEIVE_BYTES, TRAIN_SENDS
from chatbox.rdt.service import CONTROLLERS, TransferService
from chatbox.rdt.ticket import SECRET_BYTES, Ticket
from chatbox.rdt.udp import (
    BATCH_FROM,
    FULL_TURN_BYTES,
    IP_MTU_DISCOVER,
    IPV6_MTU_DISCOVER,
    PMTUDISC_PROBE,
    READ_INTERVAL,
    SO_TIMESTAMPNS,
    UDP_GRO,
    UDP_SEGMENT,
    Pump,
    TrainPort,
    longest_to,
)
from chatbox.shelf import Shelf
from tests.helpers.processes import PATIENCE

DATA = random.Random(3).randbytes(3_000_000)

SO_PEEK_OFF = 42  # asm-generic/socket.h


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
    """Twenty downloads over three ports at once, all of them right."""
    # On a slow machine the first ticket is old by then, and would make room for one more.
    monkeypatch.setattr(demux, "UNUSED_TIMEOUT", PATIENCE)
    service = started(3, admissions=Admissions(most=20, most_per_user=20))
    downloads = [Download(service, shelf, tmp_path / str(index)) for index in range(20)]
    with pytest.raises(RemoteError, match="too-many-downloads"):
        service.offer(Taker("alice"), shelf.open("a.bin"))
    assert len({download.port for download in downloads}) == 3
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


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_longest_datagram() -> None:
    """What an interface carries without the headers, within what there is at all."""
    lo = int(Path("/sys/class/net/lo/mtu").read_text())
    assert longest_to(("127.0.0.1", 9)) == min(lo - 28, MAX_DATAGRAM)
    for host, mtu, longest in (
        ("192.0.2.1", 1500, 1472),
        ("2001:db8::1", 1500, 1452),
        ("192.0.2.1", 1420, 1392),
        ("192.0.2.1", 576, BASE_DATAGRAM),
        ("192.0.2.1", 65536, MAX_DATAGRAM),
    ):
        with patch("socket.socket") as made:
            made.return_value.__enter__.return_value.getsockopt.return_value = mtu
            assert longest_to((host, 9)) == longest
    with patch("socket.socket", side_effect=OSError(errno.EAFNOSUPPORT, "no such family")):
        assert longest_to(("2001:db8::1", 9)) == MAX_DATAGRAM


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
    written = udp_service.ranges(ports)
    wanted = [f"RDT on UDP starting on {written}", f"RDT on UDP {written} has ended", "done"]
    assert said == wanted
    assert "" in map(formatEvent, logs)  # what is not shown has no words


def test_ranges() -> None:
    """Ports that follow each other are written as the option takes them."""
    assert udp_service.ranges([55001, 55000, 55002, 7, 9, 10]) == "7, 9-10, 55000-55002"


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


class StubbornSocket:
    """A socket that refuses with the errors it is given, one a call (0 is none), and takes
    everything afterwards.
    """

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)
        self.sent: list[tuple[str, int]] = []
        self.arriving: list[tuple[bytes, object]] = []
        self.instants: list[float] = []
        """When each of them came, if the kernel says so."""

    def _take(self, how: str, size: int) -> int:
        if self.errors and (error := self.errors.pop(0)):
            raise OSError(error, "as the test says")
        self.sent.append((how, size))
        return size

    def recvfrom_into(self, buffer: memoryview) -> tuple[int, object]:
        """The next datagram that arrives."""
        if not self.arriving:
            raise BlockingIOError(errno.EAGAIN, "nothing more")
        data, address = self.arriving.pop(0)
        buffer[: len(data)] = data
        return len(data), address

    def recvmsg_into(
        self, buffers: list[memoryview], _: int
    ) -> tuple[int, list[tuple[int, int, bytes]], int, object]:
        """The same with what else the kernel has to say."""
        size, address = self.recvfrom_into(buffers[0])
        if not self.instants:
            return size, [], 0, address
        seconds, rest = divmod(self.instants.pop(0), 1.0)
        time = struct.pack("=qq", int(seconds), int(rest * 1e9))
        return size, [(socket.SOL_SOCKET, SO_TIMESTAMPNS, time)], 0, address

    def sendmsg(self, buffers: list[memoryview], *_: object) -> int:
        """A whole train."""
        return self._take("train", sum(len(buffer) for buffer in buffers))

    def sendto(self, data: memoryview, address: object) -> int:
        """One packet."""
        return self._take("packet", len(data))


class NullEngine:
    """An engine that wants nothing."""

    buffer = memoryview(bytearray(1 << 17))

    def receive(self, train: Train, address: object, now: float, waited: float) -> None:
        """Nothing."""

    def on_timer(self, now: float) -> None:
        """Nothing."""

    def next_timer(self) -> float | None:
        """Never."""
        return None

    def trains_to_send(self, now: float) -> Any:
        """Nothing."""
        return iter(())


class TrainPortTests(SynchronousTestCase):
    """What the kernel may answer."""

    def port(self, *errors: int, gso: bool = True) -> tuple[TrainPort, StubbornSocket]:
        """A port whose socket answers with these errors first."""
        self.clock = Clock()
        pump = Pump(self.clock, NullEngine(), lambda: None)
        port = TrainPort(0, pump, NullEngine.buffer, "", self.clock, gso=gso)
        stubborn = StubbornSocket(*errors)
        port.socket = cast(Any, stubborn)
        port.stopReading = lambda: None  # type: ignore[method-assign]
        port.writing = False  # type: ignore[attr-defined]
        port.startWriting = lambda: setattr(port, "writing", True)  # type: ignore[method-assign]
        port.stopWriting = lambda: setattr(port, "writing", False)  # type: ignore[method-assign]
        return port, stubborn

    def test_reading_is_moderated(self) -> None:
        """
        Packets that come one by one in quick succession are left to gather; what comes after a
        while, or many at a time, is not.
        """
        port, sock = self.port()
        port.connected = True
        reading: list[bool] = []
        port.startReading = lambda: reading.append(True)  # type: ignore[method-assign]
        port.stopReading = lambda: reading.append(False)  # type: ignore[method-assign]

        def read(size: int) -> list[bool]:
            reading.clear()
            sock.arriving = [(bytes(size), ("127.0.0.1", 1))]
            port.doRead()
            return list(reading)

        self.clock.advance(1.0)
        self.assertEqual(read(1200), [])
        self.clock.advance(READ_INTERVAL / 2)
        self.assertEqual(read(1200), [False])
        self.clock.advance(READ_INTERVAL)
        self.assertEqual(reading, [False, True])
        self.assertEqual(read(FULL_TURN_BYTES), [])
        self.clock.advance(10 * READ_INTERVAL)
        self.assertEqual(read(1200), [])
        self.assertEqual(read(1200), [False])
        reading.clear()
        port.connected = False
        self.clock.advance(READ_INTERVAL)
        self.assertEqual(reading, [])

    def test_no_fragments(self) -> None:
        """No packet is cut on its way, over IPv4 from a socket of IPv6 neither."""
        options = {(socket.IPPROTO_IP, IP_MTU_DISCOVER)}
        for family in (socket.AF_INET, socket.AF_INET6):
            if family == socket.AF_INET6:
                options.add((socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER))
            with socket.socket(family, socket.SOCK_DGRAM) as bound:
                self.port()[0].adopt(bound)
                for option in options:
                    self.assertEqual(bound.getsockopt(*option), PMTUDISC_PROBE, option)

    def test_joined_by_us(self) -> None:
        """Datagrams of one length from one address are read as one train, others begin another."""
        heard: list[tuple[bytes, int, object]] = []
        here, there = ("127.0.0.1", 1), ("127.0.0.1", 2)
        port, sock = self.port()
        port._pump.train_received = lambda train, address, waited: heard.append(  # type: ignore[method-assign]
            (bytes(train.data), train.segment, address)
        )
        sock.arriving = [
            (b"aaaa", here),
            (b"bbbb", here),
            (b"cc", here),  # shorter: the last of its train
            (b"dd", here),
            (b"eeee", here),  # longer: the first of another
            (b"ffff", there),
            (b"", there),
            (b"gggg", there),
        ]
        port.doRead()
        self.assertEqual(
            heard,
            [
                (b"aaaabbbbcc", 4, here),
                (b"dd", 2, here),
                (b"eeee", 4, here),
                (b"ffffgggg", 4, there),
            ],
        )

    def test_how_long_it_waited(self) -> None:
        """
        The engine hears how long ago the kernel took in what is read, unless a clock was set since;
        what came at different times is not joined.
        """
        port, sock = self.port()
        heard: list[tuple[int, float]] = []
        engine: Any = port._pump._engine
        engine.receive = lambda train, address, now, waited: heard.append(
            (len(train.data), round(waited, 6))
        )
        here = ("127.0.0.1", 1)

        def came(*instants: float) -> list[tuple[int, float]]:
            heard.clear()
            sock.arriving = [(bytes(100), here) for _ in instants]
            sock.instants = list(instants)
            port.doRead()
            return list(heard)

        self.clock.advance(1000.0)
        self.assertEqual(came(999.75), [(100, 0.25)])
        self.assertEqual(came(999.75, 999.7505), [(200, 0.2495)])
        self.assertEqual(came(999.75, 999.76), [(100, 0.25), (100, 0.24)])
        self.assertEqual(came(1000.5), [(100, 0.0)])
        self.assertEqual(came(900.0), [(100, 0.0)])

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems have other settings")
    def test_small_buffers(self) -> None:
        """Whoever runs a server is told once, with the command, that its sockets are too small."""
        port, _ = self.port()
        udp._warn_of_buffers.cache_clear()
        self.addCleanup(udp._warn_of_buffers.cache_clear)
        with patch.object(udp, "SOCKET_BUFFER", 1 << 30), capturedLogs() as logged:
            for _ in range(2):
                port.createInternetSocket().close()
        (warning,) = logged
        self.assertIs(warning["log_level"], LogLevel.warn)
        text = formatEvent(warning)
        self.assertIn("sysctl -w net.core.rmem_max=1073741824 net.core.wmem_max=1073741824", text)
        self.assertLess(warning["granted"], 1 << 30)

    TRAIN = Train(memoryview(bytes(2500)), 1000)

    def test_train(self) -> None:
        """A train is one call."""
        port, sock = self.port()
        self.assertTrue(port.write_train(self.TRAIN, ("127.0.0.1", 1)))
        self.assertEqual(sock.sent, [("train", 2500)])

    def test_long_train(self) -> None:
        """A long train is as many calls as it takes, wherever it has to wait for the kernel."""
        train = Train(memoryview(bytes(149_500)), 1000)
        for at in range(3):
            port, sock = self.port(*[0] * at, errno.EAGAIN)
            self.assertFalse(port.write_train(train, ("127.0.0.1", 1)))
            port.doWrite()
            self.assertEqual([size for _, size in sock.sent], [64_000, 64_000, 21_500], at)
        port, sock = self.port(0, errno.EIO)
        self.assertTrue(port.write_train(train, ("127.0.0.1", 1)))
        self.assertEqual([size for _, size in sock.sent], [64_000, *[1000] * 85, 500])

    def test_no_gso(self) -> None:
        """Without it, packets go one by one."""
        port, sock = self.port(gso=False)
        self.assertTrue(port.write_train(self.TRAIN, ("127.0.0.1", 1)))
        self.assertEqual(sock.sent, [("packet", 1000), ("packet", 1000), ("packet", 500)])

    def test_refused_trains(self) -> None:
        """An interface that takes no trains gets packets from then on, and none is lost."""
        port, sock = self.port(errno.EIO)
        self.assertTrue(port.write_train(self.TRAIN, ("127.0.0.1", 1)))
        self.assertTrue(port.write_train(self.TRAIN, ("127.0.0.1", 1)))
        self.assertEqual([how for how, _ in sock.sent], ["packet"] * 6)

    def test_no_room(self) -> None:
        """A full kernel is waited for, and what it did not take goes first."""
        for code in (errno.EAGAIN, errno.ENOBUFS):
            for gso in (True, False):
                port, sock = self.port(code, code, gso=gso)
                self.assertFalse(port.write_train(self.TRAIN, ("127.0.0.1", 1)))
                self.assertTrue(port.writing)  # type: ignore[attr-defined]
                port.doWrite()
                self.assertTrue(port.writing)  # type: ignore[attr-defined]
                port.doWrite()
                self.assertFalse(port.writing)  # type: ignore[attr-defined]
                self.assertEqual(sum(size for _, size in sock.sent), 2500)

    def test_lost_packets(self) -> None:
        """Any other error is a lost packet, not an exception."""
        for code in (errno.EPERM, errno.ECONNREFUSED, errno.EMSGSIZE, errno.ENETUNREACH):
            port, _ = self.port(code, code)
            self.assertTrue(port.write_train(self.TRAIN, ("127.0.0.1", 1)))


class BatchTests(SynchronousTestCase):
    """Datagrams read many at a time, from real sockets."""

    if sys.platform != "linux":
        skip = "only Linux has recvmmsg"

    def setUp(self) -> None:
        """A port whose last turn ended with a row, and what it hands on."""
        self.heard: list[tuple[bytes, int, Any, float]] = []
        pump = Pump(Clock(), NullEngine(), lambda: None)
        self.port = TrainPort(0, pump, memoryview(bytearray(RECEIVE_BYTES)), "", Clock(), gso=True)
        self.sockets: list[socket.socket] = []
        pump.train_received = lambda train, address, waited: self.heard.append(  # type: ignore[method-assign]
            (bytes(train.data), train.segment, address, waited)
        )
        self.port.stopReading = lambda: None  # type: ignore[method-assign]

    def tearDown(self) -> None:
        """Close what was opened."""
        for each in self.sockets:
            each.close()

    def between(self, family: int, host: str, *, gro: bool = False) -> list[socket.socket]:
        """Let the port have a socket; two that are connected to it."""
        ours = socket.socket(family, socket.SOCK_DGRAM)
        ours.bind((host, 0))
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        ours.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if gro:
            ours.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        others = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
        for other in others:
            other.connect(ours.getsockname())
        self.sockets = [ours, *others]
        self.port.socket = ours
        return others

    def read(self, row: int, size: int) -> list[tuple[bytes, Any]]:
        """All datagrams, which are `size` bytes together, read at first as rows of `row` bytes
        each; with addresses.
        """
        self.heard.clear()
        self.wait_for(size)
        self.port._row = row
        before = -1
        while len(self.heard) != before:
            before = len(self.heard)
            self.port.doRead()
        return [
            (data[start : start + segment], address)
            for data, segment, address, _ in self.heard
            for start in range(0, len(data), segment)
        ]

    def wait_for(self, size: int) -> float:
        """Wait until so many bytes have come, which the kernel may leave for later.

        When that was, by the clock of the kernel.
        """
        if not size:
            return 0.0
        ours = self.sockets[0]
        ours.settimeout(PATIENCE)
        ours.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, size - 1)
        _, control, _, _ = ours.recvmsg(1, 128, socket.MSG_PEEK)
        ours.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, -1)
        ours.setblocking(False)
        [stamp] = [data for _, kind, data in control if kind == SO_TIMESTAMPNS]
        seconds, nanoseconds = struct.unpack("qq", stamp)
        return float(seconds + nanoseconds * 1e-9)

    def test_a_row_is_one_train(self) -> None:
        """Both kinds of addresses, and the last datagram may be shorter."""
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            one, _ = self.between(family, host)
            sent = [bytes([number]) * 1000 for number in range(40)] + [b"the end"]
            for data in sent:
                one.send(data)
            got = self.read(1000, sum(map(len, sent)))
            self.assertEqual(got, [(data, one.getsockname()) for data in sent])
            self.assertEqual([(len(data), row) for data, row, _, _ in self.heard], [(40_007, 1000)])
            self.assertEqual(self.port._row, 1000)
            self.tearDown()

    def test_when_it_came(self) -> None:
        """The kernel says of the last one when that was."""
        one, _ = self.between(socket.AF_INET, "127.0.0.1")
        for _ in range(BATCH_FROM):
            one.send(bytes(1000))
        size = BATCH_FROM * 1000
        clock: Any = self.port._clock
        clock.rightNow = self.wait_for(size) + 10.0
        self.read(1000, size)
        [(_, _, _, waited)] = self.heard
        self.assertAlmostEqual(waited, 10.0)

    def test_a_row_begins_and_ends(self) -> None:
        """A port begins to read in batches when it has met a row, and stops when it meets none."""
        one, other = self.between(socket.AF_INET, "127.0.0.1")
        for _ in range(BATCH_FROM):
            one.send(bytes(500))
        self.read(0, BATCH_FROM * 500)
        self.assertEqual(self.port._row, 500)
        one.send(bytes(500))
        other.send(bytes(600))
        self.read(500, 1100)
        self.assertEqual(self.port._row, 0)

    def test_joined_by_the_kernel_after_all(self) -> None:
        """Trains that it joins arrive whole, and are read as such from then on."""
        one, _ = self.between(socket.AF_INET, "127.0.0.1", gro=True)
        one.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 700)
        train = random.Random(1).randbytes(20 * 700 + 99)
        one.send(train)
        one.send(train[:1400])
        pieces = [train[start : start + 700] for start in range(0, len(train), 700)]
        expected = [(piece, one.getsockname()) for piece in [*pieces, *pieces[:2]]]
        # Two packets together are as long as a row's.
        self.assertEqual(self.read(1400, len(train) + 1400), expected)
        self.assertEqual(self.port._row, 0)

    def test_more_than_a_turn_should_read(self) -> None:
        """Of what one call has read nothing is lost, though the kernel joined megabytes of it."""
        trains = [bytes([number]) * (45 * 1300) for number in range(DATAGRAMS)]
        joined = [(socket.IPPROTO_UDP, UDP_GRO, struct.pack("=i", 1300))]

        class Full:
            """A batch that is full."""

            def receive(self, _descriptor: int, _segment: int) -> int:
                """All there is room for."""
                return len(trains)

            def train(self) -> None:
                """They are many."""

            def datagrams(self) -> list[tuple[bytes, Control, object]]:
                """Each of them."""
                return [(train, joined, "peer") for train in trains]

        self.between(socket.AF_INET, "127.0.0.1")
        self.port._row = 1300
        self.port._batch = cast(Any, Full())
        self.port.doRead()
        self.assertTrue(b"".join(data for data, _, _, _ in self.heard) == b"".join(trains))
        # Rows that the kernel joined are handed on together, as long as there is room for one more.
        self.assertEqual(len(self.heard), DATAGRAMS // (TRAIN_SENDS + 1) + 1)

    @given(
        st.lists(
            st.tuples(st.integers(0, 1), st.sampled_from([1, 64, 999, 1000, 1001, 3000])),
            max_size=60,
        ),
        st.sampled_from([1, 64, 1000]),
    )
    def test_whatever_comes(self, sizes: list[tuple[int, int]], row: int) -> None:
        """Datagrams of any length from anywhere are what they were, in order."""
        others = self.between(socket.AF_INET, "127.0.0.1")
        sent = []
        for number, (which, size) in enumerate(sizes):
            data = bytes([number]) * size
            others[which].send(data)
            sent.append((data, others[which].getsockname()))
        self.assertEqual(self.read(row, sum(size for _, size in sizes)), sent)
        self.tearDown()
