"""The worked example of RDT: a file of 13 bytes, from the ticket to the last packet.

`PACKETS` says what the packets mean, `DATAGRAMS` what they are on the wire. `docs/protocol.rst`
shows the same bytes. Three tests hold the three together: one makes the datagrams with our code,
one with nothing but AES-GCM and HKDF, and one finds them in the document.

After a change of the wire, ``python -m tests.helpers.vectors`` prints the new bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final

from chatbox.rdt.ends import End
from chatbox.rdt.packet import (
    DATA_OVERHEAD,
    NO_LIMIT,
    Control,
    Kind,
    Open,
    Phase,
    Status,
    Wish,
    pack_control,
    pack_open,
    pack_status,
)
from chatbox.rdt.seal import TrainSealer, client_keys, seal_packet, server_keys
from chatbox.rdt.ticket import Ticket

FILE: Final = b"hello, world\n"
MTIME_NS: Final = 1_700_000_000_000_000_000
TICKET: Final = Ticket(0xC0FFEE01, bytes(range(32)))
TICKET_TEXT: Final = "wP_uAQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

KEYS: Final = {
    ("client", 0): "0d40309fd78b1dae5ae9133c946982a3",
    ("server", 0): "1d7858e74628b4271d44af34ce41f5d8",
    ("server", 1): "fdf31c0961a79876aa5d574c5fdd92e3",
}
"""The key of a direction and a generation, in hexadecimal."""

CONTROL: Final = Control(
    wish=Wish.RUN,
    end=End.NONE,
    pause_at=NO_LIMIT,
    window_end=64 << 20,
    rate_limit=NO_LIMIT,
    confirmed=0,
    challenge=0,
    ack_delay=0.0,
    ranges=[],
)

STATUS: Final = Status(
    phase=Phase.SENDING,
    end=End.NONE,
    size=len(FILE),
    mtime_ns=MTIME_NS,
    heard=1,
    challenge=0,
    ack_delay=0.01,
    ack_bytes=4800,
    digest=None,
)


@dataclass(frozen=True)
class Data:
    """The body of a DATA packet."""

    offset: int
    data: bytes


@dataclass(frozen=True)
class Example:
    """One packet of the example."""

    name: str
    sender: str
    number: int
    body: Open | Control | Status | Data


PACKETS: Final = [
    Example("open", "client", 0, Open(65000, 0.04, [], CONTROL)),
    Example("status", "server", 0, STATUS),
    Example("data", "server", 1, Data(0, FILE)),
    Example(
        "acknowledgement",
        "client",
        1,
        replace(CONTROL, confirmed=13, ack_delay=0.0005, ranges=[(0, 2)]),
    ),
    # Packet 2 of the server, the STATUS that first said this, was lost.
    Example(
        "sent",
        "server",
        3,
        replace(STATUS, phase=Phase.SENT, heard=2, digest=hashlib.sha256(FILE).digest()),
    ),
    Example(
        "goodbye",
        "client",
        2,
        replace(CONTROL, wish=Wish.END, end=End.DONE, confirmed=13, ranges=[(3, 4), (0, 2)]),
    ),
    Example(
        "ended",
        "server",
        4,
        replace(
            STATUS,
            phase=Phase.ENDED,
            end=End.DONE,
            heard=3,
            digest=hashlib.sha256(FILE).digest(),
        ),
    ),
    Example(
        "farewell",
        "client",
        3,
        replace(CONTROL, wish=Wish.END, end=End.DONE, confirmed=13, ranges=[(3, 5), (0, 2)]),
    ),
    # Not part of the story: the first packet that is sealed with the next key.
    Example("next key", "server", 1 << 22, Data(5_000_000_000, b"!")),
]

BODIES: Final = {
    "open": (
        "0000fde800009c4000000100ffffffffffffffff0000000004000000ffffffff"
        "ffffffff00000000000000000000000000000000000000000000000000000000"
        "0000"
    ),
    "status": (
        "0100000000000000000d17979cfe362a00000000000000000001000000000000"
        "000000002710000012c000000000000000000000000000000000000000000000"
        "0000000000000000000000"
    ),
    "acknowledgement": (
        "0100ffffffffffffffff0000000004000000ffffffffffffffff000000000000"
        "000d0000000000000000000001f4000000000000000200010000000000000002"
    ),
    "goodbye": (
        "0301ffffffffffffffff0000000004000000ffffffffffffffff000000000000"
        "000d000000000000000000000000000000000000000400020000000000000001"
        "0000000100000002"
    ),
}
"""Some bodies before they are sealed, in hexadecimal."""

DATAGRAMS: Final = {
    "open": (
        "11c0ffee010000000000000000a29a66c55b63ec2308b7d2b4be2742979ec456"
        "4f7a899c5a95b2b5c83fd5871a2d476376eb87571ba6ffaa8f34229ae35c42a0"
        "9b5afcffa6328cdc7543a75deb815ca511d72247a6a19da952f5c1ea1df962"
    ),
    "status": (
        "14c0ffee010000000000000000e727b3ba6571aa6143d1a2786e37ac67c80eec"
        "edfde5840d39ec9f7b54d5f768c846d321e238234a4e3bc2efd77cdbbccae7c5"
        "7fc183f89d4a9c5427fc80b327de3bf0fea63e342b98dc7c0078022d1441459a"
        "2af148fbcf889ab4"
    ),
    "data": (
        "13c0ffee010000000000000001000000000000000058a99a52dd65c6e2465f58"
        "279b668e6b3691a95d054ef304ddd5060603"
    ),
    "acknowledgement": (
        "12c0ffee0100000000000000013b289e2d449448a79256d26b3310c7653f0f9e"
        "02ee27a925e336d3d936d2c5d1d56a4e73ee7a1c8988b605e8be86f6329073d2"
        "694b88fd4f5672224be8b0d97789b6039f784ac28437916ff1db2b673f"
    ),
    "sent": (
        "14c0ffee01000000000000000324035374dcba32fe2805ac8abbc971fde75177"
        "6e8c96b1554f077e981ef8bfd1c52b784f5d86a59dc5eea52d46b66951826c76"
        "8d2db9a36fa722a34269ef0634b4cb819e84319a28d01a066478c62cee49c73a"
        "59ada19aa96a54fb"
    ),
    "goodbye": (
        "12c0ffee010000000000000002f3bab045cd9a1d2ace23f416f7f0e0cda52163"
        "c776f122a3f1b1f1abdced76e3be67d4b5cad1b164ee35acdcdb7b18510b4248"
        "c0b66ff02ca9097697282cb6ae86206b577d45f9ca16ffd2b0d3277a1556b547"
        "03a4bd4769"
    ),
    "ended": (
        "14c0ffee010000000000000004e12873275b1eb3d464430ecd6ad482043ce46f"
        "2d128e3dc541887e59c1e4c9b373113f44549c98be8feaf3b385b338cd23378f"
        "6233e0cb831c753bad739bc30652811a16885bdff30e1ab9571e6ab3fc39e495"
        "b0dde89ad0092212"
    ),
    "farewell": (
        "12c0ffee010000000000000003f0a80993d1d536641abaac8eacb7a5634c8fdc"
        "159bb1d8c11fd9a4995036d0b17b4787a05ff272ad130a7d1986a2614979ee43"
        "ae885de5c29721858d6d14a0cafc8973dcf34c1b81dcb788bf3390a5411e2282"
        "31e5991506"
    ),
    "next key": ("13c0ffee010000000000400000000000012a05f200e9099d0577abda4f7ecb6429956cf47681"),
}
"""Each packet as it travels, in hexadecimal."""


def kind_of(example: Example) -> Kind:
    """What sort of packet it is."""
    kinds = {Open: Kind.OPEN, Control: Kind.CONTROL, Status: Kind.STATUS, Data: Kind.DATA}
    return kinds[type(example.body)]


def pack(body: Open | Control | Status | Data) -> bytes:
    """The bytes that are sealed, made by our code."""
    match body:
        case Open():
            return pack_open(body)
        case Control():
            return pack_control(body)
        case Status():
            return pack_status(body)
        case Data():
            return body.data


def seal(example: Example) -> bytes:
    """The datagram, made by our code."""
    keys = (client_keys if example.sender == "client" else server_keys)(TICKET.secret)
    number, body = example.number, example.body
    if not isinstance(body, Data):
        return seal_packet(keys, kind_of(example), TICKET.connection_id, number, pack(body))
    sealer = TrainSealer()
    length = len(body.data)
    sealer.block(length)[:] = body.data
    size = length + DATA_OVERHEAD
    train = sealer.seal(keys, TICKET.connection_id, number, body.offset, length, size)
    return bytes(train.data)


def main() -> None:
    """Print the bytes as they are now."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    print(f"ticket  {TICKET}")
    for sender, generation in KEYS:
        info = sender.encode() + generation.to_bytes(8, "big")
        key = HKDF(SHA256(), 16, b"chatbox rdt 1", info).derive(TICKET.secret)
        print(f"key  {sender} {generation}  {key.hex()}")
    for example in PACKETS:
        if example.name in BODIES:
            print(f"body  {example.name}  {pack(example.body).hex()}")
        print(f"datagram  {example.name}  {seal(example).hex()}")


if __name__ == "__main__":
    main()
