"""Small UDP programs with which link.py checks the emulated link.

probe.py echo PORT                          answer every datagram
probe.py ping HOST PORT                     print the median round trip of 50, in seconds
probe.py sink PORT                          on SIGTERM, print the bit/s received
probe.py blast HOST PORT RATE SECONDS MTU   send at RATE bit/s of IP packets
"""

from __future__ import annotations

import signal
import socket
import statistics
import sys
import time

HEADERS = 28  # IPv4 and UDP
WINDOW = 0.05  # seconds


def echo(port: int) -> None:
    """Send back what comes, until told to stop."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", port))
    while True:
        data, peer = sock.recvfrom(65536)
        sock.sendto(data, peer)


def ping(host: str, port: int) -> None:
    """Fifty small datagrams, one after the other; those that get lost do not count."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(1)
    times = []
    for serial in range(50):
        start = time.perf_counter()
        sock.sendto(serial.to_bytes(2, "big"), (host, port))
        try:
            while int.from_bytes(sock.recv(100), "big") != serial:
                pass
        except TimeoutError:
            continue
        times.append(time.perf_counter() - start)
        time.sleep(0.002)
    print(statistics.median(times))


def sink(port: int) -> None:
    """Print the median rate of all windows of 50 ms but the first and last ten.

    The median, because a virtual machine's processors are taken away for milliseconds at a time.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("", port))
    windows: dict[int, int] = {}

    def tell(*_unused: object) -> None:
        steady = [windows[key] for key in sorted(windows)][10:-10]
        print(statistics.median(steady) * 8 / WINDOW if steady else 0.0)
        raise SystemExit

    signal.signal(signal.SIGTERM, tell)
    buffer = bytearray(65536)
    while True:
        length = sock.recv_into(buffer)
        window = int(time.perf_counter() / WINDOW)
        windows[window] = windows.get(window, 0) + length + HEADERS


def blast(host: str, port: int, rate: float, seconds: float, mtu: int) -> None:
    """Send full packets evenly; what is late by more than a millisecond is left out."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((host, port))
    payload = bytes(mtu - HEADERS)
    step = mtu * 8 / rate
    due = time.perf_counter()
    end = due + seconds
    while due < end:
        sock.send(payload)
        now = time.perf_counter()
        due = max(due + step, now - 0.001)
        if due - now > 0.0005:
            time.sleep(due - now)


def main(what: str, words: list[str]) -> None:
    """Do what the first word says."""
    if what == "echo":
        echo(int(words[0]))
    elif what == "ping":
        ping(words[0], int(words[1]))
    elif what == "sink":
        sink(int(words[0]))
    elif what == "blast":
        blast(words[0], int(words[1]), float(words[2]), float(words[3]), int(words[4]))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
