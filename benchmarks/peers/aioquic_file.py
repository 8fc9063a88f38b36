"""A file over one stream of aioquic, with its defaults.

aioquic_file.py serve ADDRESS PORT FILE CERT KEY
aioquic_file.py get ADDRESS PORT PATH CERT
"""

from __future__ import annotations

import asyncio
import sys

import stamps
from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import stream_is_client_initiated
from aioquic.quic.events import QuicEvent, StreamDataReceived

PIECE = 1 << 18
# What waits inside aioquic. It has no limit and no way to be asked for one, and the whole file in
# its buffer makes it slower and larger; so we look at how much it holds.
AHEAD = 1 << 21


class Sender(QuicConnectionProtocol):
    """Answers a client's first stream with the file."""

    path = ""

    def quic_event_received(self, event: QuicEvent) -> None:
        """Begin when the request is here."""
        if isinstance(event, StreamDataReceived) and event.end_stream:
            assert stream_is_client_initiated(event.stream_id)
            self._file = open(self.path, "rb")  # noqa: SIM115
            self._stream = event.stream_id
            self._done = False

    def transmit(self) -> None:
        """Before each flight: give aioquic more if it has little."""
        if getattr(self, "_file", None) is not None and not self._done:
            sender = self._quic._streams[self._stream].sender
            while not self._done and sender._buffer_stop - sender._buffer_start < AHEAD:
                piece = self._file.read(PIECE)
                self._done = len(piece) < PIECE
                self._quic.send_stream_data(self._stream, piece, end_stream=self._done)
        super().transmit()


class Receiver(QuicConnectionProtocol):
    """Writes what comes to a file."""

    path = ""

    def fetch(self) -> asyncio.Future[None]:
        """Ask for the file; the answer fires when all of it is here."""
        self._file = open(self.path, "wb", buffering=0)  # noqa: SIM115
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._quic.send_stream_data(self._quic.get_next_available_stream_id(), b"get", True)
        self.transmit()
        return self._ended

    def quic_event_received(self, event: QuicEvent) -> None:
        """Write it."""
        if isinstance(event, StreamDataReceived):
            self._file.write(event.data)
            if event.end_stream and not self._ended.done():
                self._ended.set_result(None)


async def run_server(address: str, port: int, path: str, certificate: str, key: str) -> None:
    """Serve until told to stop."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["file"])
    configuration.load_cert_chain(certificate, key)
    Sender.path = path
    await serve(address, port, configuration=configuration, create_protocol=Sender)
    await asyncio.Event().wait()


async def run_client(address: str, port: int, path: str, certificate: str) -> None:
    """Fetch one file."""
    configuration = QuicConfiguration(alpn_protocols=["file"], server_name="bench")
    configuration.load_verify_locations(certificate)
    Receiver.path = path
    stamps.begin()
    async with connect(
        address, port, configuration=configuration, create_protocol=Receiver
    ) as protocol:
        assert isinstance(protocol, Receiver)
        await protocol.fetch()


if __name__ == "__main__":
    _, what, at, number, *rest = sys.argv
    asyncio.run({"serve": run_server, "get": run_client}[what](at, int(number), *rest))
