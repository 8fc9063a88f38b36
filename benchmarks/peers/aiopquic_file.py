"""A file over one stream of aiopquic (picoquic), with its defaults.

    aiopquic_file.py serve ADDRESS PORT FILE CERT KEY [CONTROL]
    aiopquic_file.py get ADDRESS PORT PATH CERT [CONTROL]

CONTROL, if given, is a congestion control of picoquic's (bbr is its BBRv3; the default is bbr1).
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import stamps
from aiopquic.asyncio import QuicConnectionProtocol, connect, serve
from aiopquic.quic.configuration import QuicConfiguration
from aiopquic.quic.events import QuicEvent, StreamDataReceived

PIECE = 1 << 18


class Sender(QuicConnectionProtocol):
    """Answers a client's first stream with the file."""

    path = ""

    def quic_event_received(self, event: QuicEvent) -> None:
        """Begin when the request is here."""
        if isinstance(event, StreamDataReceived) and event.end_stream:
            self._task = asyncio.ensure_future(self._send(event.stream_id))

    async def _send(self, stream: int) -> None:
        with open(self.path, "rb", buffering=0) as file:
            piece = file.read(PIECE)
            while piece:
                after = file.read(PIECE)
                await self._quic.send_stream_data_drained(stream, piece, end_stream=not after)
                piece = after


class Receiver(QuicConnectionProtocol):
    """Writes what comes to a file."""

    path = ""

    def fetch(self) -> asyncio.Future[None]:
        """Ask for the file; the answer fires when all of it is here."""
        self._file = open(self.path, "wb", buffering=0)  # noqa: SIM115
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._quic.send_stream_data(self._quic.get_next_available_stream_id(), b"get", True)
        return self._ended

    def quic_event_received(self, event: QuicEvent) -> None:
        """Write it."""
        if isinstance(event, StreamDataReceived):
            self._file.write(event.data)
            if event.end_stream and not self._ended.done():
                self._ended.set_result(None)


async def run_server(
    address: str, port: int, path: str, certificate: str, key: str, *control: str
) -> None:
    """Serve until told to stop."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["file"], **named(control))
    configuration.load_cert_chain(certificate, key)
    Sender.path = path
    await serve(address, port, configuration=configuration, create_protocol=Sender)
    await asyncio.Event().wait()


async def run_client(address: str, port: int, path: str, certificate: str, *control: str) -> None:
    """Fetch one file."""
    configuration = QuicConfiguration(
        alpn_protocols=["file"], server_name="bench", cafile=certificate, **named(control)
    )
    Receiver.path = path
    stamps.begin()
    async with connect(
        address, port, configuration=configuration, create_protocol=Receiver
    ) as protocol:
        await protocol.fetch()


def named(control: tuple[str, ...]) -> dict[str, Any]:
    """The congestion control as an argument, if one was named."""
    return {"congestion_control_algorithm": control[0]} if control else {}


if __name__ == "__main__":
    _, what, at, number, *rest = sys.argv
    asyncio.run({"serve": run_server, "get": run_client}[what](at, int(number), *rest))
