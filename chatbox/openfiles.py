"""As many open files as the server may need: each connection is one, and each download two.

The usual limit of a process is 1024, and usually it may raise that itself. Where it may not,
fewer clients are let in, so that each of them is told why; and the log and the shelf can still open
their files.
"""

# mypy: allow-untyped-calls
# Twisted's Service has no annotations yet.

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.application.service import Service
from twisted.logger import Logger

try:
    import resource
except ImportError:  # not on Windows, which has no such limit
    resource = None  # type: ignore[assignment]

__all__ = ["DOWNLOAD_FILES", "OTHER_FILES", "OpenFiles", "allow_open_files"]

OTHER_FILES: Final = 64
"""What the log, the shelf, the reactor and the interpreter have open, and clients turned away."""

DOWNLOAD_FILES: Final = 2
"""Of each download: the shared file, and the same for the thread that hashes it."""

MANY_FILES: Final = 1 << 20
"""As good as no limit: what the kernel gives to one process by default (``fs.nr_open``)."""

_log = Logger()


class OpenFiles(Service):
    """Raises the limit of open files before anything else starts, as root if we begin as root.

    `connections` is how many clients there may be (0: as many as fit) and `others` how many files
    besides; `limit_to` is told how many clients fit.
    """

    def __init__(self, connections: int, others: int, limit_to: Callable[[int], None]) -> None:
        self._connections = connections
        self._others = others + OTHER_FILES
        self._limit_to = limit_to

    def privilegedStartService(self) -> None:
        """Raise the limit, and say how many clients fit."""
        super().privilegedStartService()
        allowed = allow_open_files(self._others + (self._connections or MANY_FILES))
        fit = max(allowed - self._others, 1)
        if fit < self._connections:
            _log.warn(
                "only {fit} of {connections} clients fit: this process may open no more than"
                " {allowed} files. Raise that with ulimit -n, or LimitNOFILE of systemd.",
                fit=fit,
                connections=self._connections,
                allowed=allowed,
            )
        self._limit_to(fit)


def allow_open_files(wanted: int) -> int:
    """Let this process open so many files, or as many as it may; answer how many that are."""
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError):  # some systems have a lower limit than they say
            return soft
        return most
    return soft
