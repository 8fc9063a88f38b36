"""What both sides need of the library zeroconf, and of the machine's network."""

from __future__ import annotations

import errno
from typing import Any

__all__ = ["open_zeroconf", "own_networks"]


def open_zeroconf(interface: str) -> Any:
    """A `Zeroconf` with threads of its own, on the network of one address, or on all if that is "".

    Blocks. Raises ImportError, OSError, and what zeroconf raises.
    """
    # It takes a twentieth of a second to load.
    from zeroconf import InterfaceChoice, Zeroconf

    if not interface and not any("." in network for network in own_networks()):
        raise OSError("this machine is on no network")
    try:
        return Zeroconf([interface] if interface else InterfaceChoice.All, use_asyncio=False)
    except OSError as error:
        if interface and error.errno == errno.ENODEV:
            raise OSError(f"this machine has no address {interface}") from error
        raise


def own_networks() -> list[str]:
    """The addresses of this machine with their networks, as 192.0.2.1/24. Raises OSError."""
    import ifaddr

    return [
        f"{address.ip if isinstance(address.ip, str) else address.ip[0]}/{address.network_prefix}"
        for adapter in ifaddr.get_adapters()
        for address in adapter.ips
    ]
