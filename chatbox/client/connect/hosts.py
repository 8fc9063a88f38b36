"""What people call a server, and the endpoint that is meant by it."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final

from twisted.internet.endpoints import HostnameEndpoint, TCP6ClientEndpoint, clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint

from chatbox.client.connect.access import PLAIN, Access, meet_new_server
from chatbox.client.exits import Exit, Stop
from chatbox.descriptions import DEFAULT_PORT, DEFAULT_TLS_PORT
from chatbox.text import printable

__all__ = ["endpoint_for", "split_host", "target_of"]

CONNECT_TIMEOUT: Final = 20.0
"""Seconds for name, route and handshake: a server on the far side of the world answers in one."""


def split_host(text: str, usual_port: int = DEFAULT_PORT) -> tuple[str, int] | None:
    """Read ``host``, ``host:port``, an IPv6 address, or one in brackets with or without a port.

    None if it is none of these, so that it may be an endpoint string such as ``tls:host:port``.
    Raises Stop if the port is not one.
    """
    found = re.fullmatch(r"\[([^\[\]]+)\](?::(.*))?|([^:\[\]/]+)(?::(\d*))?", text)
    if found is None:
        try:
            ipaddress.IPv6Address(text)
        except ValueError:
            return None
        return text, usual_port
    bracketed, bracketed_port, plain, plain_port = found.groups()
    port = bracketed_port if bracketed else plain_port
    if port is None:
        return bracketed or plain, usual_port
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65535):
        raise Stop(Exit.USAGE, f"{printable(text)}: a port is a number from 1 to 65535.")
    return bracketed or plain, int(port)


# The endpoint string of a TLS server with nothing but its place: the usual way to write one.
_match_tls: Final = re.compile(
    r"tls:(?:host=)?((?:\\.|[^\\:=])+):(?:port=)?(\d{1,5})", re.DOTALL
).fullmatch


def target_of(text: str, access: Access = PLAIN) -> tuple[str, int] | None:
    """The host and the TCP port that a person means by `text`; None if it has none. Raises Stop."""
    tls = _match_tls(text)
    if tls is not None:
        return re.sub(r"\\(.)", r"\1", tls[1]), int(tls[2])
    return split_host(text, DEFAULT_TLS_PORT if access.tls else DEFAULT_PORT)


def endpoint_for(
    reactor: Any, text: str, access: Access = PLAIN
) -> tuple[IStreamClientEndpoint, str]:
    """The endpoint that a person means by `text`, and what to call it in a sentence."""
    host_and_port = target_of(text, access)
    secure = host_and_port is not None and (access.tls or _match_tls(text) is not None)
    if access.fingerprint is not None and not secure:
        raise Stop(
            Exit.USAGE,
            f"{printable(text)}: a fingerprint is for TLS. Add --tls, or write tls:host:port.",
        )
    if host_and_port is not None:
        host, port = host_and_port
        place = f"{printable(host)}, TCP port {port}"
        if not secure and "%" in host:  # HostnameEndpoint would forget which link it is on
            return TCP6ClientEndpoint(reactor, host, port, timeout=CONNECT_TIMEOUT), place
        if not secure:
            return HostnameEndpoint(reactor, host, port, timeout=CONNECT_TIMEOUT), place
        # The cryptography is loaded when it is needed.
        from chatbox.client.connect.secure import SecureEndpoint

        meet = access.meet or meet_new_server
        endpoint: IStreamClientEndpoint = SecureEndpoint(
            reactor, host, port, access.trust, meet, timeout=CONNECT_TIMEOUT
        )
        return endpoint, place
    if access.tls:
        raise Stop(Exit.USAGE, f"{printable(text)}: TLS goes with a host or with host:port.")
    try:
        endpoint = clientFromString(reactor, text)
        return endpoint, printable(text)
    except (ValueError, TypeError, OSError) as problem:
        # What is missing, too much, or no number, Python says in words of the code; and what stands
        # before a colon is, for Twisted, always the type of an endpoint.
        said = str(problem)
        of_code = said.startswith(("Unknown endpoint type", "invalid literal"))
        why = "" if of_code or isinstance(problem, TypeError) else f" ({said})"
        raise Stop(
            Exit.USAGE,
            f"{printable(text)} is not a server's address{why}. Give a host, host:port,"
            " [IPv6]:port, or an endpoint such as tls:host:port.",
        ) from None
