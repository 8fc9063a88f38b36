"""A file over TCP as well as Python can: sendfile on one side, recv_into on the other; or TLS.

    tcp.py serve ADDRESS PORT FILE CONTROL [CERT KEY]    one file to everybody who connects
    tcp.py get ADDRESS PORT PATH CONTROL [CERT]

CONTROL is cubic, bbr, ... (TCP_CONGESTION). With a certificate it is TLS 1.3, in user space.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
import threading

import stamps

PIECE = 1 << 18


def serve(address: str, port: int, path: str, control: str, tls: list[str]) -> None:
    """Send the file to each that connects, each in a thread of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
    if context:
        context.load_cert_chain(*tls)
    listener = socket.create_server((address, port), backlog=256)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=send, args=(connection, path, context), daemon=True).start()


def send(connection: socket.socket, path: str, context: ssl.SSLContext | None) -> None:
    """Send one file and close."""
    file = os.open(path, os.O_RDONLY)
    try:
        if context:
            with context.wrap_socket(connection, server_side=True) as sealed:
                while piece := os.read(file, PIECE):
                    sealed.sendall(piece)
                sealed.unwrap()
        else:
            with connection:
                offset, size = 0, os.fstat(file).st_size
                while offset < size:
                    offset += os.sendfile(connection.fileno(), file, offset, size - offset)
    except OSError:  # the other side has gone
        pass
    finally:
        os.close(file)


def get(address: str, port: int, path: str, control: str, tls: list[str]) -> None:
    """Fetch the file."""
    context = ssl.create_default_context(cafile=tls[0]) if tls else None
    stamps.begin()
    with socket.socket() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())
        connection.connect((address, port))
        if context:
            with context.wrap_socket(connection, server_hostname="bench") as sealed:
                write(sealed, path)
        else:
            write(connection, path)


def write(connection: socket.socket, path: str) -> None:
    """Write what comes until the other side closes."""
    view = memoryview(bytearray(PIECE))
    with open(path, "wb", buffering=0) as file:
        while length := connection.recv_into(view):
            file.write(view[:length])


if __name__ == "__main__":
    _, what, at, number, name, algorithm, *certificate = sys.argv
    {"serve": serve, "get": get}[what](at, int(number), name, algorithm, certificate)
