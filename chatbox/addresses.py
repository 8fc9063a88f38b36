"""Addresses of peers, as sockets and proxies write them."""

from __future__ import annotations

import ipaddress

__all__ = ["canonical", "is_network", "network_of", "read_address"]


def network_of(host: str) -> str:
    """What counts as one address: an address of IPv4, or a network /64 of IPv6.

    Whoever has one address of IPv6 has all of its network (RFC 6177).
    """
    address = read_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return canonical(host)


def canonical(host: str) -> str:
    """One text for one host, however its address was written. What is no address stays as it is."""
    address = read_address(host)
    return host if address is None else str(address)


def is_network(text: str) -> bool:
    """Whether this is an address, or a network of them such as ``192.0.2.0/24``."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def read_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address; one of IPv4 may come in the clothes of IPv6 (RFC 4291 section 2.5.5.2)."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
