"""Sockets that speak TLS and behave like sockets that do not."""

from __future__ import annotations

import socket
import ssl
from typing import Any


class _Secure(ssl.SSLSocket):
    """Without blocking, it has nothing to read or no room as any socket has."""

    def recv(self, *arguments: Any) -> bytes:
        try:
            return super().recv(*arguments)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def send(self, *arguments: Any) -> int:
        try:
            return super().send(*arguments)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLError:  # once there was no room, OpenSSL takes nothing but the same again
            self.close()
            raise


def secure(plain: socket.socket) -> socket.socket:
    """Shake hands with whoever is there, in the time that the socket has for it. Raises OSError."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.sslsocket_class = _Secure
    try:
        return context.wrap_socket(plain)
    except OSError:
        plain.close()
        raise
